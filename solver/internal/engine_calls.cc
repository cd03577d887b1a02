#include <algorithm>
#include <utility>

#include "solver/internal/engine.h"
#include "solver/linux_resources.h"
#include "store/base/check.h"
#include "store/base/status_macros.h"

namespace kiln::solver {
namespace {

constexpr uint32_t kMaxRetries = 16;
// What a step is taken to last while nothing is known of it.
constexpr absl::Duration kUnknownMean = absl::Milliseconds(1);

}  // namespace

void Engine::RequestCacheMap(Vertex* vertex) {
  if (vertex->map_state != CallState::kIdle) return;  // its end lets the edges ask again
  Unmade* unmade = vertex->unmade.get();
  if (unmade != nullptr && !unmade->linux_resources.empty()) {
    // The jobs' limits are merged once, when the op is made.
    auto info = std::make_shared<VertexInfo>(*vertex->info);
    info->linux_resources = MergeLinuxResources(unmade->linux_resources);
    vertex->info = std::move(info);
  }
  if (unmade != nullptr && !unmade->error.ok()) {
    const absl::Status error =
        Describe(vertex, Annotate(unmade->error, "failed to load cache key"));
    Tell(vertex, action::Mark::kCompleted, error.message());
    return FailVertex(vertex, error);
  }
  vertex->map_state = CallState::kRunning;
  vertex->called_for = vertex->jobs.front()->id;
  ++vertex->outstanding;
  ++stats_.cache_maps;
  if (vertex->inputs.empty()) Tell(vertex, action::Mark::kKeys);
  Emit(action::MakeCacheMap{vertex, vertex->info, vertex->log, vertex->op,
                            unmade != nullptr ? unmade->op_bytes : std::string(),
                            static_cast<int>(vertex->maps.size()), vertex->jobs.front()->id});
}

void Engine::RequestContent(Vertex* vertex, uint32_t input, const ResultPtr& result) {
  InputContent& content = vertex->content[input];
  if (content.state != CallState::kIdle) return;
  content.state = CallState::kRunning;
  vertex->called_for = vertex->jobs.front()->id;
  ++vertex->outstanding;
  ++stats_.content_digests;
  Emit(action::ComputeContent{vertex, vertex->info, vertex->log, vertex->op, input, result,
                              vertex->jobs.front()->id});
}

// No edge of the vertex needs an answer any more. The calls wind down; who asks meanwhile waits for
// their end.
void Engine::CancelCalls(Vertex* vertex) {
  if (vertex->map_state == CallState::kRunning) {
    vertex->map_state = CallState::kCancelling;
    ++stats_.cancelled;
    Emit(action::CancelCacheMap{vertex});
  }
  for (uint32_t i = 0; i < vertex->content.size(); ++i) {
    if (vertex->content[i].state != CallState::kRunning) continue;
    vertex->content[i].state = CallState::kCancelling;
    ++stats_.cancelled;
    Emit(action::CancelContent{vertex, i});
  }
}

// Whether a call that failed is to be made again: a client was lost and another one is there.
bool Engine::RetryCall(Vertex* vertex, const absl::Status& error) {
  if (!IsSessionLost(error) || vertex->jobs.empty()) return false;
  if (vertex->jobs.front()->id == vertex->called_for && vertex->jobs.size() < 2) return false;
  if (++vertex->retries > kMaxRetries) return false;
  ++stats_.retried;
  return true;
}

void Engine::On(event::CacheMapDone& event) {
  Vertex* vertex = event.vertex;
  --vertex->outstanding;
  const CallState before = std::exchange(vertex->map_state, CallState::kIdle);
  const bool stale = std::exchange(vertex->map_stale, false);
  const auto wake = [&] {
    for (Edge& edge : vertex->edges)
      if (edge.search != nullptr) Enqueue(&edge);
    Doom(vertex);
  };
  if (stale || vertex->jobs.empty()) return wake();
  absl::Status error = event.map.status();
  if (event.op != nullptr && vertex->op == nullptr) {
    vertex->op = std::move(event.op);
    vertex->unmade = nullptr;
  }
  if (error.ok()) {
    if (event.map->inputs.size() != vertex->inputs.size())
      error = absl::InternalError("cache map does not fit the inputs of the op");
    if (!vertex->inputs.empty() && !event.map->final)
      error = absl::InternalError("an op with inputs has one cache map");
  }
  if (vertex->inputs.empty()) Tell(vertex, action::Mark::kKeysDone);
  if (!error.ok()) {
    if (before == CallState::kCancelling || RetryCall(vertex, error)) return wake();
    error = Describe(vertex, Annotate(error, "failed to load cache key"));
    Tell(vertex, action::Mark::kCompleted, error.message());
    return FailVertex(vertex, error);
  }
  vertex->mean_ns = absl::ToInt64Nanoseconds(
      vertex->op->TakesSlot() ? std::max(event.mean, kUnknownMean) : event.mean);
  vertex->maps.push_back(std::make_shared<const KnownMap>(*event.map));
  wake();
}

void Engine::On(event::ContentDone& event) {
  Vertex* vertex = event.vertex;
  --vertex->outstanding;
  InputContent* content =
      event.input < vertex->content.size() ? &vertex->content[event.input] : nullptr;
  KILN_CHECK(content != nullptr);
  const CallState before = std::exchange(content->state, CallState::kIdle);
  const bool stale = std::exchange(content->stale, false);
  const auto wake = [&] {
    for (Edge& edge : vertex->edges)
      if (edge.search != nullptr && !edge.search->inputs.empty()) MarkChanged(&edge, event.input);
    Doom(vertex);
  };
  if (stale || vertex->jobs.empty()) return wake();
  if (!event.digest.ok()) {
    if (before == CallState::kCancelling || RetryCall(vertex, event.digest.status())) return wake();
    const absl::Status error =
        Describe(vertex, Annotate(event.digest.status(), "failed to compute cache key"));
    Tell(vertex, action::Mark::kCompleted, error.message());
    return FailVertex(vertex, error);
  }
  content->state = CallState::kDone;
  content->key = store::CacheIndex::ContentKey(*event.digest);
  wake();
}

}  // namespace kiln::solver
