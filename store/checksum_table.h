#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/digest.h"
#include "store/base/cancel.h"
#include "store/base/mutex.h"

namespace kiln::store {

class Batch;
class Database;

// The content of a checksum file (format: store/DESIGN.md, Checksums).
struct ChecksumFile {
  std::vector<std::pair<std::string, Digest>> entries;  // sorted by key, keys unique
  bool damaged = false;  // something after `entries` was cut short or altered
};

// Never fails: what cannot be trusted is left out, and its digests are made anew when needed.
ChecksumFile DecodeChecksumFile(absl::string_view bytes);

// The first bytes of a file, and one block of entries sorted by key.
absl::string_view ChecksumFileMagic();
std::string EncodeChecksumBlock(absl::Span<const std::pair<std::string, Digest>> entries);

// The digests known of one layer: a sorted array as compact as the file, and what came since.
//
// Keys are made by FileKey and DirKey. Look-ups cost O(log entries). Thread-safe; Save, and
// GetOrMake's `make`, block.
class ChecksumTable {
 public:
  // Of the entry that this layer has at `path`.
  static std::string FileKey(absl::string_view path);
  // Of the directory with all below it, when the layer lies on the stack that `stack_id` names.
  static std::string DirKey(absl::string_view path, uint64_t stack_id);

  // Where a table is kept: in a row of the checksums family while it is small, else in a file. The
  // row counts when both exist.
  struct Place {
    std::string file;
    Database* database = nullptr;  // null: always the file
    std::string row = {};
  };

  // Reads what is kept. `is_new`: nothing can be there, so nothing is looked for.
  explicit ChecksumTable(Place place, bool is_new = false);

  std::optional<Digest> Find(absl::string_view key) const;
  void Set(absl::string_view key, const Digest& digest);

  // Forgets the entry at `path`, and what is known of the directories that contain it.
  void Forget(absl::string_view path);
  // The same for everything below `path` too.
  void ForgetBelow(absl::string_view path);
  void Clear();

  // The digest under `key`, made by `make` when missing. Of several callers at once one makes it
  // and the others wait; when that one fails or is cancelled, the next tries itself.
  absl::StatusOr<Digest> GetOrMake(const std::string& key, const CancelToken& cancel,
                                   const std::function<absl::StatusOr<Digest>()>& make);

  // What was answered to whole requests (a path with its patterns) on trees whose topmost layer
  // this is. Only in memory, not forever, and not longer than the layer stays as it is. O(1); never
  // waits for a Save.
  std::optional<Digest> Answer(absl::string_view request) const;
  void KeepAnswer(absl::string_view request, const Digest& digest);

  // Brings what is kept up to date: the row, or the file, by appending where that is cheaper. No
  // fsync: a torn file is noticed when read.
  absl::Status Save();
  // The same, but a row is written with `batch`.
  absl::Status SaveWith(Batch* batch);
  // Removes what is kept, so that a crash cannot leave digests of files that changed since.
  absl::Status RemoveKept();

  size_t size() const;

 private:
  // Parallel arrays: key i is keys_[offsets_[i], offsets_[i+1]).
  struct Sorted {
    std::string keys;
    std::vector<uint32_t> offsets = {0};
    std::vector<Digest> digests;

    size_t size() const { return digests.size(); }
    absl::string_view key(size_t i) const {
      return absl::string_view(keys).substr(offsets[i], offsets[i + 1] - offsets[i]);
    }
    size_t LowerBound(absl::string_view wanted) const;
    void Add(absl::string_view key, const Digest& digest);
  };

  std::optional<Digest> FindLocked(absl::string_view key) const ABSL_SHARED_LOCKS_REQUIRED(mu_);
  void DropAnswers();
  void ErasePrefix(const std::string& prefix) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EraseKey(const std::string& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ForgetDirsAbove(absl::string_view path) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::vector<std::pair<std::string, Digest>> EntriesLocked() const ABSL_SHARED_LOCKS_REQUIRED(mu_);
  void MergeLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Load(absl::string_view bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // True: the row is all that is needed, and is in `batch`.
  bool PutRow(Batch* batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status SaveLocked(Batch* batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status SaveFile() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Place place_;
  mutable Mutex mu_;
  CondVar made_;
  Sorted sorted_ ABSL_GUARDED_BY(mu_);
  // Later than sorted_; nullopt: forgotten.
  absl::btree_map<std::string, std::optional<Digest>> recent_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_set<std::string> being_made_ ABSL_GUARDED_BY(mu_);
  bool has_row_ ABSL_GUARDED_BY(mu_) = false;
  bool has_file_ ABSL_GUARDED_BY(mu_) = false;
  bool rewrite_ ABSL_GUARDED_BY(mu_) = true;  // what is kept must be written whole
  size_t in_file_ ABSL_GUARDED_BY(mu_) = 0;   // entries written since it was written whole
  size_t appended_ ABSL_GUARDED_BY(mu_) = 0;  // entries appended to it since

  mutable Mutex answers_mu_;  // after mu_
  absl::flat_hash_map<std::string, Digest> answers_ ABSL_GUARDED_BY(answers_mu_);
};

}  // namespace kiln::store
