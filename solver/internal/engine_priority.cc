#include <algorithm>

#include "solver/internal/engine.h"

namespace kiln::solver {

// The longest way from each vertex to a root, in mean durations of earlier executions. One pass
// over the vertices of every job, consumers before inputs.
void Engine::UpdatePaths() {
  for (const auto& [id, job] : jobs_) {
    for (Vertex* vertex : job->vertices) vertex->path = vertex->mean;
  }
  for (const auto& [id, job] : jobs_) {
    for (auto it = job->vertices.rbegin(); it != job->vertices.rend(); ++it) {
      for (const VertexInput& input : (*it)->inputs)
        input.vertex->path = std::max(input.vertex->path, input.vertex->mean + (*it)->path);
    }
  }
}

}  // namespace kiln::solver
