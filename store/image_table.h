#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/digest.h"
#include "store/base/mutex.h"
#include "store/blob_store.h"
#include "store/database.h"
#include "store/layer/descriptor.h"

namespace kiln::store {

// One image that is kept by name.
struct NamedImage {
  // A layer that was not stored when the image was named: where its bytes can be had.
  struct RemoteLayer {
    Descriptor descriptor;  // type, digest and size; no annotations
    Digest diff_id;
    std::string origin;  // as LayerBlob::origin
  };

  std::string name;  // in full, "docker.io/library/app:latest"
  Descriptor root;   // of the manifest or index
  absl::Time created_at = absl::InfinitePast();
  std::vector<RemoteLayer> remote_layers = {};
};

// The names that this store's user gave to images. A name holds every blob of its image, so nothing
// else may remove them.
//
// Thread-safe; every method may block on disk.
class ImageTable {
 public:
  static constexpr char kLeasePrefix[] = "image:";  // of its leases in the blob store

  // Drops holds that a killed process left without a name. Both outlive the table.
  static absl::StatusOr<std::unique_ptr<ImageTable>> Open(Database* database, BlobStore* blobs);

  // Names an image; a name that exists moves. `blobs` are what it consists of, all stored.
  // kNotFound when one is not; then nothing has changed.
  absl::Status Put(const NamedImage& image, const std::vector<Digest>& blobs);
  // One more name for the image of another. kNotFound when there is none.
  absl::Status Tag(absl::string_view source, absl::string_view target, absl::Time now);
  // kNotFound `no image "X"`.
  absl::StatusOr<NamedImage> Get(absl::string_view name) const;
  absl::StatusOr<std::vector<NamedImage>> List() const;  // by name
  // kNotFound `no image "X"`. Blobs that nothing else holds go.
  absl::Status Remove(absl::string_view name);

  // Blobs that the image consists of and that are stored.
  absl::StatusOr<std::vector<Digest>> BlobsOf(const NamedImage& image) const;

 private:
  ImageTable(Database* database, BlobStore* blobs) : database_(database), blobs_(blobs) {}
  absl::Status SweepLeases();
  absl::Status PutLocked(const NamedImage& image, const std::vector<Digest>& blobs)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_mu_);

  Database* const database_;
  BlobStore* const blobs_;
  Mutex change_mu_;  // held from the first read to the end of a change, its I/O included
};

}  // namespace kiln::store
