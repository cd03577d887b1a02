#pragma once

#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::store {

// Bytes that are pulled piece by piece. Not thread-safe; may block.
class ByteStream {
 public:
  virtual ~ByteStream() = default;
  // The next piece, of any size; it lives until the next call. Empty at the end, and ever after.
  virtual absl::StatusOr<absl::string_view> Next() = 0;
};

// Takes bytes that are pushed piece by piece; an error ends the work and is its result.
using ByteSink = std::function<absl::Status(absl::string_view)>;

}  // namespace kiln::store
