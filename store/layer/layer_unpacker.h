#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/base/cancel.h"
#include "store/checksum_recorder.h"
#include "store/layer/byte_stream.h"
#include "store/layer/layer_directory.h"
#include "store/layer/tar_entry.h"
#include "store/layer/tar_reader.h"
#include "store/tree.h"

namespace kiln::store {

// How much one layer may bring (images-and-cache.md 1.11): a small blob can unpack to anything.
struct UnpackLimits {
  int64_t max_bytes = INT64_MAX;  // of all files together, holes included
  int64_t max_entries = 10'000'000;
  size_t max_path_bytes = 4096;
};

struct UnpackOptions {
  // What the layer removes from those below is left as whiteouts and opaque marks. Else the
  // directory holds the whole tree below already, and things are removed from it.
  bool overlay_form = true;
  // Told the digests of files as they are written; may be null.
  ChecksumRecorder* recorder = nullptr;
  UnpackLimits limits = {};
  // Waits for the layers below. Needed in overlay form only, for a hard link to a file of theirs.
  std::function<absl::StatusOr<Layers>()> lower = {};
  CancelToken cancel = {};
};

// Unpacks the tar of one image layer into a directory, by the rules of images-and-cache.md 2.1
// (those of containerd's archive package). Nothing outside is touched, whatever the archive says.
// A failed unpacking leaves a part of the files: the caller removes the directory.
//
// Two steps, so that the layers of an image can be unpacked side by side. Not thread-safe.
class LayerUnpacker {
 public:
  // `directory` exists and nobody else writes there.
  static absl::StatusOr<std::unique_ptr<LayerUnpacker>> Create(const std::string& directory,
                                                               UnpackOptions options);

  // Reads `tar` to its end. Errors name the entry: kInvalidArgument and kDataLoss for bad archives,
  // kResourceExhausted for a full disk or a limit.
  absl::Status Unpack(ByteStream& tar);

  // The rest, when the layers below are there: attributes of directories that the archive only
  // implies, whiteouts of what does not exist, times of directories.
  absl::Status Settle(const Layers& lower);

  // True: a later entry changed a file whose digest was recorded; no recorded one counts.
  bool checksums_doubtful() const { return checksums_doubtful_; }
  int64_t entries() const { return entries_; }
  int64_t bytes() const { return bytes_; }

 private:
  using Parent = LayerDirectory::Parent;

  LayerUnpacker(LayerDirectory directory, UnpackOptions options)
      : directory_(std::move(directory)), options_(std::move(options)) {}

  absl::Status Count(const TarEntry& entry, const std::string& path);
  absl::Status UnpackEntry(const TarEntry& entry, TarReader& tar);
  // The directory around `path`, made where it is missing.
  absl::StatusOr<Parent> MakeParent(const std::string& path);
  void NoteUnpacked(std::string path);
  absl::Status UnpackRoot(const TarEntry& entry);
  absl::Status RemoveLower(const Parent& parent, const std::string& name);
  absl::Status MakeOpaque(const Parent& parent);
  absl::Status RemoveOlder(const std::string& path);
  absl::Status MakeFile(const TarEntry& entry, const Parent& parent, const std::string& name,
                        TarReader& tar);
  absl::Status MakeDirectory(const TarEntry& entry, const Parent& parent, const std::string& name);
  absl::Status MakeNode(const TarEntry& entry, const Parent& parent, const std::string& name);
  absl::Status MakeHardlink(const TarEntry& entry, const std::string& path);
  // Returns the real path of the copy.
  absl::StatusOr<std::string> CopyUp(const std::string& path);
  absl::Status WriteContent(const TarEntry& entry, int fd, TarReader& tar,
                            const std::function<void(absl::string_view)>& seen);
  // Makes the name free. True when something was there.
  absl::StatusOr<bool> Clear(const Parent& parent, const std::string& name);
  absl::Status SetMetadata(const TarEntry& entry, const Parent& parent, const std::string& name,
                           bool* exact);
  absl::Status SetXattrsOf(const TarEntry& entry, const std::string& path, bool* exact);

  LayerDirectory directory_;
  const UnpackOptions options_;
  int64_t entries_ = 0;
  int64_t bytes_ = 0;
  bool checksums_doubtful_ = false;
  bool root_opaque_ = false;
  absl::flat_hash_set<std::string> whiteouts_;  // overlay form: those left so far, and older ones
  absl::flat_hash_set<std::string> unpacked_;   // whole trees: what this layer has brought
};

}  // namespace kiln::store
