#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace kiln::daemon {

// Request headers of a call to a client, checked before gRPC sees them: a byte outside printable
// ASCII in a value makes libgrpc abort the process, and past 1 MiB of headers Go's HTTP/2 server
// drops the whole session connection. Not thread-safe.
class CallMetadata {
 public:
  // `value` as it is; kInvalidArgument names the key when a byte is not printable ASCII.
  absl::Status Add(absl::string_view key, absl::string_view value);

  // All values of one key. When one of them is not plain, all are URL-query-escaped and
  // "<key>-encoded: 1" is added (wire.md 3.1).
  absl::Status AddEncoded(absl::string_view key, const std::vector<std::string>& values);

  // kInvalidArgument when the headers together are more than a client accepts; `what` says what
  // they hold.
  absl::Status CheckSize(absl::string_view what) const;

  const std::vector<std::pair<std::string, std::string>>& entries() const { return entries_; }

 private:
  std::vector<std::pair<std::string, std::string>> entries_;
  size_t bytes_ = 0;  // as HTTP/2 counts a header list: names, values, 32 for each
};

}  // namespace kiln::daemon
