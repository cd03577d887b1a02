#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/digest.h"
#include "store/blob_store.h"

namespace kiln::daemon {

// Holds the blobs of one export until it is dropped. What a killed daemon leaves is swept by the
// next start (SweepExportLeases). Thread-safe.
class BlobLease {
 public:
  // `blobs` outlives it.
  explicit BlobLease(store::BlobStore* blobs);
  ~BlobLease();
  BlobLease(const BlobLease&) = delete;
  BlobLease& operator=(const BlobLease&) = delete;

  const std::string& name() const { return name_; }
  store::BlobStore& blobs() const { return *blobs_; }

  // Stores small bytes. Blocks.
  absl::StatusOr<Digest> Put(absl::string_view bytes);
  // kNotFound when the blob is not there.
  absl::Status Hold(const Digest& digest) { return blobs_->Hold(name_, digest); }

 private:
  store::BlobStore* const blobs_;
  const std::string name_;
};

// Drops the leases of exports of earlier runs. To be called before the first export.
absl::Status SweepExportLeases(store::BlobStore& blobs);

// The bytes of a small blob: a manifest or config. kResourceExhausted above 16 MiB.
absl::StatusOr<std::string> ReadSmallBlob(store::BlobStore& blobs, const Digest& digest);

}  // namespace kiln::daemon
