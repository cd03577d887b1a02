#include "tests/solver/step_driver.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "solver/internal/job_values.h"
#include "store/base/check.h"
#include "tests/solver/graph_text.h"

namespace kiln::solver {

class StepDriver::Context : public OpContext {
 public:
  Context(const Engine& engine, const Pending& pending, std::shared_ptr<VertexLog> log,
          std::shared_ptr<const VertexInfo> info)
      : engine_(engine),
        pending_(pending),
        log_(std::move(log)),
        info_(std::move(info)),
        token_(pending.cancel->token()) {}

  const CancelToken& cancel() const override { return token_; }
  ProgressSink& progress() override { return *log_; }
  const VertexInfo& vertex() const override { return *info_; }
  JobValues& job_values() override { return values_; }
  std::vector<std::string> SessionIds() const override {
    if (const auto* run = std::get_if<action::Execute>(&pending_.action))
      return engine_.SessionIds(run->execution);
    if (const auto* map = std::get_if<action::MakeCacheMap>(&pending_.action))
      return engine_.SessionIds(map->vertex);
    return engine_.SessionIds(std::get<action::ComputeContent>(pending_.action).vertex);
  }

 private:
  const Engine& engine_;
  const Pending& pending_;
  const std::shared_ptr<VertexLog> log_;
  const std::shared_ptr<const VertexInfo> info_;
  const CancelToken token_;
  JobValuesMap values_;
};

StepDriver::StepDriver(TestWorld* world, store::CacheIndex* index, uint32_t slots, size_t burst)
    : world_(*world),
      runner_(index, world, world),
      burst_(burst),
      engine_(slots, burst > 0 ? burst : SIZE_MAX) {}
StepDriver::~StepDriver() = default;

JobId StepDriver::NewJob(std::vector<std::string> entitlements) {
  const JobId job = next_job_++;
  logs_[job] = std::make_shared<JobLog>();
  Feed(event::NewJob{job, {absl::StrCat("session", job)}, std::move(entitlements)});
  return job;
}

RequestId StepDriver::Build(JobId job, absl::string_view graph_text) {
  return BuildDefinition(job, DefinitionOf(graph_text));
}

std::shared_ptr<LoadedGraph> StepDriver::LoadGraph(const std::string& definition) {
  absl::StatusOr<LoadedGraph> graph = LoadDefinition(definition, {});
  KILN_CHECK(graph.ok());
  ResolveOps(world_, &*graph);
  return std::make_shared<LoadedGraph>(*std::move(graph));
}

RequestId StepDriver::BuildDefinition(JobId job, const std::string& definition) {
  const RequestId request = next_request_++;
  Feed(event::Build{job, request, LoadGraph(definition)});
  return request;
}

RequestId StepDriver::Begin(JobId job, absl::string_view graph_text) {
  const RequestId request = next_request_++;
  event::Build begin{job, request, LoadGraph(DefinitionOf(graph_text))};
  for (uint32_t at = 0; at < begin.graph->vertices.size(); ++at) {
    const std::shared_ptr<Op>& op = begin.graph->vertices[at].op;
    if (op != nullptr && op->RunsEarly()) begin.early.push_back({at, next_request_++});
  }
  begin.only_begin = true;
  Feed(std::move(begin));
  return request;
}

void StepDriver::GoOn(JobId job, RequestId request) { Feed(event::GoOn{job, request}); }

void StepDriver::CancelRequest(JobId job, RequestId request) {
  Feed(event::CancelRequest{job, request, absl::CancelledError("cancelled by test")});
}

void StepDriver::CancelJob(JobId job) {
  Feed(event::CancelJob{job, absl::CancelledError("cancelled by test")});
}

void StepDriver::EndJob(JobId job) {
  Feed(event::EndJob{job});
  logs_.at(job)->End();
}

void StepDriver::Feed(Event event) {
  ++steps_;
  std::vector<Action> actions;
  const absl::Time now = absl::FromUnixSeconds(static_cast<int64_t>(steps_));
  engine_.Step(std::move(event), now, &actions);
  for (Action& action : actions) Take(action);
  while (engine_.busy() && (burst_ == 0 || pending_.empty())) Continue();
  if (!engine_.busy()) engine_.CheckInvariants();
}

void StepDriver::Continue() {
  std::vector<Action> actions;
  engine_.Continue(absl::FromUnixSeconds(static_cast<int64_t>(steps_)), &actions);
  for (Action& action : actions) Take(action);
  if (!engine_.busy()) engine_.CheckInvariants();
}

void StepDriver::Push(Kind kind, const std::string& name, Action& action) {
  Pending pending{kind, name, {}, std::make_shared<CancelSource>(), false, steps_};
  pending.action = std::move(action);
  pending_.push_back(std::move(pending));
}

void StepDriver::Cancel(Kind kind, const void* owner, uint32_t input) {
  for (Pending& pending : pending_) {
    if (pending.kind != kind) continue;
    const void* its = nullptr;
    uint32_t its_input = 0;
    if (const auto* map = std::get_if<action::MakeCacheMap>(&pending.action)) its = map->vertex;
    if (const auto* run = std::get_if<action::Execute>(&pending.action)) its = run->execution;
    if (const auto* content = std::get_if<action::ComputeContent>(&pending.action)) {
      its = content->vertex;
      its_input = content->input;
    }
    if (its != owner || its_input != input) continue;
    pending.cancelled = true;
    pending.cancel->Cancel();
  }
}

void StepDriver::Take(Action& taken) {
  if (auto* map = std::get_if<action::MakeCacheMap>(&taken)) {
    Push(Kind::kMap, map->info->name, taken);
  } else if (auto* content = std::get_if<action::ComputeContent>(&taken)) {
    Push(Kind::kContent, content->info->name, taken);
  } else if (auto* run = std::get_if<action::Execute>(&taken)) {
    Push(Kind::kRun, run->info->name, taken);
  } else if (auto* nested = std::get_if<action::LoadNested>(&taken)) {
    Push(Kind::kNested, nested->execution->log->info().name, taken);
  } else if (auto* query = std::get_if<action::Query>(&taken)) {
    Push(Kind::kQuery, query->edge->vertex->info->name, taken);
  } else if (auto* match = std::get_if<action::Match>(&taken)) {
    Push(Kind::kMatch, match->edge->vertex->info->name, taken);
  } else if (auto* records = std::get_if<action::FindRecords>(&taken)) {
    Push(Kind::kRecords, records->edge->vertex->info->name, taken);
  } else if (auto* load = std::get_if<action::Load>(&taken)) {
    Push(Kind::kLoad, load->edge->vertex->info->name, taken);
  } else if (auto* save = std::get_if<action::Save>(&taken)) {
    Push(Kind::kSave, save->execution->log->info().name, taken);
  } else if (auto* cancel_map = std::get_if<action::CancelCacheMap>(&taken)) {
    Cancel(Kind::kMap, cancel_map->vertex, 0);
  } else if (auto* cancel_content = std::get_if<action::CancelContent>(&taken)) {
    Cancel(Kind::kContent, cancel_content->vertex, cancel_content->input);
  } else if (auto* cancel_run = std::get_if<action::CancelExecute>(&taken)) {
    Cancel(Kind::kRun, cancel_run->execution, 0);
  } else if (auto* link = std::get_if<action::Link>(&taken)) {
    runner_.Run(*link);
  } else if (auto* finish = std::get_if<action::FinishRequest>(&taken)) {
    const bool first = results_.emplace(finish->request, std::move(finish->result)).second;
    KILN_CHECK(first);
  } else if (auto* subscribe = std::get_if<action::Subscribe>(&taken)) {
    for (const auto& log : subscribe->logs) log->Subscribe(logs_.at(subscribe->job));
  } else if (auto* unsubscribe = std::get_if<action::Unsubscribe>(&taken)) {
    for (const auto& log : unsubscribe->logs) log->Unsubscribe(logs_.at(unsubscribe->job).get());
  } else if (auto* progress = std::get_if<action::Progress>(&taken)) {
    progress->log->Tell(progress->mark, progress->now, progress->error);
  } else if (auto* follow = std::get_if<action::Follow>(&taken)) {
    follow->leader->AddFollower(follow->follower);
  } else {
    std::get<action::Unfollow>(taken).leader->DropFollowers();
  }
}

int StepDriver::Find(Kind kind, absl::string_view name) const {
  for (size_t i = 0; i < pending_.size(); ++i)
    if (pending_[i].kind == kind && pending_[i].name == name) return static_cast<int>(i);
  return -1;
}

Event StepDriver::Answer(Pending& pending, bool anyway) {
  const bool refuse = pending.cancelled && !anyway;
  const absl::Status cancelled = absl::CancelledError("context canceled");
  Action& taken = pending.action;
  if (auto* map = std::get_if<action::MakeCacheMap>(&taken)) {
    if (refuse) return event::CacheMapDone{map->vertex, map->op, cancelled, {}};
    Context context(engine_, pending, map->log, map->info);
    return runner_.Run(*map, context);
  }
  if (auto* content = std::get_if<action::ComputeContent>(&taken)) {
    if (refuse) return event::ContentDone{content->vertex, content->input, cancelled};
    Context context(engine_, pending, content->log, content->info);
    return runner_.Run(*content, context);
  }
  if (auto* run = std::get_if<action::Execute>(&taken)) {
    if (refuse) return event::ExecuteDone{run->execution, cancelled, {}};
    Context context(engine_, pending, run->log, run->info);
    return runner_.Run(*run, context);
  }
  if (auto* nested = std::get_if<action::LoadNested>(&taken)) return runner_.Run(*nested);
  if (auto* query = std::get_if<action::Query>(&taken)) return runner_.Run(*query);
  if (auto* match = std::get_if<action::Match>(&taken)) return runner_.Run(*match);
  if (auto* records = std::get_if<action::FindRecords>(&taken)) return runner_.Run(*records);
  if (auto* load = std::get_if<action::Load>(&taken)) return runner_.Run(*load);
  return runner_.Run(std::get<action::Save>(taken));
}

void StepDriver::Do(size_t index, bool anyway) {
  Pending pending = std::move(pending_[index]);
  pending_.erase(pending_.begin() + static_cast<ptrdiff_t>(index));
  Feed(Answer(pending, anyway));
}

void StepDriver::Do(Kind kind, absl::string_view name, bool anyway) {
  const int index = Find(kind, name);
  KILN_CHECK(index >= 0);
  Do(static_cast<size_t>(index), anyway);
}

void StepDriver::DoAll(absl::string_view except) {
  for (;;) {
    size_t i = 0;
    while (i < pending_.size() && !except.empty() && pending_[i].name == except &&
           pending_[i].kind != Kind::kQuery && pending_[i].kind != Kind::kMatch &&
           pending_[i].kind != Kind::kRecords)
      ++i;
    if (i == pending_.size()) return;
    Do(i);
  }
}

const absl::StatusOr<ResultPtr>& StepDriver::ResultOf(RequestId request) const {
  KILN_CHECK(IsOver(request));
  return results_.at(request);
}

std::string StepDriver::Outcome(RequestId request) const {
  if (!IsOver(request)) return "not over";
  const absl::StatusOr<ResultPtr>& result = results_.at(request);
  if (!result.ok()) return absl::StrCat("error: ", result.status().message());
  return ValueOf(*result);
}

}  // namespace kiln::solver
