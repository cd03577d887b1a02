#include "daemon/remotecache/imported_graph.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "daemon/remotecache/imported_key_id.h"

namespace kiln::daemon {

namespace {

using store::KeyId;
using Link = store::PortableNode::Link;

constexpr char kResultPrefix[] = "import:";

std::string ResultIdOf(const KeyId& key) { return absl::StrCat(kResultPrefix, key.hex()); }

// Records in an order in which inputs come first.
std::vector<int> InputsFirst(const std::vector<CacheConfig::Record>& records) {
  std::vector<std::vector<int>> consumers(records.size());
  std::vector<size_t> open(records.size(), 0);
  for (size_t i = 0; i < records.size(); ++i)
    for (const auto& alternatives : records[i].inputs)
      for (const CacheConfig::Input& input : alternatives) {
        consumers[input.link].push_back(static_cast<int>(i));
        ++open[i];
      }
  std::vector<int> order;
  for (size_t i = 0; i < records.size(); ++i)
    if (open[i] == 0) order.push_back(static_cast<int>(i));
  for (size_t next = 0; next < order.size(); ++next)
    for (int consumer : consumers[order[next]])
      if (--open[consumer] == 0) order.push_back(consumer);
  return order;
}

// The newest result whose layers are all known.
std::optional<ImportedGraph::Result> BestResult(const ImportedConfig& imported,
                                                const CacheConfig::Record& record) {
  std::vector<std::pair<absl::Time, std::vector<int>>> found;
  for (const CacheConfig::Result& result : record.results) {
    std::vector<int> chain;
    for (int at = result.layer; at != -1; at = imported.config.layers[at].parent)
      chain.push_back(at);
    std::reverse(chain.begin(), chain.end());
    found.emplace_back(result.created_at, std::move(chain));
  }
  for (const CacheConfig::ChainResult& chain : record.chains)
    found.emplace_back(chain.created_at, chain.layers);
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  for (const auto& [created_at, chain] : found) {
    ImportedGraph::Result result{created_at, {}, imported.provider};
    for (int layer : chain) {
      const auto blob = imported.blobs.find(imported.config.layers[layer].blob);
      if (blob == imported.blobs.end()) break;
      result.layers.push_back(blob->second);
    }
    if (!chain.empty() && result.layers.size() == chain.size()) return result;
  }
  return std::nullopt;
}

// What says how a record is reached: of each input everything that may stand for it.
std::string WayText(std::vector<Link> links) {
  std::sort(links.begin(), links.end(), [](const Link& a, const Link& b) {
    return std::tie(a.input, a.from.key, a.from.selector) <
           std::tie(b.input, b.from.key, b.from.selector);
  });
  std::string text;
  for (const Link& link : links)
    absl::StrAppend(&text, link.input, "/", link.from.key.raw(), link.from.selector.size(), ":",
                    link.from.selector);
  return text;
}

}  // namespace

ImportedGraph::ImportedGraph(absl::Span<const ImportedConfig> configs) {
  for (const ImportedConfig& config : configs) Add(config);
}

// Two records of one operation and content that are reached in unlike ways stay apart: what one is
// reached by must not lead to the other.
KeyId ImportedGraph::ChooseId(const Digest& record, const Result* result,
                              const std::vector<Link>& links, size_t inputs) const {
  if (result == nullptr) return ImportedStepKey(record, WayText(links));
  std::vector<Digest> diff_ids;
  for (const store::LayerBlob& layer : result->layers) diff_ids.push_back(layer.diff_id);
  const KeyId id = ImportedResultKey(record, diff_ids);
  const auto known = nodes_.find(id);
  if (known == nodes_.end()) return id;
  std::vector<bool> common(inputs, false);
  for (const Link& link : links) {
    const auto& others = known->second.links;
    if (std::find(others.begin(), others.end(), link) != others.end()) common[link.input] = true;
  }
  if (std::find(common.begin(), common.end(), false) == common.end()) return id;
  return ImportedResultKey(Digest::Of(absl::StrCat(record.raw(), WayText(links))), diff_ids);
}

void ImportedGraph::Add(const ImportedConfig& imported) {
  const std::vector<CacheConfig::Record>& records = imported.config.records;
  std::vector<KeyId> ids(records.size());
  for (int i : InputsFirst(records)) {
    const CacheConfig::Record& record = records[i];
    if (record.inputs.empty()) {  // a root or content key, as the cache index knows it
      ids[i] = record.digest;
      continue;
    }
    std::vector<Link> links;
    for (size_t input = 0; input < record.inputs.size(); ++input)
      for (const CacheConfig::Input& from : record.inputs[input])
        links.push_back({record.digest, static_cast<int>(input), {ids[from.link], from.selector}});
    std::optional<Result> result = BestResult(imported, record);
    const KeyId id = ids[i] = ChooseId(record.digest, result.has_value() ? &*result : nullptr,
                                       links, record.inputs.size());
    Node& node = nodes_[id];
    for (Link& link : links) {
      std::vector<KeyId>& targets =
          ways_[Way(record.digest, link.input, link.from.selector, link.from.key)];
      if (std::find(targets.begin(), targets.end(), id) != targets.end()) continue;
      targets.push_back(id);
      node.links.push_back(std::move(link));
    }
    if (!result.has_value()) continue;
    const auto place =
        std::find_if(node.results.begin(), node.results.end(),
                     [&](const Result& other) { return other.created_at < result->created_at; });
    node.results.insert(place, *std::move(result));
  }
}

std::vector<KeyId> ImportedGraph::Query(absl::Span<const store::InputKey> keys, int input,
                                        const store::OpOutput& op) const {
  const Digest record = store::CacheIndex::RootKey(op);
  std::vector<KeyId> targets;
  for (const store::InputKey& key : keys) {
    const auto found = ways_.find(Way(record, input, key.selector, key.key));
    if (found != ways_.end())
      targets.insert(targets.end(), found->second.begin(), found->second.end());
  }
  std::sort(targets.begin(), targets.end());
  targets.erase(std::unique(targets.begin(), targets.end()), targets.end());
  return targets;
}

std::vector<store::CacheRecord> ImportedGraph::Records(const KeyId& key) const {
  const auto node = nodes_.find(key);
  if (node == nodes_.end() || node->second.results.empty()) return {};
  return {{ResultIdOf(key), node->second.results.front().created_at, 1}};
}

absl::StatusOr<store::PortableNode> ImportedGraph::Export(const KeyId& key) const {
  const auto node = nodes_.find(key);
  if (node == nodes_.end())
    return absl::NotFoundError(absl::StrCat("imported key ", key.ToString(), " is unknown"));
  store::PortableNode out;
  out.id = key;
  out.links = node->second.links;
  std::stable_sort(out.links.begin(), out.links.end(),
                   [](const Link& a, const Link& b) { return a.input < b.input; });
  out.records = Records(key);
  return out;
}

const ImportedGraph::Result* ImportedGraph::Find(absl::string_view result_id) const {
  if (!absl::ConsumePrefix(&result_id, kResultPrefix)) return nullptr;
  const absl::StatusOr<Digest> key = Digest::Parse(absl::StrCat("sha256:", result_id));
  if (!key.ok()) return nullptr;
  const auto node = nodes_.find(*key);
  if (node == nodes_.end() || node->second.results.empty()) return nullptr;
  return &node->second.results.front();
}

}  // namespace kiln::daemon
