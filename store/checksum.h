#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/digest.h"
#include "store/base/cancel.h"
#include "store/base/mutex.h"
#include "store/checksum_recorder.h"
#include "store/checksum_table.h"
#include "store/ref_store.h"
#include "store/tree.h"

namespace kiln::store {

// Takes note of the files of one layer while it is written. What is kept of the layer is removed
// when the recorder is made and written by Commit: in between a crash leaves no stale digests.
class LayerRecorder final : public ChecksumRecorder {
 public:
  void Recorded(absl::string_view path, const Digest& digest) override;
  void Changed(absl::string_view path) override;
  void Removed(absl::string_view path) override;
  std::optional<Digest> Known(const std::string& layer_dir, absl::string_view path) override;

  // The root of a tree synchronised from a client: BuildKit gives it the digest of nothing as
  // header, since the client does not send the root's metadata.
  void UseSynchronizedRoot();
  // Something else wrote into the layer (a process through a mount): nothing recorded counts.
  void Invalidate();
  // The layer is finished: saves what was recorded.
  absl::Status Commit();
  // The same; what fits into a row is written with `batch`.
  absl::Status CommitWith(Batch* batch);

 private:
  friend class ChecksumStore;
  LayerRecorder(class ChecksumStore* store, std::shared_ptr<ChecksumTable> table)
      : store_(store), table_(std::move(table)) {}

  ChecksumStore* const store_;
  const std::shared_ptr<ChecksumTable> table_;
};

// ChecksumStore computes and remembers BuildKit's content checksums of stacked trees.
//
// A file's digest belongs to the layer that holds the file, a directory's to the topmost layer that
// has the directory together with the layers below it; both are kept in a row of the database when
// they are few, else in a file beside the layer (FileFor), and survive restarts. So a tree inherits
// everything its lower layers know, whatever lies on top elsewhere. Only what a request needs is
// read, each file once however many ask.
//
// Cost of a request: one directory listing for each directory that is not known yet, the bytes of
// files not known yet, O(log entries) for every known digest; O(path components) when the selected
// directory is known. Layers must be immutable while they are asked about.
//
// Thread-safe. Blocks.
class ChecksumStore {
 public:
  // Digests kept in memory beyond what is in use, over all layers; about 100 bytes each.
  // `database` outlives the store; null: everything is kept in files.
  explicit ChecksumStore(size_t max_cached_digests = 1 << 20, Database* database = nullptr);
  ~ChecksumStore();

  // The checksum of `path` in the tree (BuildKit's contenthash). kNotFound `"P": not found`; the
  // digest of nothing for the root of an empty tree.
  absl::StatusOr<Digest> Checksum(const Layers& layers, absl::string_view path,
                                  const ChecksumOptions& options, const CancelToken& cancel);

  // What the same request was answered before, if that is still in memory: nullopt says nothing.
  // Neither reads nor waits. O(layers).
  std::optional<Digest> Known(const Layers& layers, absl::string_view path,
                              const ChecksumOptions& options);

  enum class LayerState {
    kKnown,      // what is known of the layer stays known
    kNew,        // an empty directory whose name was never used before
    kNewUnowned  // the same, and it may get another name or vanish: a row would be left behind
  };
  // Starts taking note of a layer that is about to be written.
  absl::StatusOr<std::unique_ptr<LayerRecorder>> Record(const std::string& layer_dir,
                                                        LayerState state = LayerState::kKnown);

  // The layer is gone: drops it from memory. Its file goes with the directory around it.
  void Forget(const std::string& layer_dir);
  // Its row goes with `batch`.
  static void EraseRow(const std::string& layer_dir, Batch* batch);

  // Where the digests of a layer are kept.
  static std::string FileFor(absl::string_view layer_dir);

  // The known digests of one layer, read from its file when needed.
  std::shared_ptr<ChecksumTable> Table(const std::string& layer_dir);

  // Files read so far, for tests and metrics.
  int64_t files_hashed() const { return files_hashed_.load(std::memory_order_relaxed); }
  void CountHashedFile() { files_hashed_.fetch_add(1, std::memory_order_relaxed); }

 private:
  struct Cached {
    std::shared_ptr<ChecksumTable> table;
    std::list<std::string>::iterator place;
  };
  ChecksumTable::Place PlaceOf(const std::string& layer_dir) const;
  // `table`, or the one that another thread has entered meanwhile.
  std::shared_ptr<ChecksumTable> Enter(const std::string& layer_dir,
                                       std::shared_ptr<ChecksumTable> table);
  void Trim() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const size_t max_cached_;
  Database* const database_;
  std::atomic<int64_t> files_hashed_{0};
  Mutex mu_;
  absl::flat_hash_map<std::string, Cached> tables_ ABSL_GUARDED_BY(mu_);
  std::list<std::string> recently_used_ ABSL_GUARDED_BY(mu_);  // latest first
  size_t added_since_trim_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace kiln::store
