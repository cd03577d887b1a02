#include <algorithm>

#include "solver/internal/engine.h"

namespace kiln::solver {

// The longest way from each vertex to a root, in mean durations of earlier executions. One pass
// over the vertices of every job, consumers before inputs; done only while executions wait for a
// slot, and not before as much has changed as an eighth of the graph, so that its cost is a
// constant for each execution.
void Engine::UpdatePathsIfWorthwhile() {
  ++path_changes_;
  if (!scheduler_.Full() || path_changes_ < vertices_.size() / 8) return;
  path_changes_ = 0;
  for (Vertex* vertex : vertices_) vertex->path_ns = vertex->mean_ns;
  for (const auto& [id, job] : jobs_) {
    for (auto it = job->vertices.rbegin(); it != job->vertices.rend(); ++it) {
      for (const VertexInput& input : (*it)->inputs)
        input.vertex->path_ns =
            std::max(input.vertex->path_ns, input.vertex->mean_ns + (*it)->path_ns);
    }
  }
}

}  // namespace kiln::solver
