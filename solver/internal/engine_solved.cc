#include <utility>

#include "solver/internal/engine.h"

namespace kiln::solver {

// The vertices are found as a build would find them, which makes none: the job holds them all.
absl::StatusOr<SolvedGraph> Engine::Solved(JobId id, LoadedGraph& graph, absl::Time now,
                                           std::vector<Action>* actions) {
  const auto it = jobs_.find(id);
  if (it == jobs_.end()) return absl::CancelledError("context canceled");
  if (!it->second->cancelled.ok()) return it->second->cancelled;
  now_ = std::max(now_, now);
  actions_ = actions;
  JobState* const jobs[] = {it->second.get()};
  const std::vector<Vertex*> vertices = Register(graph, jobs, 0);
  actions_ = nullptr;

  SolvedGraph solved;
  solved.imports = graph.imports;
  absl::flat_hash_map<const Edge*, uint32_t> places;
  std::vector<std::pair<Edge*, size_t>> stack;  // with the next input to look at
  stack.emplace_back(EdgeOf(vertices[graph.root], graph.root_output), 0);
  while (!stack.empty()) {
    auto& [edge, next] = stack.back();
    const Vertex* vertex = edge->vertex;
    if (places.contains(edge)) {
      stack.pop_back();
      continue;
    }
    if (next < vertex->inputs.size()) {
      const VertexInput& input = vertex->inputs[next++];
      stack.emplace_back(EdgeOf(input.vertex, input.output), 0);
      continue;
    }
    places.emplace(edge, static_cast<uint32_t>(solved.edges.size()));
    SolvedGraph::Edge& out = solved.edges.emplace_back();
    out.info = vertex->info;
    out.output = edge->output;
    out.complete = edge->state == EdgeState::kComplete;
    out.result = edge->result;
    for (const auto& map : vertex->maps) out.op_digests.push_back(map->op_digest());
    for (const EdgeKey& key : edge->keys) {
      out.keys.push_back(key.id);
      if (out.complete && edge->IsOfResult(key)) out.result_keys.push_back(key.id);
    }
    for (size_t i = 0; i < vertex->inputs.size(); ++i) {
      const VertexInput& input = vertex->inputs[i];
      SolvedGraph::Input& in = out.inputs.emplace_back();
      in.edge = places.at(EdgeOf(input.vertex, input.output));
      if (!vertex->maps.empty()) in.selector = vertex->maps[0]->input(i).selector;
      if (!vertex->content.empty() && vertex->content[i].state == CallState::kDone)
        in.content = vertex->content[i].key;
    }
    stack.pop_back();
  }
  return solved;
}

}  // namespace kiln::solver
