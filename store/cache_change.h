#pragma once

#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/cache_rows.h"
#include "store/database.h"

namespace kiln::store {

// One change of the key graph in RocksDB: collects rows, keeps the counts of each node right, and
// commits everything as one batch. Dropping it changes nothing.
//
// Reads the database as it was before; what the same change did to nodes is seen on top of that.
// One change at a time may be under way (RocksCacheIndex holds its mutex). Not thread-safe.
class CacheChange {
 public:
  explicit CacheChange(Database* database) : database_(database) {}

  // Adds the node if it is unknown, and what it stands for if that was unknown.
  absl::Status AddNode(const KeyId& id, const OpOutput& op);
  absl::StatusOr<bool> HasNode(const KeyId& id);
  // The target must exist. The source is added when unknown. A link to itself is left out, since it
  // would keep its node alive.
  absl::Status AddLink(const LinkRow& link);
  // No effect when `alias` is a node or an alias already.
  absl::Status AddAlias(const KeyId& alias, const KeyId& node);
  // The node must exist. A result that it has keeps the order of choice: the better one stays.
  absl::Status AddRecord(const KeyId& id, const CacheRecord& record);
  absl::StatusOr<bool> HasRecords(const KeyId& id);
  // It has records or links out.
  absl::StatusOr<bool> IsNeeded(const KeyId& id);

  // Forgets the result, and the nodes that nothing else holds.
  absl::Status DropResult(const std::string& result_id);
  // Removes those of `suspects` that have neither records nor links out, then upwards.
  absl::Status RemoveUnneeded(std::vector<KeyId> suspects);

  // Writes nothing when nothing changed.
  absl::Status Commit();

 private:
  struct Node {
    NodeRow row;
    bool stored = false;   // in the database
    bool exists = false;   // after this change
    bool changed = false;  // row differs from what is stored
  };

  absl::StatusOr<Node*> Load(const KeyId& id);  // the pointer is good until the next Load

  Database* const database_;
  Batch batch_;
  absl::flat_hash_map<KeyId, Node> nodes_;
  absl::flat_hash_set<std::string> added_links_;    // keys of links
  absl::flat_hash_set<std::string> added_results_;  // keys of results
  absl::flat_hash_set<std::string> dropped_;        // result ids
};

}  // namespace kiln::store
