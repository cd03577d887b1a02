#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace kiln::store::internal {

// One change to a tree, by snapshot number. Under overlay it is the content of a folder in
// overlayfs form; under the native driver, what changed from tree `base` (0: nothing) to
// `snapshot`.
struct LayerChange {
  uint64_t snapshot = 0;
  uint64_t base = 0;
  // Has whiteouts for names that need not exist in what it is put upon (a diff used elsewhere).
  bool floating = false;

  friend bool operator==(const LayerChange& a, const LayerChange& b) {
    return a.snapshot == b.snapshot && a.base == b.base;
  }
};

// What is stored of a ref; see DESIGN.md, Refs. A plain value.
struct RefRecord {
  enum class Kind : uint32_t { kLayer = 0, kMerge = 1, kDiff = 2 };
  // Where the list of changes that led to this tree is found; merges and diffs of it need them.
  enum class Changes : uint32_t {
    kUnknown = 0,       // a merge or diff that was never asked for
    kLayers = 1,        // they are `layers`
    kParentAndOwn = 2,  // those of the parent, then `snapshot`
    kListed = 3,        // in `changes`
  };

  Kind kind = Kind::kLayer;
  bool is_mutable = false;
  // Mutable: survives its release. Immutable: kept until pruned; else it goes with its last hold.
  bool retained = false;
  // Layer: none or one. Merge: in order. Diff: lower and upper; "" for the empty tree.
  std::vector<std::string> parents;
  uint64_t snapshot = 0;  // its own folder; 0: none
  uint64_t flat = 0;      // a second folder with the whole tree in one layer; 0: none
  // The files of all `layers` are there. An immutable layer that is not ready is lazy: `layers` and
  // `snapshot` are known already, its files come when they are asked for.
  bool ready = false;
  std::vector<uint64_t> layers;
  Changes changes_form = Changes::kUnknown;
  std::vector<LayerChange> changes;
  // Of a retained mutable: the immutable that shares its files; of that one: the mutable. Else "".
  std::string twin;

  bool lazy() const { return kind == Kind::kLayer && !is_mutable && !ready; }

  std::string description, record_type;
  absl::Time created_at = absl::UnixEpoch();
  int64_t size_bytes = -1;  // -1: not known yet
  std::vector<std::string> index_keys;
  std::map<std::string, std::string> values;
};

std::string EncodeRecord(const RefRecord& record);
// kDataLoss when the bytes are no record; kFailedPrecondition when a newer version wrote it.
absl::StatusOr<RefRecord> DecodeRecord(absl::string_view bytes);

struct Usage {
  absl::Time last_used_at = absl::InfinitePast();
  int64_t count = 0;
};
std::string EncodeUsage(const Usage& usage);
Usage DecodeUsage(absl::string_view bytes);  // of damaged bytes: never used

// Keys in the refs family. The first byte tells the kind of row (DESIGN.md, Refs).
// Ids have one length, so that keys made of two of them are unambiguous.
inline constexpr size_t kIdSize = 25;
std::string NewId();  // random, lower-case letters and digits
bool IsId(absl::string_view id);

inline constexpr char kRecordRow = 'r', kChildRow = 'c', kSnapshotRow = 's', kIndexRow = 'i',
                      kTemporaryRow = 't', kSettingRow = 'm';
std::string RecordKey(absl::string_view id);
std::string ChildPrefix(absl::string_view parent);
std::string ChildKey(absl::string_view parent, absl::string_view child);
std::string SnapshotKey(uint64_t number);
std::string IndexPrefix(absl::string_view index_key);
std::string IndexRowKey(absl::string_view index_key, absl::string_view id);
std::string TemporaryKey(absl::string_view id);
std::string SettingKey(absl::string_view name);
// The id at the end of a child, index, record or temporary row's key.
absl::string_view IdOfKey(absl::string_view key);

}  // namespace kiln::store::internal
