#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "proto/digest.h"

namespace kiln::client {

// A docker archive (`docker save`) of one image on disk, as far as it is needed for sending less
// than all of it. Immutable.
class ImageArchive {
 public:
  // A part of the file, in bytes.
  struct Range {
    int64_t offset = 0, size = 0;
  };

  // Reads the headers, manifest.json and the image's config; `fd` is only used here. Errors for
  // what is not one image in plain ustar entries. Blocks on disk.
  static absl::StatusOr<ImageArchive> Read(int fd);

  // What the image's layers unpack to, lowest first, and the files that they are.
  const std::vector<Digest>& diff_ids() const { return diff_ids_; }
  const std::vector<std::string>& layers() const { return layers_; }
  // The files that are layers among the lowest `count` only.
  std::set<std::string> LowestLayers(size_t count) const;

  // The archive but for some files.
  std::vector<Range> Without(const std::set<std::string>& paths) const;

 private:
  struct Entry {
    std::string path;
    int64_t begin = 0, bytes = 0, size = 0;  // header, content; in all with padding
  };
  absl::StatusOr<std::string> Content(int fd, const std::string& path) const;

  std::vector<Entry> entries_;
  int64_t end_ = 0;  // of the last entry; what follows is padding
  std::vector<Digest> diff_ids_;
  std::vector<std::string> layers_;  // paths
};

// How many of the lowest layers two images have in common.
size_t CommonLayers(absl::Span<const Digest> a, absl::Span<const Digest> b);

}  // namespace kiln::client
