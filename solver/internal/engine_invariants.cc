#include <algorithm>

#include "absl/strings/str_cat.h"
#include "solver/internal/engine.h"
#include "store/base/check.h"

namespace kiln::solver {
namespace {

void CheckSearch(const Edge& edge) {
  const Search& search = *edge.search;
  const Vertex& vertex = *edge.vertex;
  uint32_t not_fast = 0, unsettled = 0, incomplete = 0, content_missing = 0, querying = 0;
  uint32_t bare = 0, common = 0;
  for (uint32_t i = 0; i < search.inputs.size(); ++i) {
    const InputSearch& in = search.inputs[i];
    not_fast += in.fast_over ? 0 : 1;
    unsettled += in.settled ? 0 : 1;
    incomplete += in.complete ? 0 : 1;
    querying += in.querying ? 1 : 0;
    bare += in.bare ? 1 : 0;
    const bool none = search.finds == nullptr || search.finds->candidates.empty() ||
                      search.finds->candidates[i].empty();
    KILN_CHECK(in.bare == none);
    common += in.common ? 1 : 0;
    if (search.map_known && vertex.maps[0]->input(i).content_key && !in.content_over)
      ++content_missing;
    KILN_CHECK(in.edge->vertex == vertex.inputs[i].vertex);
    if (in.want == Level::kNone) continue;
    KILN_CHECK(in.slot < in.edge->consumers.size());
    KILN_CHECK(in.edge->consumers[in.slot].edge() == &edge);
    KILN_CHECK(in.edge->consumers[in.slot].input() == i);
  }
  KILN_CHECK(not_fast == search.not_fast);
  KILN_CHECK(unsettled == search.unsettled);
  KILN_CHECK(incomplete == search.incomplete);
  KILN_CHECK(content_missing == search.content_missing);
  KILN_CHECK(bare == search.bare);
  KILN_CHECK(common == search.common);
  KILN_CHECK(querying + (search.matching ? 1 : 0) <= search.pending);
  KILN_CHECK(search.changed.empty() || !search.map_known);
}

void CheckEdge(const Edge& edge) {
  uint32_t wants[4] = {0, 0, 0, 0};
  for (const Consumer& consumer : edge.consumers) {
    Level want = Level::kComplete;
    if (consumer.edge() != nullptr) want = consumer.edge()->search->inputs[consumer.input()].want;
    if (consumer.request() != nullptr) want = consumer.request()->level;
    ++wants[static_cast<int>(want)];
  }
  int level = 3;
  while (level > 0 && wants[level] == 0) --level;
  KILN_CHECK(std::equal(wants, wants + 4, edge.wants));
  KILN_CHECK(level == static_cast<int>(edge.level));
  KILN_CHECK(!edge.queued);
  KILN_CHECK((edge.waiting_on != nullptr) == (edge.state == EdgeState::kExecuting));
  switch (edge.state) {
    case EdgeState::kIdle:
      KILN_CHECK(edge.level == Level::kNone && edge.search == nullptr);
      return;
    case EdgeState::kComplete:
    case EdgeState::kFailed:
      // Whoever wanted a failed edge has failed with it.
      KILN_CHECK(edge.search == nullptr);
      KILN_CHECK(edge.state == EdgeState::kComplete || edge.consumers.empty());
      return;
    case EdgeState::kExecuting: {
      const auto& waiting = edge.waiting_on->waiting;
      ptrdiff_t times = std::count(waiting.begin(), waiting.end(), &edge);
      if (const Run* run = edge.waiting_on->run)
        times += std::count(run->blocked.begin(), run->blocked.end(), &edge);
      KILN_CHECK(times == 1);
      KILN_CHECK(edge.level == Level::kComplete);
      break;
    }
    case EdgeState::kLoading:
      KILN_CHECK(edge.vertex->outstanding > 0);
      break;
    case EdgeState::kPreparing:
      KILN_CHECK(edge.level == Level::kComplete);
      break;
    case EdgeState::kSearching:
      break;
  }
  KILN_CHECK(edge.level != Level::kNone && edge.search != nullptr);
  CheckSearch(edge);
}

void CheckExecution(const Execution& x) {
  switch (x.state) {
    case ExecutionState::kWaiting:
    case ExecutionState::kRunning:
    case ExecutionState::kNested:
      KILN_CHECK(!x.waiting.empty() && !x.table.empty() && x.run != nullptr);
      KILN_CHECK(x.run->leader->leading == &x);
      break;
    case ExecutionState::kCancelling:
      KILN_CHECK(x.run != nullptr && x.outstanding > 0 && x.waiting.empty() && x.vertices.empty());
      break;
    case ExecutionState::kDone:
      KILN_CHECK(x.run == nullptr);
      KILN_CHECK(!x.vertices.empty() || x.outstanding > 0);
      break;
  }
  for (const Vertex* vertex : x.vertices) KILN_CHECK(vertex->execution == &x);
}

}  // namespace

void Engine::CheckInvariants() const {
  KILN_CHECK(queue_.empty() && finished_.empty() && nested_ready_.empty() && doomed_.empty());
  size_t twins = 0;
  for (Vertex* vertex : vertices_) {
    twins += vertex->is_twin ? 1 : 0;
    KILN_CHECK(vertices_.Find(vertex->identity) == vertex);
    // Nothing is kept that neither a job nor an answer that is due needs.
    KILN_CHECK(!vertex->jobs.empty() || vertex->outstanding > 0);
    uint32_t active = 0;
    for (const Edge& edge : vertex->edges) {
      CheckEdge(edge);
      active += edge.search != nullptr ? 1 : 0;
    }
    KILN_CHECK(active == vertex->active_edges);
    // A call runs only while somebody needs its answer.
    KILN_CHECK(vertex->map_state != CallState::kRunning || active > 0);
    for (const InputContent& content : vertex->content)
      KILN_CHECK(content.state != CallState::kRunning || active > 0);
    // Who holds a vertex holds its inputs.
    for (const VertexInput& input : vertex->inputs)
      for (const JobState* job : vertex->jobs)
        KILN_CHECK(std::find(input.vertex->jobs.begin(), input.vertex->jobs.end(), job) !=
                   input.vertex->jobs.end());
  }
  KILN_CHECK(twins == twins_);
  for (size_t i = 0; i < executions_.size(); ++i) {
    KILN_CHECK(executions_[i]->place == i);
    CheckExecution(*executions_[i]);
  }
  for (const auto& [id, job] : jobs_) {
    for (const auto& [request_id, request] : job->requests) {
      KILN_CHECK(request->slot < request->edge->consumers.size());
      KILN_CHECK(request->edge->consumers[request->slot].request() == request.get());
    }
  }
}

std::string Engine::Dump() const {
  std::string out;
  for (Vertex* vertex : vertices_) {
    absl::StrAppend(&out, vertex->info->name, vertex->info->ignore_cache ? " ignore" : "",
                    " jobs=", vertex->jobs.size(), " outstanding=", vertex->outstanding,
                    " map=", static_cast<int>(vertex->map_state), "/", vertex->maps.size());
    if (vertex->execution != nullptr)
      absl::StrAppend(&out, " execution=", static_cast<int>(vertex->execution->state));
    if (vertex->leading != nullptr)
      absl::StrAppend(&out, " leading=", static_cast<int>(vertex->leading->state));
    absl::StrAppend(&out, "\n");
    for (const Edge& edge : vertex->edges) {
      absl::StrAppend(&out, "  ", edge.output, " state=", static_cast<int>(edge.state),
                      " level=", static_cast<int>(edge.level), edge.fast_done ? " fast" : "",
                      edge.slow_done ? " slow" : "", " keys=", edge.keys.size());
      if (edge.search == nullptr) {
        absl::StrAppend(&out, "\n");
        continue;
      }
      const Search& search = *edge.search;
      absl::StrAppend(&out, " pending=", search.pending, " unsettled=", search.unsettled,
                      " incomplete=", search.incomplete, " content=", search.content_missing,
                      search.dead ? " dead" : "", search.widened ? " widened" : "", "\n");
      for (const InputSearch& in : search.inputs) {
        absl::StrAppend(&out, "    <- ", in.edge->vertex->info->name, ".", in.edge->output,
                        " want=", static_cast<int>(in.want), " stage=", static_cast<int>(in.stage),
                        in.settled ? " settled" : "", in.complete ? " complete" : "",
                        in.content_over ? " content_over" : "", in.querying ? " querying" : "",
                        in.bare ? " bare" : "", "\n");
      }
    }
  }
  return out;
}

}  // namespace kiln::solver
