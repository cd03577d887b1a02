#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "proto/digest.h"
#include "store/base/fd.h"
#include "store/base/mutex.h"
#include "store/database.h"
#include "store/root.h"

namespace kiln::store {

class BlobStore;

// What is known of a blob before its bytes are there.
struct BlobWant {
  std::optional<Digest> digest;       // nullopt: whatever comes
  std::optional<int64_t> size_bytes;  // nullopt: unknown
};

// Takes the bytes of one blob. Destroying it before Commit discards them. Not thread-safe; blocks
// on disk. Must not outlive its store.
class BlobWriter {
 public:
  ~BlobWriter();
  BlobWriter(const BlobWriter&) = delete;
  BlobWriter& operator=(const BlobWriter&) = delete;

  // kResourceExhausted: the disk is full or the store's quota is reached; kDataLoss: more bytes
  // than were announced.
  absl::Status Append(absl::string_view bytes);
  int64_t size_bytes() const { return size_bytes_; }

  // Verifies and publishes; the blob is held by the lease from then on. kDataLoss when the bytes
  // are not those that were wanted. The writer is dead afterwards.
  absl::StatusOr<Digest> Commit();

 private:
  friend class BlobStore;
  BlobWriter(BlobStore* store, BlobWant want, std::string lease, std::string path, Fd file);

  BlobStore* const store_;
  const BlobWant want_;
  const std::string lease_;
  std::string path_;  // of the temporary file; empty once published
  Fd file_;
  Sha256 hash_;
  int64_t size_bytes_ = 0;
};

struct BlobStoreOptions {
  int64_t quota_bytes = 0;  // of all blobs together, those being written included; 0: no limit
};

// BlobStore holds immutable, content-addressed bytes: layers, manifests, http bodies.
//
// Invariants: a digest is visible only after its bytes were verified; a blob lives for as long as
// some lease holds it, and goes with the last one. Power loss: DESIGN.md, Crash rule.
// Lifetime: outlives its writers. Thread-safe. Every method may block on disk.
class BlobStore {
 public:
  // Drops what a power loss made doubtful. `root` and `database` outlive the store.
  static absl::StatusOr<std::unique_ptr<BlobStore>> Open(Root* root, Database* database,
                                                         const BlobStoreOptions& options);

  // Size in bytes. kNotFound if absent; kDataLoss if index and file disagree.
  absl::StatusOr<int64_t> Size(const Digest& digest);
  // The blob's file, read-only. Stays readable after the blob was removed.
  absl::StatusOr<Fd> OpenBlob(const Digest& digest);
  // Reads up to out.size() bytes at `offset`; returns bytes read, 0 only at the end of the blob.
  absl::StatusOr<size_t> ReadAt(const Digest& digest, int64_t offset, absl::Span<char> out);

  // Starts an ingest held by `lease` (any name that is not empty; it comes to be with its first
  // blob). kAlreadyExists: the wanted digest is there, and held by `lease` now, too.
  absl::StatusOr<std::unique_ptr<BlobWriter>> Ingest(const BlobWant& want, absl::string_view lease);

  // kNotFound when the blob is absent. Idempotent.
  absl::Status Hold(absl::string_view lease, const Digest& digest);
  // Ends the lease; blobs that no other one holds are removed. OK when unknown.
  absl::Status DropLease(absl::string_view lease);
  // Names of leases that start with `prefix`, sorted.
  absl::StatusOr<std::vector<std::string>> Leases(absl::string_view prefix);
  // Blobs that the lease holds, sorted.
  absl::StatusOr<std::vector<Digest>> Held(absl::string_view lease);

  // Every blob with its size, by digest.
  absl::StatusOr<std::vector<std::pair<Digest, int64_t>>> List() const;
  // Whether some lease whose name does not start with `prefix` holds the blob.
  absl::StatusOr<bool> HeldOutside(const Digest& digest, absl::string_view prefix) const;
  // Bytes of all blobs and of those being written.
  int64_t UsedBytes() const;

  // Removes files that the index does not name, as a kill may leave them. Reads the whole folder:
  // call it off the path of a start. Returns the number of files removed.
  absl::StatusOr<int64_t> SweepFiles();

 private:
  friend class BlobWriter;
  BlobStore(Root* root, Database* database, const BlobStoreOptions& options);

  std::string PathOf(const Digest& digest) const;
  absl::StatusOr<std::optional<int64_t>> Stored(const Digest& digest) const;
  absl::Status Load();
  absl::Status RemoveAll(const std::vector<Digest>& blobs, Batch batch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_mu_);
  absl::StatusOr<std::vector<std::string>> Holders(const Digest& digest) const;
  absl::Status Publish(const Digest& digest, int64_t size_bytes, const std::string& path,
                       const std::string& lease);
  absl::Status Reserve(int64_t bytes);
  void Unreserve(int64_t bytes);

  Root* const root_;
  Database* const database_;
  const BlobStoreOptions options_;
  const std::string folder_;  // blobs/sha256

  Mutex change_mu_;  // held from the first read to the end of a change, its I/O included
  mutable Mutex mu_;
  int64_t used_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t next_file_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace kiln::store
