#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "proto/digest.h"

namespace kiln::store {

// Takes note of file digests while a layer is written, so that nothing is read a second time.
// `path` is the clean path inside the tree. Several threads may use it,
// for different files.
class ChecksumRecorder {
 public:
  virtual ~ChecksumRecorder() = default;

  // The digest (file_digest.h) of what the layer now has at `path`.
  virtual void Recorded(absl::string_view path, const Digest& digest) = 0;
  // Something at `path` changed; what is known of it and of the directories above is void.
  virtual void Changed(absl::string_view path) = 0;
  // `path` and everything below it went away.
  virtual void Removed(absl::string_view path) = 0;
  // The digest known of a file of another layer; nullopt when it was never needed there.
  virtual std::optional<Digest> Known(const std::string& layer_dir, absl::string_view path) = 0;
};

}  // namespace kiln::store
