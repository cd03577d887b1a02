#include "tests/store/ref/invariants.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "store/codec.h"
#include "store/ref/record.h"

namespace kiln::store {
namespace {

using internal::RefRecord;

class Checker {
 public:
  Checker(const Root& root, const Database& database, const LocalRefStore& store)
      : root_(root), database_(database), store_(store) {}

  std::vector<std::string> Run() {
    Load();
    for (const auto& [id, record] : records_) CheckRecord(id, record);
    CheckChildRows();
    CheckSnapshots();
    CheckTemporaries();
    return wrong_;
  }

 private:
  void Wrong(const std::string& what) { wrong_.push_back(what); }

  void Load() {
    Cursor rows = database_.Scan(Family::kRefs, "");
    for (; rows.Valid(); rows.Next()) {
      const std::string key(rows.key());
      if (key[0] == internal::kRecordRow) {
        auto record = internal::DecodeRecord(rows.value());
        if (!record.ok()) Wrong(absl::StrCat("unreadable record ", key));
        if (record.ok()) records_[key.substr(1)] = *std::move(record);
      } else {
        rows_.insert(key);
      }
    }
  }

  void CheckRecord(const std::string& id, const RefRecord& record) {
    for (const std::string& parent : record.parents) {
      if (parent.empty()) continue;
      if (records_.count(parent) == 0) Wrong(absl::StrCat(id, " has no parent ", parent));
      if (!rows_.contains(internal::ChildKey(parent, id)))
        Wrong(absl::StrCat(id, " is not listed as child of ", parent));
    }
    std::vector<uint64_t> numbers = record.layers;
    for (const uint64_t own : {record.snapshot, record.flat}) {
      if (own == 0) continue;
      numbers.push_back(own);
      if (!rows_.contains(internal::SnapshotKey(own)))
        Wrong(absl::StrCat(id, ": folder ", own, " has no row"));
    }
    for (const uint64_t number : numbers)
      if (!std::filesystem::exists(store_.driver().FilesDir(number)))
        Wrong(absl::StrCat(id, " has no files in folder ", number));
    if (!record.twin.empty()) {
      auto twin = records_.find(record.twin);
      if (twin == records_.end() || twin->second.twin != id ||
          twin->second.snapshot != record.snapshot)
        Wrong(absl::StrCat(id, " has no other half ", record.twin));
    }
    for (const std::string& key : record.index_keys)
      if (!rows_.contains(internal::IndexRowKey(key, id)))
        Wrong(absl::StrCat(id, " is not indexed"));
  }

  void CheckChildRows() {
    for (const std::string& key : rows_) {
      if (key[0] != internal::kChildRow && key[0] != internal::kIndexRow) continue;
      const std::string id(internal::IdOfKey(key));
      if (records_.count(id) == 0) Wrong(absl::StrCat("a row names the absent record ", id));
    }
  }

  void CheckSnapshots() {
    for (const auto& entry : std::filesystem::directory_iterator(root_.snapshots_dir())) {
      const std::string name = entry.path().filename();
      uint64_t number = 0;
      if (!absl::SimpleAtoi(name, &number) || !rows_.contains(internal::SnapshotKey(number)))
        Wrong(absl::StrCat("folder ", name, " belongs to no record"));
    }
    absl::flat_hash_set<uint64_t> owned;
    for (const auto& [id, record] : records_) owned.insert({record.snapshot, record.flat});
    for (const std::string& key : rows_) {
      if (key[0] != internal::kSnapshotRow) continue;
      Decoder number(absl::string_view(key).substr(1));
      if (!owned.contains(number.Fixed64())) Wrong("a folder's row has no owner");
    }
  }

  // Nobody holds anything: what is not retained stays only for its children.
  void CheckTemporaries() {
    for (const auto& [id, record] : records_) {
      const bool marked = rows_.contains(internal::TemporaryKey(id));
      if (marked == record.retained) Wrong(absl::StrCat(id, ": wrong mark as temporary"));
      const std::string prefix = internal::ChildPrefix(id);
      const bool has_children = std::any_of(rows_.begin(), rows_.end(), [&](const auto& key) {
        return key.compare(0, prefix.size(), prefix) == 0;
      });
      if (!record.retained && !has_children) Wrong(absl::StrCat(id, " is kept for nobody"));
    }
  }

  const Root& root_;
  const Database& database_;
  const LocalRefStore& store_;
  std::map<std::string, RefRecord> records_;
  absl::flat_hash_set<std::string> rows_;
  std::vector<std::string> wrong_;
};

}  // namespace

std::vector<std::string> Violations(const Root& root, const Database& database,
                                    const LocalRefStore& store) {
  return Checker(root, database, store).Run();
}

}  // namespace kiln::store
