#pragma once

#include <deque>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/base/mutex.h"
#include "store/layer/byte_stream.h"

namespace kiln::store {

// Carries bytes from one thread that pushes to another that pulls. Holds a few pieces at most, so
// each side waits for the other. Each end belongs to one thread.
class BytePipe final : public ByteStream {
 public:
  // The pushing end. Write returns what CloseReader was given when nobody reads any more; after
  // CloseWriter the reader sees the end, or the error.
  absl::Status Write(absl::string_view bytes);
  void CloseWriter(absl::Status status);

  // The pulling end.
  absl::StatusOr<absl::string_view> Next() override;
  void CloseReader(absl::Status why);

 private:
  Mutex mu_;
  CondVar changed_;
  std::deque<std::string> pieces_ ABSL_GUARDED_BY(mu_);
  bool written_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status end_ ABSL_GUARDED_BY(mu_);
  bool unread_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status why_ ABSL_GUARDED_BY(mu_);
  std::string now_;  // of the reader
};

}  // namespace kiln::store
