#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace pb {
class Definition;
class Op;
}  // namespace pb

namespace kiln::daemon {

// A definition whose ops are changed before it is loaded. What is malformed is left for the one who
// loads it. Not thread-safe, except that different ops may be changed at once.
class DefinitionEdit {
 public:
  explicit DefinitionEdit(absl::string_view definition);
  ~DefinitionEdit();

  // Those that could be read, in the definition's order.
  const std::vector<pb::Op*>& ops() const { return ops_; }
  // The op of that index was changed.
  void SetChanged(size_t op) { entries_[positions_[op]].changed = true; }

  // The definition's bytes: as they were when nothing was changed; else ops that stand on a changed
  // one have new digests, and metadata and source locations have moved along. Linear, without
  // recursion. To be called once.
  std::string Finish();

 private:
  struct Entry {
    std::string digest;  // as received
    pb::Op* op = nullptr;
    bool changed = false;
    bool seen = false, settled = false;
    std::string bytes, new_digest;  // when changed
  };

  void Settle(size_t root);
  void SettleOne(Entry* entry);
  template <typename Map>
  void Move(Map* map);

  const std::string given_;
  std::unique_ptr<pb::Definition> definition_;
  std::vector<std::unique_ptr<pb::Op>> owned_;
  std::vector<Entry> entries_;  // one for each op of the definition
  std::vector<pb::Op*> ops_;
  std::vector<size_t> positions_;  // of ops_ in entries_
  absl::flat_hash_map<std::string, size_t> by_digest_;
};

}  // namespace kiln::daemon
