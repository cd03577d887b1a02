#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/exporter/image_writer.h"
#include "store/blob_store.h"
#include "store/fsutil/file_source.h"

namespace kiln::daemon {

// What an image archive says beside its blobs.
struct ArchiveNames {
  ManifestEntry root;              // with the annotations that index.json is to have
  std::vector<std::string> names;  // in full; none: one entry without a name
  bool docker = false;             // write manifest.json as well
};

// An OCI image layout as a tree of files, sorted by name: every blob once, index.json, oci-layout
// and for docker manifest.json (images-and-cache.md 3.4). All blobs must be stored.
class ArchiveSource : public fsutil::FileSource {
 public:
  // kInvalidArgument for docker when `image` is an index. `blobs` outlives it. Blocks.
  static absl::StatusOr<std::unique_ptr<ArchiveSource>> Create(store::BlobStore* blobs,
                                                               const WrittenImage& image,
                                                               const ArchiveNames& names);

  absl::Status Walk(const std::function<absl::Status(fsutil::Stat* stat)>& visit) override;
  absl::StatusOr<Fd> Open(const std::string& path) override;

 private:
  struct File {
    uint32_t mode;
    int64_t size;
    std::string bytes;             // of files that are no blobs
    std::optional<Digest> digest;  // of blobs
  };
  explicit ArchiveSource(store::BlobStore* blobs) : blobs_(blobs) {}
  absl::Status AddBlob(const Digest& digest);
  void AddFile(const std::string& name, uint32_t mode, std::string bytes);

  store::BlobStore* const blobs_;
  std::map<std::string, File> files_;  // directories, too
};

// index.json of a layout: an entry for each name, compact.
std::string LayoutIndex(const ArchiveNames& names);

}  // namespace kiln::daemon
