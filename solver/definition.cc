#include "solver/definition.h"

#include <google/protobuf/arena.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/op_bytes.h"
#include "solver/internal/digest_hash.h"
#include "solver/internal/large_table.h"
#include "solver/op_checks.h"
#include "solver/vertex_name.h"
#include "store/base/status_macros.h"

namespace kiln::solver {
namespace {

constexpr int kMaxOps = 1'000'000;
constexpr uint32_t kNone = ~uint32_t{0};

template <typename... Args>
absl::Status Invalid(const Args&... args) {
  return absl::InvalidArgumentError(absl::StrCat(args...));
}

// One distinct entry of the definition while it is being loaded.
struct Entry {
  Digest received;
  pb::Op* op = nullptr;
  std::vector<uint32_t> inputs;  // entries, in the order of op->inputs()
  uint32_t vertex = kNone;       // its index in the graph once placed
  bool visited = false;
};

class Loader {
 public:
  Loader(const pb::Definition& definition, google::protobuf::Arena* arena,
         absl::Span<const std::string> granted)
      : definition_(definition), arena_(arena), granted_(granted) {}

  absl::StatusOr<LoadedGraph> Load() {
    KILN_RETURN_IF_ERROR(ParseEntries());
    KILN_RETURN_IF_ERROR(ConnectInputs());
    if (entries_.size() < 2) return Invalid("invalid LLB with ", entries_.size(), " vertexes");
    const Entry& terminal = entries_[terminal_];
    if (terminal.inputs.empty()) return Invalid("invalid LLB with no inputs on last vertex");
    const uint32_t root = terminal.inputs[0];
    if (root == terminal_) return MissingInput(terminal.op->inputs(0));
    IndexMetadata();
    const std::vector<uint32_t> order = InOrder(root);
    graph_.vertices.reserve(order.size());
    by_digest_.reserve(order.size());
    for (uint32_t entry : order) KILN_RETURN_IF_ERROR(Place(entry));
    graph_.root = entries_[root].vertex;
    graph_.root_output = static_cast<int32_t>(terminal.op->inputs(0).index());
    LoadSources();
    return std::move(graph_);
  }

 private:
  static absl::Status MissingInput(const pb::Input& input) {
    return Invalid("invalid missing input digest ", input.digest());
  }

  absl::Status ParseEntries() {
    if (definition_.def_size() == 0) return Invalid("invalid empty definition");
    if (definition_.def_size() - 1 > kMaxOps)
      return Invalid("definition of ", definition_.def_size() - 1, " ops, limit ", kMaxOps);
    entries_.reserve(definition_.def_size());
    by_received_.reserve(definition_.def_size());
    for (const std::string& bytes : definition_.def()) {
      const Digest digest = sha256_.Update(bytes).Finish();
      by_received_.prefetch(digest);  // looked at when the entry is parsed
      Entry entry;
      entry.received = digest;
      entry.op = google::protobuf::Arena::CreateMessage<pb::Op>(arena_);
      if (!entry.op->ParseFromString(bytes))
        return Invalid("failed to parse llb proto op: entry ", digest.ToString(),
                       " is no valid message");
      const auto [it, is_new] = by_received_.emplace(digest, entries_.size());
      terminal_ = it->second;
      if (!is_new) continue;
      entries_.push_back(std::move(entry));
      bytes_.push_back(&bytes);
    }
    return absl::OkStatus();
  }

  absl::Status ConnectInputs() {
    for (Entry& entry : entries_) {
      entry.inputs.reserve(entry.op->inputs_size());
      for (int i = 0; i < entry.op->inputs_size(); ++i) {
        const pb::Input& input = entry.op->inputs(i);
        // An output index past what fits an int32 exceeds every op's number of outputs.
        if (input.index() < 0 || input.index() > INT32_MAX)
          return Invalid("invalid input ", i, " output index ", input.index());
        const absl::StatusOr<Digest> digest = Digest::Parse(input.digest());
        if (!digest.ok()) return MissingInput(input);
        const auto found = by_received_.find(*digest);
        if (found == by_received_.end()) return MissingInput(input);
        entry.inputs.push_back(found->second);
      }
    }
    return absl::OkStatus();
  }

  void IndexMetadata() {
    metadata_.assign(entries_.size(), nullptr);
    for (const auto& [text, metadata] : definition_.metadata()) {
      const absl::StatusOr<Digest> digest = Digest::Parse(text);
      if (!digest.ok()) continue;
      const auto found = by_received_.find(*digest);
      if (found != by_received_.end()) metadata_[found->second] = &metadata;
    }
  }

  // What `root` needs, inputs first. A loop would need a hash collision, but would end as well.
  std::vector<uint32_t> InOrder(uint32_t root) {
    std::vector<uint32_t> order;
    std::vector<std::pair<uint32_t, size_t>> stack = {{root, 0}};
    entries_[root].visited = true;
    while (!stack.empty()) {
      auto& [entry, next] = stack.back();
      const std::vector<uint32_t>& inputs = entries_[entry].inputs;
      if (next == inputs.size()) {
        order.push_back(entry);
        stack.pop_back();
        continue;
      }
      const uint32_t input = inputs[next++];
      if (entries_[input].visited) continue;
      entries_[input].visited = true;
      stack.push_back({input, 0});
    }
    return order;
  }

  // Gives the entry its final digest and makes it a vertex of the graph.
  absl::Status Place(uint32_t index) {
    Entry& entry = entries_[index];
    pb::Op& op = *entry.op;
    by_digest_.prefetch(entry.received);  // which it nearly always stays
    if (index == terminal_)
      return Invalid("invalid missing input digest ", entry.received.ToString());
    for (size_t i = 0; i < entry.inputs.size(); ++i) {
      const Entry& input = entries_[entry.inputs[i]];
      if (input.vertex == kNone) return MissingInput(op.inputs(static_cast<int>(i)));
      const Digest& digest = graph_.vertices[input.vertex].info->digest;
      if (digest != input.received)
        op.mutable_inputs(static_cast<int>(i))->set_digest(digest.ToString());
    }
    std::string bytes = CanonicalOpBytes(op);
    const Digest digest = bytes == *bytes_[index] ? entry.received : sha256_.Update(bytes).Finish();
    const auto [it, is_new] = by_digest_.emplace(digest, graph_.vertices.size());
    entry.vertex = it->second;
    if (!is_new) return absl::OkStatus();  // differed only in encoding
    KILN_RETURN_IF_ERROR(CheckOp(op));
    KILN_RETURN_IF_ERROR(CheckPermissions(op, metadata_[index], granted_));

    LoadedVertex vertex;
    vertex.op_bytes = std::move(bytes);
    vertex.inputs.reserve(entry.inputs.size());
    for (size_t i = 0; i < entry.inputs.size(); ++i) {
      vertex.inputs.push_back({entries_[entry.inputs[i]].vertex,
                               static_cast<int32_t>(op.inputs(static_cast<int>(i)).index())});
    }
    vertex.info = MakeInfo(op, digest, metadata_[index], vertex);
    graph_.vertices.push_back(std::move(vertex));
    return absl::OkStatus();
  }

  std::shared_ptr<const VertexInfo> MakeInfo(const pb::Op& op, const Digest& digest,
                                             const pb::OpMetadata* metadata,
                                             const LoadedVertex& vertex) const {
    auto info = std::make_shared<VertexInfo>();
    info->digest = digest;
    info->inputs.reserve(vertex.inputs.size());
    for (const LoadedVertex::Input& input : vertex.inputs)
      info->inputs.push_back(graph_.vertices[input.vertex].info->digest);
    if (metadata != nullptr) {
      info->ignore_cache = metadata->ignore_cache();
      if (metadata->has_export_cache()) info->export_cache = metadata->export_cache().value();
      if (metadata->has_progress_group())
        info->progress_group = metadata->progress_group().SerializeAsString();
      if (metadata->has_linux_resources() && op.has_exec())
        info->linux_resources = metadata->linux_resources().SerializeAsString();
      const auto custom = metadata->description().find("llb.customname");
      if (custom != metadata->description().end()) info->name = custom->second;
    }
    if (info->name.empty()) {
      std::vector<absl::string_view> names;
      names.reserve(vertex.inputs.size());
      for (const LoadedVertex::Input& input : vertex.inputs)
        names.push_back(graph_.vertices[input.vertex].info->name);
      info->name = VertexName(op, names);
    }
    return info;
  }

  void LoadSources() {
    const pb::Source& source = definition_.source();
    if (source.locations().empty()) return;
    auto map = std::make_shared<SourceMap>();
    for (const pb::SourceInfo& info : source.infos()) {
      pb::SourceInfo copy;
      copy.set_filename(info.filename());
      copy.set_data(info.data());
      copy.set_language(info.language());
      map->infos.push_back(copy.SerializeAsString());
    }
    for (const auto& [text, locations] : source.locations()) {
      const absl::StatusOr<Digest> received = Digest::Parse(text);
      if (!received.ok()) continue;
      const auto found = by_received_.find(*received);
      if (found == by_received_.end() || entries_[found->second].vertex == kNone) continue;
      const Digest& final_digest = graph_.vertices[entries_[found->second].vertex].info->digest;
      std::vector<SourceMap::Location>& out = map->locations[final_digest];
      for (const pb::Location& location : locations.locations()) {
        if (location.sourceindex() < 0 || location.sourceindex() >= source.infos_size()) continue;
        SourceMap::Location& next = out.emplace_back();
        next.info = static_cast<uint32_t>(location.sourceindex());
        for (const pb::Range& range : location.ranges())
          next.ranges.push_back(range.SerializeAsString());
      }
    }
    InheritLocations(map.get());
    graph_.sources = std::move(map);
  }

  // A source without a place of its own, a download say, has that of its only user.
  void InheritLocations(SourceMap* map) const {
    constexpr uint32_t kMany = kNone - 1;
    std::vector<uint32_t> users(graph_.vertices.size(), kNone);
    for (uint32_t i = 0; i < graph_.vertices.size(); ++i)
      for (const LoadedVertex::Input& input : graph_.vertices[i].inputs) {
        uint32_t& user = users[input.vertex];
        if (graph_.vertices[input.vertex].inputs.empty() && user != i)
          user = user == kNone ? i : kMany;
      }
    for (uint32_t i = 0; i < users.size(); ++i) {
      if (users[i] >= kMany) continue;
      const auto of_user = map->locations.find(graph_.vertices[users[i]].info->digest);
      if (of_user == map->locations.end()) continue;
      const std::vector<SourceMap::Location> locations = of_user->second;  // the table may grow
      std::vector<SourceMap::Location>& own = map->locations[graph_.vertices[i].info->digest];
      if (own.empty()) own = locations;
    }
  }

  const pb::Definition& definition_;
  google::protobuf::Arena* const arena_;
  const absl::Span<const std::string> granted_;
  std::vector<Entry> entries_;
  std::vector<const std::string*> bytes_;                 // of each entry
  std::vector<const pb::OpMetadata*> metadata_;           // of each entry, or null
  LargeTable<Digest, uint32_t, DigestHash> by_received_;  // -> entry
  LargeTable<Digest, uint32_t, DigestHash> by_digest_;    // canonical -> vertex
  uint32_t terminal_ = 0;
  Sha256 sha256_;  // one for all: to make one costs as much as to hash a small op
  LoadedGraph graph_;
};

}  // namespace

absl::StatusOr<LoadedGraph> LoadDefinition(absl::string_view definition,
                                           absl::Span<const std::string> granted) {
  google::protobuf::Arena arena;
  auto* message = google::protobuf::Arena::CreateMessage<pb::Definition>(&arena);
  if (definition.size() > INT32_MAX ||
      !message->ParseFromArray(definition.data(), static_cast<int>(definition.size())))
    return Invalid("failed to load LLB: definition is no valid message");
  if (message->def_size() == 0 && message->metadata().empty()) return LoadedGraph();
  return Annotate(Loader(*message, &arena, granted).Load(), "failed to load LLB");
}

void ResolveOps(OpResolver& resolver, LoadedGraph* graph) {
  for (LoadedVertex& vertex : graph->vertices) {
    if (!vertex.info->linux_resources.empty()) continue;
    absl::StatusOr<std::shared_ptr<Op>> op = resolver.Resolve(vertex.op_bytes, *vertex.info);
    if (op.ok()) {
      vertex.op = *std::move(op);
    } else {
      vertex.op_status = std::move(op).status();
    }
    vertex.op_bytes = std::string();
  }
}

}  // namespace kiln::solver
