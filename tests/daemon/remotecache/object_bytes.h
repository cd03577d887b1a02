#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "daemon/remotecache/cache_objects.h"
#include "proto/digest.h"

namespace kiln::daemon {

inline CacheObject ObjectOf(const std::string& bytes) {
  return {Digest::Of(bytes), static_cast<int64_t>(bytes.size()),
          [bytes](int64_t offset, char* out, size_t size) -> absl::StatusOr<size_t> {
            return bytes.copy(out, size, static_cast<size_t>(offset));
          }};
}

// The whole blob.
inline absl::StatusOr<std::string> ReadBlob(CacheObjects& objects, const Digest& digest) {
  std::string out;
  const absl::Status status = objects.GetBlob(digest, {}, [&](absl::string_view data) {
    out.append(data.data(), data.size());
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return out;
}

}  // namespace kiln::daemon
