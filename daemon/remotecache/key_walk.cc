#include "daemon/remotecache/key_walk.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "daemon/remotecache/imported_key_id.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

using solver::SolvedGraph;
using store::KeyId;
using store::PortableNode;

bool IsRandom(absl::string_view op_digest) { return absl::StartsWith(op_digest, "random:"); }

class Walk {
 public:
  explicit Walk(store::CacheIndex& index) : index_(index) {}

  absl::Status Add(const SolvedGraph& graph) {
    imports_ = graph.imports;
    for (const SolvedGraph::Edge& edge : graph.edges)
      for (const std::string& op : edge.op_digests)
        if (IsRandom(op)) local_.insert(store::CacheIndex::RootKey({op, edge.output}));
    for (size_t i = 0; i < graph.edges.size(); ++i) {
      const SolvedGraph::Edge& edge = graph.edges[i];
      for (const KeyId& key : edge.keys) {
        KILN_RETURN_IF_ERROR(Visit(key));
        AddResults(edge, key, i + 1 == graph.edges.size());
      }
    }
    return absl::OkStatus();
  }

  std::vector<WalkedKey> Take() {
    for (WalkedKey& key : keys_) {
      for (auto& links : key.inputs) {
        std::sort(links.begin(), links.end(), [](const auto& a, const auto& b) {
          return std::tie(a.key, a.selector) < std::tie(b.key, b.selector);
        });
        links.erase(std::unique(links.begin(), links.end(),
                                [](const auto& a, const auto& b) {
                                  return a.key == b.key && a.selector == b.selector;
                                }),
                    links.end());
      }
      std::stable_sort(key.results.begin(), key.results.end(),
                       [](const auto& a, const auto& b) { return a.created_at > b.created_at; });
    }
    return std::move(keys_);
  }

 private:
  enum class State { kNew, kOpen, kDone };
  struct Node {
    State state = State::kNew;
    PortableNode data;
    size_t next = 0;        // link to follow
    std::vector<int> keys;  // that it became, one for each operation it stands for
  };
  // A way into a key: what an input of an operation is.
  using Way = std::tuple<Digest, int, std::string, int>;  // record digest, input, selector, key

  // Ids of one node are many (aliases); the node is one.
  absl::StatusOr<Node*> Get(const KeyId& id) {
    std::shared_ptr<Node>& node = nodes_[id];
    if (node != nullptr) return node.get();
    node = std::make_shared<Node>();
    if (IsImportedKey(id)) {
      // One of an earlier import is not known any more: a dead end.
      if (imports_ != nullptr) {
        absl::StatusOr<PortableNode> data = imports_->Export(id);
        if (data.ok()) node->data = *std::move(data);
      }
      if (node->data.links.empty()) node->state = State::kDone;
      return node.get();
    }
    absl::StatusOr<PortableNode> data = index_.Export(id);
    if (!data.ok() && !absl::IsNotFound(data.status())) return data.status();
    if (!data.ok()) {
      node->data.id = id;
      return node.get();
    }
    const KeyId own = data->id;
    node->data = *std::move(data);
    if (own == id) return node.get();
    std::shared_ptr<Node> held = node;  // the map may move
    std::shared_ptr<Node>& known = nodes_[own];
    if (known == nullptr) known = std::move(held);
    std::shared_ptr<Node> chosen = known;
    nodes_[id] = chosen;
    return chosen.get();
  }

  absl::Status Visit(const KeyId& id) {
    KILN_ASSIGN_OR_RETURN(Node * first, Get(id));
    if (first->state != State::kNew) return absl::OkStatus();
    std::vector<Node*> stack = {first};
    first->state = State::kOpen;
    while (!stack.empty()) {
      Node* node = stack.back();
      if (node->next < node->data.links.size()) {
        KILN_ASSIGN_OR_RETURN(Node * from, Get(node->data.links[node->next++].from.key));
        if (from->state != State::kNew) continue;
        from->state = State::kOpen;
        stack.push_back(from);
        continue;
      }
      KILN_RETURN_IF_ERROR(Finish(node));
      node->state = State::kDone;
      stack.pop_back();
    }
    return absl::OkStatus();
  }

  // Everything that leads to the node is there; a link that loops back to it has no key yet and is
  // left out.
  absl::Status Finish(Node* node) {
    const PortableNode& data = node->data;
    if (data.links.empty()) {
      if (IsRandom(data.op.op_digest) || local_.contains(data.id)) return absl::OkStatus();
      const auto [it, is_new] = roots_.emplace(data.id, static_cast<int>(keys_.size()));
      if (is_new) keys_.push_back({data.id, {}, {}, false});
      node->keys.push_back(it->second);
      return absl::OkStatus();
    }
    // In order, so that equal indexes are walked alike.
    std::map<KeyId, std::vector<std::vector<WalkedKey::Link>>> by_op;
    for (const PortableNode::Link& link : data.links) {
      auto& inputs = by_op[link.op];
      if (inputs.size() <= static_cast<size_t>(link.input)) inputs.resize(link.input + 1);
      KILN_ASSIGN_OR_RETURN(const Node* from, Get(link.from.key));
      for (int key : from->keys) inputs[link.input].push_back({link.from.selector, key});
    }
    for (auto& [digest, inputs] : by_op) {
      const bool whole = std::all_of(inputs.begin(), inputs.end(),
                                     [](const auto& links) { return !links.empty(); });
      if (whole) node->keys.push_back(AddKey(digest, std::move(inputs)));
    }
    return absl::OkStatus();
  }

  // A key that is there with a way in common for each input gets the other ways, too. Only those
  // from keys that came before it: no loop can come about.
  int AddKey(const Digest& digest, std::vector<std::vector<WalkedKey::Link>> inputs) {
    int found = -1;
    for (const WalkedKey::Link& link : inputs[0]) {
      const auto it = ways_.find(Way(digest, 0, link.selector, link.key));
      if (it == ways_.end()) continue;
      for (int candidate : it->second) {
        if (keys_[candidate].inputs.size() != inputs.size()) continue;
        bool common = true;
        for (size_t i = 1; common && i < inputs.size(); ++i)
          common = std::any_of(inputs[i].begin(), inputs[i].end(), [&](const auto& other) {
            const auto to = ways_.find(Way(digest, static_cast<int>(i), other.selector, other.key));
            return to != ways_.end() &&
                   std::find(to->second.begin(), to->second.end(), candidate) != to->second.end();
          });
        if (common) found = candidate;
      }
      if (found >= 0) break;
    }
    if (found < 0) {
      found = static_cast<int>(keys_.size());
      keys_.push_back(
          {digest, std::vector<std::vector<WalkedKey::Link>>(inputs.size()), {}, false});
    }
    for (size_t i = 0; i < inputs.size(); ++i) {
      for (WalkedKey::Link& link : inputs[i]) {
        if (link.key >= found) continue;
        auto& targets = ways_[Way(digest, static_cast<int>(i), link.selector, link.key)];
        if (std::find(targets.begin(), targets.end(), found) != targets.end()) continue;
        targets.push_back(found);
        keys_[found].inputs[i].push_back(std::move(link));
      }
    }
    return found;
  }

  void AddResults(const SolvedGraph::Edge& edge, const KeyId& id, bool is_root) {
    const Node& node = *nodes_.at(id);
    const bool wanted = edge.info == nullptr || edge.info->export_cache.value_or(true);
    std::vector<KeyResult> results;
    const auto& records = node.data.records;
    const bool is_result =
        std::find(edge.result_keys.begin(), edge.result_keys.end(), id) != edge.result_keys.end();
    if (edge.complete && is_result) {
      KeyResult result;
      result.loaded = true;
      result.result = edge.result;
      const std::string result_id = edge.result == nullptr ? "" : edge.result->Id();
      const auto record = std::find_if(records.begin(), records.end(),
                                       [&](const auto& r) { return r.result_id == result_id; });
      result.created_at = record != records.end() ? record->created_at
                          : records.empty()       ? absl::UnixEpoch()
                                                  : records.front().created_at;
      results.push_back(std::move(result));
    }
    if (results.empty()) {
      for (const store::CacheRecord& record : records) {
        KeyResult result;
        result.created_at = record.created_at;
        result.id = record.result_id;
        if (IsImportedKey(id)) result.imports = imports_;
        results.push_back(std::move(result));
      }
    }
    for (int key : node.keys) {
      WalkedKey& walked = keys_[key];
      walked.of_root = walked.of_root || is_root;
      // A source is had from where it comes from.
      if (wanted && !walked.inputs.empty())
        walked.results.insert(walked.results.end(), results.begin(), results.end());
    }
  }

  store::CacheIndex& index_;
  std::shared_ptr<const solver::ImportedKeys> imports_;
  absl::flat_hash_set<KeyId> local_;  // roots that mean nothing elsewhere
  absl::flat_hash_map<KeyId, std::shared_ptr<Node>> nodes_;
  absl::flat_hash_map<Digest, int> roots_;
  absl::flat_hash_map<Way, std::vector<int>> ways_;
  std::vector<WalkedKey> keys_;
};

}  // namespace

absl::StatusOr<std::vector<WalkedKey>> WalkKeys(absl::Span<const solver::SolvedGraph> graphs,
                                                store::CacheIndex& index) {
  Walk walk(index);
  for (const SolvedGraph& graph : graphs) KILN_RETURN_IF_ERROR(walk.Add(graph));
  return walk.Take();
}

}  // namespace kiln::daemon
