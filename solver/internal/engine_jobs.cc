#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "solver/internal/engine.h"
#include "solver/internal/progress_hub.h"
#include "solver/internal/source_details.h"
#include "store/base/check.h"

namespace kiln::solver {

void Engine::On(event::NewJob& event) {
  auto job = std::make_unique<JobState>();
  job->id = event.job;
  job->session_ids = std::move(event.session_ids);
  job->entitlements = std::move(event.entitlements);
  const bool is_new = jobs_.emplace(event.job, std::move(job)).second;
  KILN_CHECK(is_new);
}

void Engine::On(event::AddSession& event) {
  const auto it = jobs_.find(event.job);
  if (it != jobs_.end()) it->second->session_ids.push_back(std::move(event.session_id));
}

void Engine::On(event::Build& event) {
  const auto it = jobs_.find(event.job);
  absl::Status refused = absl::CancelledError("context canceled");
  if (it != jobs_.end()) refused = it->second->cancelled;
  if (!refused.ok()) return Emit(action::FinishRequest{event.job, event.request, refused});
  Settle();
  JobState* job = it->second.get();
  LoadedGraph& graph = *event.graph;
  JobState* const jobs[] = {job};
  const std::vector<Vertex*> vertices = Register(graph, jobs, 0);

  // The last that is wanted is evaluated first: what runs early runs while keys are looked up.
  Request* whole = AddRequest(job, event.request, EdgeOf(vertices[graph.root], graph.root_output),
                              event.only_begin ? Level::kFast : Level::kComplete, graph.sources);
  for (const event::Build::Early& early : event.early) {
    AddRequest(job, early.request, EdgeOf(vertices[early.vertex], 0), Level::kComplete,
               graph.sources);
    whole->early.push_back(early.request);
  }
}

Request* Engine::AddRequest(JobState* job, RequestId id, Edge* edge, Level level,
                            std::shared_ptr<const SourceMap> sources) {
  auto request = std::make_unique<Request>();
  request->id = id;
  request->job = job;
  request->edge = edge;
  request->level = level;
  request->sources = std::move(sources);
  request->slot = Attach(edge, Consumer(request.get()), level);
  if (edge->state == EdgeState::kComplete || edge->state == EdgeState::kFailed)
    finished_.push_back(request.get());
  return job->requests.emplace(id, std::move(request)).first->second.get();
}

void Engine::On(event::GoOn& event) {
  const auto it = jobs_.find(event.job);
  if (it == jobs_.end()) return;
  const auto found = it->second->requests.find(event.request);
  if (found == it->second->requests.end()) return;
  Request* request = found->second.get();
  --request->edge->wants[static_cast<int>(request->level)];
  request->level = Level::kComplete;
  ++request->edge->wants[static_cast<int>(request->level)];
  UpdateLevel(request->edge);
}

void Engine::On(event::CancelRequest& event) {
  const auto it = jobs_.find(event.job);
  if (it == jobs_.end()) return;
  Settle();
  const auto request = it->second->requests.find(event.request);
  if (request != it->second->requests.end()) EndRequest(request->second.get(), event.cause);
}

void Engine::On(event::CancelJob& event) {
  const auto it = jobs_.find(event.job);
  if (it == jobs_.end() || !it->second->cancelled.ok()) return;
  it->second->cancelled = event.cause;
  Leave(it->second.get(), event.cause);
}

void Engine::On(event::EndJob& event) {
  const auto it = jobs_.find(event.job);
  if (it == jobs_.end()) return;
  Leave(it->second.get(), absl::CancelledError("context canceled"));
  jobs_.erase(it);
  if (!jobs_.empty()) return;
  table_.ForgetSaves(clock_);
  tombs_ = 0;
  queue_.shrink_to_fit();
  executions_.shrink_to_fit();
}

void Engine::FinishRequest(Request* request) {
  const Edge* edge = request->edge;
  if (edge->state == EdgeState::kComplete) return EndRequest(request, edge->result);
  absl::Status error = edge->error;
  AddSourceDetails(request->sources.get(), &error);
  EndRequest(request, std::move(error));
}

void Engine::EndRequest(Request* request, absl::StatusOr<ResultPtr> result) {
  Detach(request->edge, request->slot, request->level);
  finished_.erase(std::remove(finished_.begin(), finished_.end(), request), finished_.end());
  JobState* job = request->job;
  const RequestId id = request->id;
  const std::vector<RequestId> early = std::move(request->early);
  job->requests.erase(id);
  Emit(action::FinishRequest{job->id, id, std::move(result)});
  for (const RequestId each : early) {
    const auto it = job->requests.find(each);
    if (it != job->requests.end())
      EndRequest(it->second.get(), absl::CancelledError("what it was for is over"));
  }
}

// Finds or makes the vertices of a graph and has the jobs hold them, whether they will be needed or
// not. The result is in the order of the graph's vertices. Takes ops out of the graph.
std::vector<Vertex*> Engine::Register(LoadedGraph& graph, absl::Span<JobState* const> jobs,
                                      uint32_t depth) {
  std::vector<Vertex*> placed;
  placed.reserve(graph.vertices.size());
  std::vector<Logs> logs(jobs.size());
  vertices_.Reserve(graph.vertices.size());
  size_t keys = 0;  // at least one for each input
  for (const LoadedVertex& loaded : graph.vertices)
    keys += std::max<size_t>(1, loaded.inputs.size());
  table_.Reserve(keys);
  for (size_t at = 0; at < graph.vertices.size(); ++at) {
    LoadedVertex& loaded = graph.vertices[at];
    if (at + kPrefetchAhead < graph.vertices.size())
      vertices_.Prefetch(graph.vertices[at + kPrefetchAhead].info->digest);
    Vertex* vertex = FindOrMake(graph, loaded, placed, *jobs[0], depth);
    placed.push_back(vertex);
    bool joined = false;
    for (size_t i = 0; i < jobs.size(); ++i) {
      joined = joined || !vertex->jobs.empty();
      const bool is_new = AddJob(vertex, jobs[i], &logs[i]);
      if (is_new && joined && i == 0) ++stats_.vertices_joined;
      if (is_new) Revive(vertex);
    }
    if (!loaded.info->linux_resources.empty() && vertex->unmade != nullptr)
      vertex->unmade->linux_resources.push_back(loaded.info->linux_resources);
  }
  for (size_t i = 0; i < jobs.size(); ++i)
    if (!logs[i].empty()) Emit(action::Subscribe{jobs[i]->id, std::move(logs[i])});
  return placed;
}

// A vertex is known by its digest, by what its inputs are where these are not what their digests
// say, and by whether it ignores the cache: a job that ignores the cache must not get what is held
// by one that does not, while the reverse is fine (BuildKit jobs.go, ignore cache). Builds with
// different imports, or other clients behind an op that yields each client's own, share nothing but
// executions and results under keys that hold for both.
Vertex* Engine::FindOrMake(const LoadedGraph& graph, LoadedVertex& loaded,
                           const std::vector<Vertex*>& placed, const JobState& job,
                           uint32_t depth) {
  Digest identity = loaded.info->digest;
  if (graph.imports != nullptr && loaded.inputs.empty())
    identity =
        Digest::Of(absl::StrCat(identity.ToString(), "-imports-", graph.imports->identity().raw()));
  if (loaded.op != nullptr && loaded.op->PerSession() && !job.session_ids.empty())
    identity = Digest::Of(absl::StrCat(identity.ToString(), "-session-", job.session_ids.front()));
  bool shifted = false;
  for (const LoadedVertex::Input& input : loaded.inputs) {
    const Vertex* vertex = placed[input.vertex];
    shifted = shifted || vertex->identity != vertex->info->digest;
  }
  if (shifted) {
    std::string parts = identity.ToString();
    for (const LoadedVertex::Input& input : loaded.inputs)
      absl::StrAppend(&parts, "@", placed[input.vertex]->identity.raw());
    identity = Digest::Of(parts);
  }
  const auto active = [](const Vertex* vertex) {
    return vertex != nullptr && !vertex->jobs.empty();
  };
  const auto twin_of = [](const Digest& digest) {
    return Digest::Of(absl::StrCat(digest.ToString(), "-ignorecache"));
  };
  if (twins_ > 0) {
    Vertex* const twin = vertices_.Find(twin_of(identity));
    if (active(twin)) return twin;
  }
  Vertex* vertex = vertices_.FindOrMake(identity);
  if (active(vertex)) {
    if (!loaded.info->ignore_cache || vertex->info->ignore_cache) return vertex;
    vertex = vertices_.FindOrMake(twin_of(identity));
    if (!std::exchange(vertex->is_twin, true)) ++twins_;
  }
  ++stats_.vertices_loaded;
  ++path_changes_;
  vertex->info = loaded.info;
  vertex->ignore_cache = loaded.info->ignore_cache;
  vertex->op = std::move(loaded.op);
  vertex->imports = graph.imports;
  if (vertex->op == nullptr) {
    vertex->unmade = std::make_unique<Unmade>();
    vertex->unmade->error = loaded.op_status;
    vertex->unmade->op_bytes = std::move(loaded.op_bytes);
  }
  vertex->depth = depth;
  vertex->inputs.reserve(loaded.inputs.size());
  for (const LoadedVertex::Input& input : loaded.inputs)
    vertex->inputs.push_back({placed[input.vertex], input.output});
  vertex->log = std::make_shared<VertexLog>(vertex->info);
  return vertex;
}

// A job that comes after a failure is not bound to it: what failed is free to be tried again. All
// who waited have been told.
void Engine::Revive(Vertex* vertex) {
  const bool failed = !vertex->error.ok();
  vertex->error = absl::OkStatus();
  for (Edge& edge : vertex->edges) {
    if (edge.state != EdgeState::kFailed) continue;
    edge.error = absl::OkStatus();
    edge.state = EdgeState::kIdle;
    edge.fast_done = edge.slow_done = false;
  }
  if (failed) vertex->retries = 0;
}

// False when the job has it already. Vertices of nested definitions that the vertex waits for are
// held with it, inputs before consumers.
bool Engine::AddJob(Vertex* first, JobState* job, Logs* logs) {
  bool is_new = false;
  absl::InlinedVector<Vertex*, 4> stack = {first};
  while (!stack.empty()) {
    Vertex* vertex = stack.back();
    stack.pop_back();
    if (std::find(vertex->jobs.begin(), vertex->jobs.end(), job) != vertex->jobs.end()) continue;
    is_new = true;
    vertex->jobs.push_back(job);
    job->vertices.push_back(vertex);
    ++job->stats.vertices;
    logs->push_back(vertex->log);
    Execution* x = vertex->execution;
    if (x == nullptr) continue;
    if (x->state == ExecutionState::kWaiting || x->state == ExecutionState::kRunning)
      scheduler_.AddJob(x, job);
    if (x->run != nullptr)
      stack.insert(stack.end(), x->run->nested_vertices.rbegin(), x->run->nested_vertices.rend());
  }
  return is_new;
}

// Ends the job's requests and its hold on vertices. Work that only it wanted is cancelled first.
void Engine::Leave(JobState* job, const absl::Status& cause) {
  Settle();
  while (!job->requests.empty()) EndRequest(job->requests.begin()->second.get(), cause);
  Settle();
  scheduler_.ForgetJob(job);
  Logs logs;
  logs.reserve(job->vertices.size());
  for (Vertex* vertex : std::exchange(job->vertices, {})) {
    logs.push_back(vertex->log);
    vertex->jobs.erase(std::find(vertex->jobs.begin(), vertex->jobs.end(), job));
    if (vertex->jobs.empty()) Reset(vertex);
  }
  if (!logs.empty()) Emit(action::Unsubscribe{job->id, std::move(logs)});
}

// Nobody holds the vertex: it forgets everything but the calls that still wind down.
void Engine::Reset(Vertex* vertex) {
  for (Edge& edge : vertex->edges) {
    KILN_CHECK(edge.consumers.empty() && edge.search == nullptr);
    edge.state = EdgeState::kIdle;
    edge.fast_done = edge.slow_done = false;
    edge.keys.clear();
    edge.result_imported = false;
    edge.result = nullptr;
    edge.error = absl::OkStatus();
  }
  LeaveExecution(vertex);
  vertex->inputs.clear();
  vertex->maps.clear();
  vertex->op = nullptr;
  vertex->unmade = nullptr;
  vertex->imports = nullptr;
  vertex->log = nullptr;
  vertex->error = absl::OkStatus();
  vertex->retries = 0;
  vertex->path_ns = 0;
  vertex->map_stale = vertex->map_state != CallState::kIdle;
  for (InputContent& content : vertex->content) {
    content.stale = content.state == CallState::kCancelling;
    if (!content.stale) content.state = CallState::kIdle;
  }
  Doom(vertex);
}

void Engine::Doom(Vertex* vertex) {
  if (vertex->doomed || !vertex->jobs.empty() || vertex->outstanding > 0) return;
  vertex->doomed = true;
  doomed_.push_back(vertex);
}

void Engine::Sweep() {
  while (!held_.empty()) {
    Execution* x = held_.back();
    held_.pop_back();
    --x->outstanding;
    MaybeDelete(x);
  }
  for (Vertex* vertex : std::exchange(doomed_, {})) {
    vertex->doomed = false;
    if (!vertex->jobs.empty() || vertex->outstanding > 0) continue;
    if (vertex->is_twin) --twins_;
    vertices_.Erase(vertex);
  }
}

std::vector<std::string> Engine::SessionIds(const Vertex* vertex) const {
  std::vector<std::string> ids;
  for (const JobState* job : vertex->jobs)
    ids.insert(ids.end(), job->session_ids.begin(), job->session_ids.end());
  return ids;
}

JobStats Engine::StatsOf(JobId job) const {
  const auto it = jobs_.find(job);
  return it == jobs_.end() ? JobStats() : it->second->stats;
}

}  // namespace kiln::solver
