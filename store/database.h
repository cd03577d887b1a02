#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace rocksdb {
class Env;
class Status;
}  // namespace rocksdb

namespace kiln::store {

// The column families. Key layouts: DESIGN.md, Index. Names on disk are fixed; the numbers are
// written into delta rows and must not change.
enum class Family : uint8_t {
  kMeta = 0,         // format, barrier mark
  kKeys = 1,         // nodes of the cache-key graph
  kLinks = 2,        // links out of a node
  kBackLinks = 3,    // the same links, by target
  kAliases = 4,      // other ids of a node
  kRecords = 5,      // results by key
  kResults = 6,      // keys by result
  kRefs = 7,         // trees and what is known of them
  kBlobs = 8,        // content-addressed bytes
  kChecksums = 9,    // content checksums of trees
  kUsage = 10,       // last use and use count
  kHistory = 11,     // finished builds
  kStatistics = 12,  // how long executions took
  kDelta = 13,       // what was written, by sequence
};
inline constexpr size_t kFamilyCount = 14;

// Names one row.
struct RowName {
  Family family = Family::kMeta;
  std::string key;

  friend bool operator==(const RowName& a, const RowName& b) {
    return a.family == b.family && a.key == b.key;
  }
};

// A set of changes that takes effect as a whole or not at all. A value; not thread-safe.
class Batch {
 public:
  void Put(Family family, absl::string_view key, absl::string_view value);
  void Delete(Family family, absl::string_view key);

  // Says that the object named by this row has files which were just written and that a power loss
  // before the next barrier may take. Database::unsettled() lists it at the start after such a
  // loss.
  void MarkUnsettled(Family family, absl::string_view key);
  // Lists the row for Database::DeltasSince.
  void MarkCommitted(Family family, absl::string_view key);

  bool empty() const { return changes_.empty() && marks_.empty(); }

 private:
  friend class Database;
  enum class Kind : uint8_t { kPut, kDelete };
  struct Change {
    Kind kind;
    Family family;
    std::string key;
    std::string value;  // of kPut
  };
  enum class Mark : uint8_t { kUnsettled = 1, kCommitted = 2 };

  std::vector<Change> changes_;
  std::vector<std::pair<Mark, RowName>> marks_;  // not empty: the write gets a sequence
};

// A forward scan over the rows of one family whose keys start with a prefix; sees the state at its
// creation. Not thread-safe. Must not outlive the database, nor be kept while waiting for
// something: a failed write cannot be made good meanwhile.
class Cursor {
 public:
  ~Cursor();
  Cursor(Cursor&&) noexcept;

  bool Valid() const;
  void Next();
  // Moves to the first key not less than `key`, which must start with the prefix.
  void Seek(absl::string_view key);
  // Both live until the next move.
  absl::string_view key() const;
  absl::string_view value() const;
  // Not OK: the scan ended early. Look at it when Valid() turns false.
  absl::Status status() const;

 private:
  friend class Database;
  struct State;
  explicit Cursor(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

struct DatabaseOptions {
  std::string path;
  // Of this boot (Root::boot_id). What an unclean end left is trusted when it is the same as then.
  std::string boot_id;
  // Makes all files of the store durable (Root::SyncFiles); called by Barrier. Null: no files.
  std::function<absl::Status()> sync_files;
  // Zero: only explicit barriers. A barrier with nothing new to settle costs nothing.
  absl::Duration barrier_interval = absl::ZeroDuration();
  // Keep the list of writes for DeltasSince beyond a barrier (for a clone that merges back).
  bool retain_deltas = false;
  rocksdb::Env* env = nullptr;  // null: the default; tests inject faults
};

// One write that marked rows as committed.
struct Delta {
  uint64_t sequence = 0;
  std::vector<RowName> rows;
};

// Database is the RocksDB instance in which all parts of the store keep their rows.
//
// Crash rule: a write is in the write-ahead log (in the kernel's hands) when Write returns, so a
// killed process loses nothing that was reported. A power loss may take what is newer than the last
// barrier, from the end: rows of the index are lost in order, never torn, but a row may survive
// whose files did not. Such rows are listed by unsettled(). See DESIGN.md, Crash rule.
//
// Thread-safe. Every method may block on disk: never call it from the solver loop.
class Database {
 public:
  enum class Durability {
    kLogged,  // survives the end of the process
    kSynced,  // survives a power loss; needed before files are deleted. Costs an fsync
  };

  // kFailedPrecondition: written by a newer kilnd; kDataLoss: damaged.
  static absl::StatusOr<std::unique_ptr<Database>> Open(const DatabaseOptions& options);
  // Ends with a barrier, if Close was not called.
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  // Last barrier, then ends background work. Idempotent. No other call may follow.
  absl::Status Close();

  // nullopt when absent.
  absl::StatusOr<std::optional<std::string>> Get(Family family, absl::string_view key) const;
  absl::StatusOr<bool> Has(Family family, absl::string_view key) const;
  Cursor Scan(Family family, absl::string_view prefix) const;
  // A cursor for many short look-ups in a family that is filtered by prefix (DESIGN.md, Index):
  // each Seek(key) finds the first row not less than `key`, and is sure to find it only if it
  // shares the filtered prefix. The caller checks the row it gets.
  Cursor Probe(Family family) const;

  // Applies `batch` whole. kResourceExhausted: the disk is full; kUnavailable: it fails. Each later
  // write then tries to open the index anew first, so writes work again once the disk does;
  // look-ups go on all the time. A write that failed may turn out to be done, whole, after that.
  absl::Status Write(const Batch& batch, Durability durability = Durability::kLogged);

  // Everything written before this call, and the files that go with it, survives a power loss
  // afterwards. Blocks for the time of a syncfs(2).
  absl::Status Barrier();

  // Rows marked unsettled since the last barrier before a power loss, oldest first; empty after a
  // clean end and after a mere kill. Owners drop these objects; then RecoveryDone() is called once.
  // Until then no barrier takes effect, and every further start lists them again.
  const std::vector<RowName>& unsettled() const { return unsettled_; }
  absl::Status RecoveryDone();

  // The sequence of the last marked write; 0 before the first.
  uint64_t last_sequence() const;
  // Writes with marked-committed rows after `sequence`, in order, at most `limit`. kOutOfRange when
  // some of them were dropped already: take a checkpoint and start from there.
  absl::StatusOr<std::vector<Delta>> DeltasSince(uint64_t sequence, size_t limit) const;

  // A consistent copy at `path` (which must not exist) by hard links; `sequence` is set to the last
  // one it surely holds.
  absl::Status Checkpoint(const std::string& path, uint64_t* sequence);

  // Bytes of table files and logs.
  int64_t DiskBytes() const;

 private:
  struct Impl;
  explicit Database(std::unique_ptr<Impl> impl);
  // Reads the format and the barrier mark; fills unsettled_.
  absl::Status Load();
  absl::Status PrepareFormat();
  absl::Status Apply(const Batch& batch, Durability durability);
  absl::Status TrimDeltas(uint64_t from, uint64_t to, Batch* batch) const;
  absl::Status ProbeDisk() const;
  absl::Status ReopenAfterFailure();
  void RunTicker();

  const std::unique_ptr<Impl> impl_;
  std::vector<RowName> unsettled_;  // constant after Open
};

// kOk for OK; else the message is "<doing>: <what RocksDB says>" and the code follows the remedy.
absl::Status FromRocks(const rocksdb::Status& status, absl::string_view doing);

}  // namespace kiln::store
