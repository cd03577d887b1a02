#include "solver/internal/engine.h"

#include <algorithm>
#include <utility>

#include "proto/status_details.h"
#include "store/base/check.h"
#include "store/base/status_macros.h"

namespace kiln::solver {

Engine::Engine(uint32_t slots, size_t burst) : scheduler_(slots), burst_(burst) {}
Engine::~Engine() {
  for (Vertex* vertex : vertices_)
    for (Edge& edge : vertex->edges)
      if (edge.search != nullptr) searches_.Delete(edge.search);
  for (Execution* x : executions_) {
    if (x->run != nullptr) runs_.Delete(x->run);
    execution_pool_.Delete(x);
  }
}

void Engine::Step(Event event, absl::Time now, std::vector<Action>* actions) {
  now_ = std::max(now_, now);
  actions_ = actions;
  std::visit([this](auto& e) { On(e); }, event);
  actions_ = nullptr;
}

void Engine::Continue(absl::Time now, std::vector<Action>* actions) {
  now_ = std::max(now_, now);
  actions_ = actions;
  RunQueue(actions->size() + burst_);
  actions_ = nullptr;
}

bool Engine::busy() const {
  return !queue_.empty() || !nested_ready_.empty() || !finished_.empty() ||
         scheduler_.has_started() || !doomed_.empty() || !held_.empty();
}

// What came last is done first, so that a vertex is gone through with while it is in the cache.
void Engine::RunQueue(size_t enough) {
  while (actions_->size() < enough) {
    if (Execution* started = scheduler_.TakeStarted()) {
      Start(started);
    } else if (!queue_.empty()) {
      Edge* edge = queue_.back();
      queue_.pop_back();
      edge->queued = false;
      Evaluate(edge);
    } else if (!nested_ready_.empty()) {
      Execution* execution = nested_ready_.back();
      nested_ready_.pop_back();
      OnNestedRoot(execution);
    } else if (!finished_.empty()) {
      Request* request = finished_.back();
      finished_.pop_back();
      FinishRequest(request);
    } else {
      return Sweep();
    }
  }
}

// For what may only happen when everything earlier is done and told.
void Engine::Settle() { RunQueue(SIZE_MAX); }

Edge* Engine::EdgeOf(Vertex* vertex, int32_t output) {
  return vertex->edges.FindOrMake(vertex, output);
}

void Engine::Enqueue(Edge* edge) {
  if (edge->queued) return;
  edge->queued = true;
  queue_.push_back(edge);
}

uint32_t Engine::Attach(Edge* edge, const Consumer& consumer, Level level) {
  edge->consumers.push_back(consumer);
  ++edge->wants[static_cast<int>(level)];
  UpdateLevel(edge);
  return static_cast<uint32_t>(edge->consumers.size() - 1);
}

void Engine::Detach(Edge* edge, uint32_t slot, Level level) {
  if (slot + 1 != edge->consumers.size()) {
    const Consumer& moved = edge->consumers[slot] = edge->consumers.back();
    if (moved.edge() != nullptr) {
      moved.edge()->search->inputs[moved.input()].slot = slot;
    } else if (moved.request() != nullptr) {
      moved.request()->slot = slot;
    } else {
      moved.nesting()->run->nested_slot = slot;
    }
  }
  edge->consumers.pop_back();
  --edge->wants[static_cast<int>(level)];
  UpdateLevel(edge);
}

void Engine::UpdateLevel(Edge* edge) {
  int level = 3;
  while (level > 0 && edge->wants[level] == 0) --level;
  if (edge->level == static_cast<Level>(level)) return;
  edge->level = static_cast<Level>(level);
  if (edge->state != EdgeState::kComplete && edge->state != EdgeState::kFailed) Enqueue(edge);
}

void Engine::SetWant(Edge* consumer, uint32_t input, Level want) {
  InputSearch& in = consumer->search->inputs[input];
  if (in.want == want) return;
  const Level before = std::exchange(in.want, want);
  if (before == Level::kNone) {
    in.slot = Attach(in.edge, Consumer(consumer, input), want);
  } else if (want == Level::kNone) {
    Detach(in.edge, in.slot, before);
  } else {
    --in.edge->wants[static_cast<int>(before)];
    ++in.edge->wants[static_cast<int>(want)];
    UpdateLevel(in.edge);
  }
}

void Engine::RaiseWant(Edge* consumer, uint32_t input, Level want) {
  SetWant(consumer, input, std::max(want, consumer->search->inputs[input].want));
}

void Engine::MarkChanged(Edge* edge, uint32_t input) {
  InputSearch& in = edge->search->inputs[input];
  if (!in.changed) {
    in.changed = true;
    edge->search->changed.push_back(input);
  }
  Enqueue(edge);
}

void Engine::MarkAllChanged(Edge* edge) {
  for (uint32_t i = 0; i < edge->search->inputs.size(); ++i) MarkChanged(edge, i);
}

// Tells every consumer that there is something new about the edge.
void Engine::Notify(Edge* edge) {
  const bool over = edge->state == EdgeState::kComplete || edge->state == EdgeState::kFailed;
  for (auto it = edge->consumers.rbegin(); it != edge->consumers.rend(); ++it) {
    const Consumer& consumer = *it;
    if (consumer.edge() != nullptr) {
      MarkChanged(consumer.edge(), consumer.input());
    } else if (over && consumer.request() != nullptr) {
      finished_.push_back(consumer.request());
    } else if (over) {
      nested_ready_.push_back(consumer.nesting());
    }
  }
}

void Engine::AddKey(Edge* edge, EdgeKey key) {
  key.random = edge->vertex->inputs.empty() && edge->vertex->maps[0]->random();
  for (EdgeKey& known : edge->keys) {
    if (known.id != key.id) continue;
    if (known.probe || !key.probe) return;
    known = key;  // consumers that saw it before did not look it up
    for (const Consumer& consumer : edge->consumers) {
      if (consumer.edge() == nullptr) continue;
      consumer.edge()->search->inputs[consumer.input()].keys_seen = 0;
      MarkChanged(consumer.edge(), consumer.input());
    }
    return;
  }
  edge->keys.push_back(key);
  Notify(edge);
}

void Engine::DropSearch(Edge* edge) {
  if (edge->search == nullptr) return;
  ++edge->epoch;
  for (uint32_t i = 0; i < edge->search->inputs.size(); ++i) SetWant(edge, i, Level::kNone);
  searches_.Delete(std::exchange(edge->search, nullptr));
  if (--edge->vertex->active_edges == 0) CancelCalls(edge->vertex);
}

void Engine::Complete(Edge* edge, ResultPtr result) {
  StopWaiting(edge);
  edge->state = EdgeState::kComplete;
  edge->result = std::move(result);
  edge->fast_done = edge->slow_done = true;
  DropSearch(edge);
  Notify(edge);
}

void Engine::Fail(Edge* edge, const absl::Status& error) {
  StopWaiting(edge);
  edge->state = EdgeState::kFailed;
  edge->error = error;
  DropSearch(edge);
  Notify(edge);
}

// Nobody wants the edge any more: it forgets how far it got, but not the keys it has.
void Engine::Suspend(Edge* edge) {
  StopWaiting(edge);
  edge->state = EdgeState::kIdle;
  edge->fast_done = edge->slow_done = false;
  DropSearch(edge);
}

void Engine::FailVertex(Vertex* vertex, const absl::Status& error) {
  ++stats_.failed;
  vertex->error = error;
  for (Edge& edge : vertex->edges)
    if (edge.search != nullptr) Fail(&edge, error);
}

absl::Status Engine::Describe(const Vertex* vertex, absl::Status error) const {
  AddVertexDetail(vertex->info->digest.ToString(), &error);
  return error;
}

void Engine::Tell(Vertex* vertex, action::Mark mark, absl::string_view error) {
  Emit(action::Progress{vertex->log, mark, now_, std::string(error)});
}

}  // namespace kiln::solver
