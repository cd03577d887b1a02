#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "solver/internal/engine.h"
#include "solver/internal/source_details.h"
#include "store/base/check.h"
#include "store/base/status_macros.h"

namespace kiln::solver {
namespace {

constexpr uint32_t kMaxDepth = 64;  // of nested definitions
constexpr uint64_t kMaxTombs = 1'000'000;

// Whether keys of its inputs find nothing. What ran on those may have been saved under a node of
// earlier results, which are not what its consumers are to be built on.
bool StandsOnIgnored(const Vertex& vertex) {
  for (const VertexInput& input : vertex.inputs)
    if (const Edge* edge = input.vertex->edges.Find(input.output))
      for (const EdgeKey& key : edge->keys)
        if (!key.probe) return true;
  return false;
}

}  // namespace

// Everything known of the vertex's inputs: what its result is saved under, or with `probe_only`
// what an equal execution may be found by; `left_out` is set when that is less.
KeySets Engine::KeysOf(const Vertex* vertex, bool probe_only, bool* left_out) const {
  KeySets keys(vertex->inputs.size());
  for (size_t i = 0; i < vertex->inputs.size(); ++i) {
    const VertexInput& input = vertex->inputs[i];
    const bool by_content =
        !vertex->content.empty() && vertex->content[i].state == CallState::kDone;
    if (const Edge* edge = input.vertex->edges.Find(input.output)) {
      for (const EdgeKey& key : edge->keys) {
        if (!edge->IsOfResult(key) || (key.random && by_content)) continue;
        if (key.probe || !probe_only) {
          keys.Add(i, key.id, /*selected=*/true);
        } else {
          *left_out = true;
        }
      }
    }
    if (by_content) keys.Add(i, vertex->content[i].key, /*selected=*/false);
  }
  return keys;
}

// The edge has all its inputs and nothing cached.
void Engine::TryExecute(Edge* edge) {
  Vertex* vertex = edge->vertex;
  if (vertex->execution != nullptr) {
    if (vertex->execution->state == ExecutionState::kDone)
      return TakeOutput(edge, vertex->execution);
    return Wait(edge, vertex->execution);
  }
  bool left_out = false;
  KeySets keys = KeysOf(vertex, /*probe_only=*/true, &left_out);
  table_.Prefetch(vertex->maps, keys);
  Execution* equal =
      table_.Find(vertex->maps, keys, [&](const Execution& x) { return MayFollow(edge, x); });
  if (equal != nullptr) {
    if (equal->state == ExecutionState::kCancelling) return Block(edge, equal);
    Follow(vertex, equal);
    if (equal->state == ExecutionState::kDone) return TakeOutput(edge, equal);
    return Wait(edge, equal);
  }
  // Its own earlier call still winds down, or runs for others under keys that it no longer has.
  if (vertex->leading != nullptr) return Block(edge, vertex->leading);
  if (!vertex->ignore_cache && table_.SavedSince(vertex->maps, keys, edge->search->looked_up))
    return LookUpAgain(edge);
  if (left_out) keys = KeysOf(vertex, /*probe_only=*/false, &left_out);
  Lead(edge, std::move(keys));
}

bool Engine::MayFollow(const Edge* edge, const Execution& execution) const {
  if (edge->vertex->ignore_cache) {
    if (!execution.ignore_cache || execution.state == ExecutionState::kDone) return false;
  }
  // A leader has all its inputs, so it cannot wait for a follower, unless it waits for a definition
  // that it made.
  if (execution.state == ExecutionState::kNested && execution.run->nested_root != nullptr) {
    Vertex* const self[] = {edge->vertex};
    return !Reaches(execution.run->nested_root, self);
  }
  return true;
}

// Whether `from` may have to wait for one of `to`.
bool Engine::Reaches(const Edge* from, absl::Span<Vertex* const> to) const {
  absl::flat_hash_set<const Vertex*> seen;
  std::vector<const Vertex*> stack = {from->vertex};
  while (!stack.empty()) {
    const Vertex* vertex = stack.back();
    stack.pop_back();
    if (!seen.insert(vertex).second) continue;
    if (std::find(to.begin(), to.end(), vertex) != to.end()) return true;
    for (const VertexInput& input : vertex->inputs) stack.push_back(input.vertex);
    for (const Execution* x : {vertex->execution, vertex->leading})
      if (x != nullptr && x->run != nullptr && x->run->nested_root != nullptr)
        stack.push_back(x->run->nested_root->vertex);
  }
  return false;
}

void Engine::Lead(Edge* edge, KeySets keys) {
  Vertex* vertex = edge->vertex;
  Execution* x = executions_.emplace_back(execution_pool_.New());
  x->place = static_cast<uint32_t>(executions_.size() - 1);
  x->run = runs_.New();
  Run& run = *x->run;
  run.leader = vertex;
  run.info = vertex->info;
  run.op = vertex->op;
  x->log = vertex->log;
  x->vertices.push_back(vertex);
  vertex->execution = vertex->leading = x;
  ++vertex->outstanding;
  x->ignore_cache = vertex->ignore_cache;
  x->maps = vertex->maps;
  x->all_fresh = !x->ignore_cache && keys.inputs() > 0;
  run.inputs.reserve(vertex->inputs.size());
  for (size_t i = 0; i < vertex->inputs.size(); ++i) {
    const Edge* input = EdgeOf(vertex->inputs[i].vertex, vertex->inputs[i].output);
    run.inputs.push_back(input->result);
    for (const EdgeKey& key : input->keys) x->all_fresh = x->all_fresh && key.probe;
  }
  x->keys = std::move(keys);
  table_.Add(x);
  run.takes_slot = vertex->op->TakesSlot();
  run.locks = vertex->op->Resources();
  std::sort(run.locks.begin(), run.locks.end(), [](const auto& a, const auto& b) {
    return a.name != b.name ? a.name < b.name : a.exclusive > b.exclusive;
  });
  run.locks.erase(std::unique(run.locks.begin(), run.locks.end(),
                              [](const auto& a, const auto& b) { return a.name == b.name; }),
                  run.locks.end());
  Wait(edge, x);
  if (run.takes_slot) UpdatePathsIfWorthwhile();
  scheduler_.Enqueue(x, JobsOf(x));
}

// Takes part in an equal execution: its jobs' interest, its sessions and its progress.
void Engine::Follow(Vertex* vertex, Execution* x) {
  const bool own = vertex->log == x->log;  // its own call, cancelled but finished all the same
  vertex->execution = x;
  x->vertices.push_back(vertex);
  if (!own) {
    x->shared = true;
    ++stats_.followed;
    Emit(action::Follow{x->log, vertex->log});
  }
  for (JobState* job : vertex->jobs) {
    job->stats.followed += own ? 0 : 1;
    if (x->state == ExecutionState::kWaiting || x->state == ExecutionState::kRunning)
      scheduler_.AddJob(x, job);
    if (x->run == nullptr) continue;
    Logs logs;
    for (size_t i = 0; i < x->run->nested_vertices.size(); ++i)
      AddJob(x->run->nested_vertices[i], job, &logs);
    if (!logs.empty()) Emit(action::Subscribe{job->id, std::move(logs)});
  }
  if (x->state != ExecutionState::kWaiting) {
    Tell(vertex, action::Mark::kStarted);
    if (x->state == ExecutionState::kDone) Tell(vertex, action::Mark::kCompleted);
  }
}

void Engine::Wait(Edge* edge, Execution* x) {
  edge->state = EdgeState::kExecuting;
  edge->waiting_on = x;
  x->waiting.push_back(edge);
}

void Engine::Block(Edge* edge, Execution* x) {
  edge->state = EdgeState::kExecuting;
  edge->waiting_on = x;
  x->run->blocked.push_back(edge);
}

void Engine::StopWaiting(Edge* edge) {
  Execution* x = std::exchange(edge->waiting_on, nullptr);
  if (x == nullptr) return;
  if (edge->state == EdgeState::kExecuting) edge->state = EdgeState::kPreparing;
  const auto leave = [edge](auto& list) {
    const auto it = std::find(list.begin(), list.end(), edge);
    if (it == list.end()) return false;
    *it = list.back();
    list.pop_back();
    return true;
  };
  if (leave(x->waiting)) {
    if (x->waiting.empty()) Abandon(x);
  } else {
    leave(x->run->blocked);
  }
}

Engine::JobList Engine::JobsOf(const Execution* x) const {
  JobList jobs;
  for (const Vertex* vertex : x->vertices)
    for (JobState* job : vertex->jobs)
      if (std::find(jobs.begin(), jobs.end(), job) == jobs.end()) jobs.push_back(job);
  return jobs;
}

void Engine::Start(Execution* x) {
  x->state = ExecutionState::kRunning;
  ++x->outstanding;
  ++stats_.executions;
  const JobList jobs = JobsOf(x);
  x->run->started_for.clear();
  for (JobState* job : jobs) {
    x->run->started_for.push_back(job->id);
    ++job->stats.executed;
  }
  for (Vertex* vertex : x->vertices) Tell(vertex, action::Mark::kStarted);
  Emit(action::Execute{x, x->run->info, x->log, x->run->op, x->run->inputs, jobs.front()->id});
}

// No edge waits for the execution any more.
void Engine::Abandon(Execution* x) {
  switch (x->state) {
    case ExecutionState::kWaiting:
      return End(x);
    case ExecutionState::kRunning:
      ++stats_.cancelled;
      Emit(action::CancelExecute{x});
      break;
    case ExecutionState::kNested:
      if (x->outstanding == 0) return End(x);  // only waits for its nested root
      break;
    case ExecutionState::kCancelling:
    case ExecutionState::kDone:
      return;
  }
  x->state = ExecutionState::kCancelling;
  for (Vertex* vertex : x->vertices) {
    vertex->execution = nullptr;
    Tell(vertex, action::Mark::kCompleted, "context canceled");
  }
  x->vertices.clear();
}

// The execution is over without an outcome, or its outcome is not wanted.
void Engine::End(Execution* x) {
  scheduler_.Release(x);
  CloseNested(x);
  table_.Remove(x);
  if (x->shared) Emit(action::Unfollow{x->log});
  for (Vertex* vertex : x->vertices) vertex->execution = nullptr;
  x->vertices.clear();
  CloseRun(x);
  MaybeDelete(x);
}

// The leader is free to lead again, and so are those that waited for the call to end.
void Engine::CloseRun(Execution* x) {
  x->state = ExecutionState::kDone;
  Run* const run = std::exchange(x->run, nullptr);
  run->leader->leading = nullptr;
  --run->leader->outstanding;
  Doom(run->leader);
  for (Edge* edge : run->blocked) {
    edge->waiting_on = nullptr;
    edge->state = EdgeState::kPreparing;
    Enqueue(edge);
  }
  runs_.Delete(run);
}

void Engine::MaybeDelete(Execution* x) {
  if (!x->vertices.empty() || x->outstanding > 0 || !x->waiting.empty() || x->run != nullptr)
    return;
  if (!x->table.empty()) {
    table_.Remove(x);
    if (x->save_clock > 0 && ++tombs_ > kMaxTombs) {
      table_.ForgetSaves(clock_);
      tombs_ = 0;
    }
  }
  const uint32_t place = x->place;
  executions_[place] = executions_.back();
  executions_[place]->place = place;
  executions_.pop_back();
  execution_pool_.Delete(x);
}

void Engine::LeaveExecution(Vertex* vertex) {
  Execution* x = std::exchange(vertex->execution, nullptr);
  if (x == nullptr) return;
  x->vertices.erase(std::remove(x->vertices.begin(), x->vertices.end(), vertex), x->vertices.end());
  MaybeDelete(x);
}

void Engine::On(event::ExecuteDone& event) {
  Execution* x = event.execution;
  --x->outstanding;
  x->took = event.took;
  const bool cancelled = x->state == ExecutionState::kCancelling;
  scheduler_.Release(x);
  if (!event.result.ok()) {
    if (cancelled) return End(x);
    if (RetryExecution(x, event.result.status())) return;
    return FailExecution(x, event.result.status());
  }
  if (cancelled) {
    // It was faster than its cancellation. Its result is good for equals that came meanwhile.
    if (x->run->blocked.empty() || event.result->nested_definition.has_value()) return End(x);
    ++x->outstanding;  // until they have looked for it
    held_.push_back(x);
  }
  if (!event.result->nested_definition.has_value())
    return FinishExecution(x, std::move(event.result->outputs));
  x->state = ExecutionState::kNested;
  ++x->outstanding;
  action::LoadNested load{x, *std::move(event.result->nested_definition), {}};
  for (const JobState* job : JobsOf(x))
    load.entitlements.insert(load.entitlements.end(), job->entitlements.begin(),
                             job->entitlements.end());
  Emit(std::move(load));
}

void Engine::FinishExecution(Execution* x, std::vector<ResultPtr> outputs) {
  CloseNested(x);
  if (x->shared) Emit(action::Unfollow{x->log});
  x->outputs.resize(outputs.size());
  for (size_t i = 0; i < outputs.size(); ++i) x->outputs[i].result = std::move(outputs[i]);
  CloseRun(x);
  for (Vertex* vertex : x->vertices) Tell(vertex, action::Mark::kCompleted);
  const auto waiting = std::move(x->waiting);
  x->waiting.clear();
  for (Edge* edge : waiting) {
    edge->waiting_on = nullptr;
    TakeOutput(edge, x);
  }
  MaybeDelete(x);
}

void Engine::TakeOutput(Edge* edge, Execution* x) {
  if (static_cast<size_t>(edge->output) >= x->outputs.size()) {
    return Fail(
        edge, Describe(edge->vertex, absl::UnknownError(absl::StrCat(
                                         "invalid response from exec need ", edge->output,
                                         " index but ", x->outputs.size(), " results received"))));
  }
  ExecutionOutput& output = x->outputs[edge->output];
  if (output.save != SaveState::kSaved) {
    Wait(edge, x);
    if (output.save == SaveState::kSaving) return;
    output.save = SaveState::kSaving;
    ++x->outstanding;
    return Emit(action::Save{x, static_cast<uint32_t>(edge->output), &x->maps, &x->keys,
                             output.result, std::exchange(x->took, absl::ZeroDuration()), now_});
  }
  const bool sound = x->all_fresh && !x->shared;  // then all keys that led here find something
  const bool probe = !edge->vertex->ignore_cache && (sound || !StandsOnIgnored(*edge->vertex));
  for (const EdgeKey& node : output.nodes) AddKey(edge, {node.id, node.fresh, probe});
  if (x->shared && !output.nodes.empty()) {
    // A follower teaches the index those of its keys that the leader did not have.
    bool left_out = false;
    KeySets keys = KeysOf(edge->vertex, /*probe_only=*/false, &left_out);
    const auto known = [x](const KeySets::Key& key) { return x->keys.Contains(key); };
    if (keys.inputs() != x->keys.inputs() ||
        !std::all_of(keys.all().begin(), keys.all().end(), known))
      Emit(action::Link{x->maps[0], edge->output, std::move(keys), output.nodes[0].id});
  }
  Complete(edge, output.result);
}

void Engine::On(event::SaveDone& event) {
  Execution* x = event.execution;
  --x->outstanding;
  ExecutionOutput& output = x->outputs[event.output];
  absl::InlinedVector<Edge*, 1> ready;
  for (size_t i = 0; i < x->waiting.size();) {
    if (x->waiting[i]->output != static_cast<int32_t>(event.output)) {
      ++i;
      continue;
    }
    ready.push_back(x->waiting[i]);
    x->waiting[i] = x->waiting.back();
    x->waiting.pop_back();
  }
  for (Edge* edge : ready) edge->waiting_on = nullptr;
  if (!event.nodes.ok()) {
    output.save = SaveState::kUnsaved;
    for (Edge* edge : ready)
      Fail(edge, Describe(edge->vertex, Annotate(event.nodes.status(), "failed to save result")));
    return MaybeDelete(x);
  }
  output.save = SaveState::kSaved;
  x->save_clock = ++clock_;
  table_.Saved(*x);
  for (const store::KeyId& node : *event.nodes) {
    EdgeKey key{node, x->all_fresh ? clock_ : 0};
    for (const Edge* edge : ready)
      for (const EdgeKey& known : edge->keys)
        if (known.id == node) key.fresh = 0;
    output.nodes.push_back(key);
  }
  for (Edge* edge : ready) TakeOutput(edge, x);
  MaybeDelete(x);
}

bool Engine::RetryExecution(Execution* x, const absl::Status& error) {
  if (!IsSessionLost(error)) return false;
  Run& run = *x->run;
  const JobList jobs = JobsOf(x);
  const auto& before = run.started_for;
  const auto is_new = [&](const JobState* job) {
    return std::find(before.begin(), before.end(), job->id) == before.end();
  };
  const bool others = jobs.size() > 1 || std::any_of(jobs.begin(), jobs.end(), is_new) ||
                      before.size() > jobs.size();
  if (!others || run.retries >= before.size() + 1) return false;
  ++run.retries;
  ++stats_.retried;
  x->state = ExecutionState::kWaiting;
  scheduler_.Enqueue(x, jobs);
  return true;
}

// Every waiter gets the same text; the detail names the vertex as the waiter knows it.
void Engine::FailExecution(Execution* x, const absl::Status& error) {
  const auto vertices = std::move(x->vertices);
  x->vertices.clear();
  for (Vertex* vertex : vertices) vertex->execution = nullptr;
  for (Edge* edge : x->waiting) edge->waiting_on = nullptr;
  x->waiting.clear();
  End(x);
  for (Vertex* vertex : vertices) {
    Tell(vertex, action::Mark::kCompleted, error.message());
    FailVertex(vertex, Describe(vertex, error));
  }
}

void Engine::On(event::NestedLoaded& event) {
  Settle();
  Execution* x = event.execution;
  --x->outstanding;
  if (x->state == ExecutionState::kCancelling) return End(x);
  if (!event.graph.ok()) return FailExecution(x, event.graph.status());
  LoadedGraph& graph = **event.graph;
  if (graph.vertices.empty()) return FinishExecution(x, {nullptr});
  const uint32_t depth = x->run->leader->depth + 1;
  if (depth > kMaxDepth)
    return FailExecution(x, absl::InvalidArgumentError(
                                absl::StrCat("definitions nested more than ", kMaxDepth, " deep")));
  Run& run = *x->run;
  run.nested_sources = graph.sources;
  run.nested_vertices = Register(graph, JobsOf(x), depth);
  Edge* root = EdgeOf(run.nested_vertices[graph.root], graph.root_output);
  if (Reaches(root, x->vertices))
    return FailExecution(x, absl::InvalidArgumentError("nested definition depends on itself"));
  run.nested_root = root;
  run.nested_slot = Attach(root, Consumer(x), Level::kComplete);
  if (root->state == EdgeState::kComplete || root->state == EdgeState::kFailed)
    nested_ready_.push_back(x);
}

void Engine::CloseNested(Execution* x) {
  if (Edge* root = std::exchange(x->run->nested_root, nullptr)) {
    Detach(root, x->run->nested_slot, Level::kComplete);
    nested_ready_.erase(std::remove(nested_ready_.begin(), nested_ready_.end(), x),
                        nested_ready_.end());
  }
  x->run->nested_vertices.clear();
}

void Engine::OnNestedRoot(Execution* x) {
  const Edge* root = x->run->nested_root;
  if (root->state == EdgeState::kFailed) {
    absl::Status error = root->error;
    AddSourceDetails(x->run->nested_sources.get(), &error);
    return FailExecution(x, error);
  }
  FinishExecution(x, {root->result});
}

std::vector<std::string> Engine::SessionIds(const Execution* x) const {
  std::vector<std::string> ids;
  for (const JobState* job : JobsOf(x))
    ids.insert(ids.end(), job->session_ids.begin(), job->session_ids.end());
  return ids;
}

}  // namespace kiln::solver
