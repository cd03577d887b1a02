#include "solver/internal/driver.h"

#include <pthread.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "absl/time/clock.h"
#include "store/base/check.h"
#include "store/base/status_macros.h"

namespace kiln::solver {
namespace {

constexpr size_t kMaxBatch = 256;
constexpr size_t kMaxKept = 4096;  // actions; the first step of a large graph gives very many
constexpr size_t kFewLookUps = 32;
constexpr size_t kSmallDefinition = 4096;  // bytes; loaded at once, by who asks
// A look-up that takes longer, and sleeps, came from a slow disk; the loop leaves them to the pool
// for so many times as long.
constexpr auto kSlowLookUp = std::chrono::microseconds(500);
constexpr int kAfterSlowLookUp = 20;
constexpr int64_t kCacheMapPart = -1;
constexpr int64_t kExecutePart = -2;

std::unique_ptr<ThreadPool> MakePool(const char* name, int threads) {
  return std::make_unique<ThreadPool>(name, static_cast<size_t>(std::max(1, threads)));
}

absl::Status StoppedError() { return absl::UnavailableError("the solver is shutting down"); }

// How often this thread gave up the processor by itself; that somebody else took it does not count.
long Sleeps() {
  rusage usage = {};
  ::getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nvcsw;
}

// Of our own index, and no write but for a carry-over.
bool OnlyReads(const Action& action) {
  if (const auto* query = std::get_if<action::Query>(&action)) return query->imports == nullptr;
  if (const auto* find = std::get_if<action::FindRecords>(&action)) return find->imports == nullptr;
  return std::holds_alternative<action::Match>(action);
}

}  // namespace

// What one call into an op may use. The engine keeps `owner` until the call is answered.
class Driver::Context : public OpContext {
 public:
  Context(Driver* driver, const void* owner, bool is_execution, std::shared_ptr<VertexLog> log,
          std::shared_ptr<const VertexInfo> info, std::shared_ptr<JobValuesMap> values)
      : driver_(*driver),
        owner_(owner),
        is_execution_(is_execution),
        log_(std::move(log)),
        info_(std::move(info)),
        values_(std::move(values)),
        token_(source_.token()) {}

  const CancelToken& cancel() const override { return token_; }
  ProgressSink& progress() override { return *log_; }
  const VertexInfo& vertex() const override { return *info_; }
  JobValues& job_values() override { return *values_; }
  std::vector<std::string> SessionIds() const override {
    std::vector<std::string> ids;
    driver_.Ask([this, &ids] {
      ids = is_execution_ ? driver_.engine_.SessionIds(static_cast<const Execution*>(owner_))
                          : driver_.engine_.SessionIds(static_cast<const Vertex*>(owner_));
    });
    return ids;
  }

  void Cancel() { source_.Cancel(); }

 private:
  Driver& driver_;
  const void* const owner_;
  const bool is_execution_;
  const std::shared_ptr<VertexLog> log_;
  const std::shared_ptr<const VertexInfo> info_;
  const std::shared_ptr<JobValuesMap> values_;
  CancelSource source_;
  const CancelToken token_;
};

Driver::Driver(const SolverOptions& options, store::CacheIndex* index, ResultLoader* loader,
               OpResolver* resolver)
    : options_(options),
      runner_(index, loader, resolver),
      engine_(static_cast<uint32_t>(options.max_parallelism > 0 ? options.max_parallelism
                                                                : options.op_threads)),
      io_(MakePool("kiln-index", options.io_threads)),
      keys_(MakePool("kiln-keys", options.op_threads)),
      // Beyond the slots there is room for ops that take none.
      ops_(MakePool("kiln-op", std::max(options.op_threads, options.max_parallelism) + 8)),
      done_(MakePool("kiln-done", options.op_threads)),
      loop_([this] { Loop(); }) {}

Driver::~Driver() {
  if (loop_.joinable()) Stop();
}

void Driver::Stop() {
  absl::flat_hash_map<RequestId, PendingRequest> requests;
  {
    MutexLock lock(&mu_);
    if (stopping_) return;
    stopping_ = true;
    requests.swap(requests_);
    changed_.Signal();
  }
  for (auto& [id, request] : requests)
    if (request.done)
      done_->Post([done = std::move(request.done)]() mutable { done(StoppedError()); });
  loop_.join();
  ops_.reset();
  io_.reset();
  keys_.reset();
  done_.reset();
}

bool Driver::Post(Event event) {
  MutexLock lock(&mu_);
  if (stopped_) return false;
  inbox_.emplace_back(std::move(event));
  if (inbox_.size() == 1) changed_.Signal();
  return true;
}

bool Driver::Post(std::vector<Event> events) {
  MutexLock lock(&mu_);
  if (stopped_) return false;
  for (Event& event : events) inbox_.emplace_back(std::move(event));
  changed_.Signal();
  return true;
}

bool Driver::PostTask(Task task) {
  MutexLock lock(&mu_);
  if (stopped_) return false;
  inbox_.emplace_back(std::move(task));
  changed_.Signal();
  return true;
}

bool Driver::Ask(absl::AnyInvocable<void()> ask) {
  if (std::this_thread::get_id() == loop_.get_id()) {
    ask();
    return true;
  }
  Mutex mu;
  CondVar changed;
  bool done = false;
  const bool posted = PostTask([&] {
    ask();
    MutexLock lock(&mu);
    done = true;
    changed.Signal();
  });
  if (!posted) return false;
  MutexLock lock(&mu);
  while (!done) changed.Wait(&mu);
  return true;
}

void Driver::Loop() {
  ::pthread_setname_np(::pthread_self(), "kiln-solver");
  std::vector<Item> items;
  bool cancelled_all = false;
  for (;;) {
    bool stopping = false;
    {
      MutexLock lock(&mu_);
      stats_ = engine_.stats();
      const bool over = cancelled_all && engine_.Idle();
      const bool more = !look_ups_.empty();
      while (inbox_.empty() && !over && !more && (!stopping_ || cancelled_all)) changed_.Wait(&mu_);
      stopping = stopping_;
      if (inbox_.empty() && over) {
        stopped_ = true;
        return;
      }
      items.swap(inbox_);
    }
    now_ = absl::Now();
    for (Item& item : items) {
      if (auto* event = std::get_if<Event>(&item)) {
        Feed(std::move(*event));
      } else {
        std::get<Task>(item)();
      }
    }
    items.clear();
    if (stopping && !cancelled_all) {
      cancelled_all = true;
      std::vector<JobId> jobs;
      for (const auto& [id, side] : jobs_) jobs.push_back(id);
      for (JobId id : jobs) Feed(event::EndJob{id});
    }
    if (!LookUpHere()) FlushLookUps();
  }
}

void Driver::Feed(Event event) {
  if (const auto* done = std::get_if<event::CacheMapDone>(&event)) {
    calls_.erase({done->vertex, kCacheMapPart});
  } else if (const auto* content = std::get_if<event::ContentDone>(&event)) {
    calls_.erase({content->vertex, content->input});
  } else if (const auto* executed = std::get_if<event::ExecuteDone>(&event)) {
    calls_.erase({executed->execution, kExecutePart});
  }
  const auto* end = std::get_if<event::EndJob>(&event);
  const JobId ended = end != nullptr ? end->job : 0;
  engine_.Step(std::move(event), now_, &actions_);
  Dispatch();
  Settle();
  if (ended != 0) jobs_.erase(ended);
}

// Until nothing is left that can be done without waiting. Answers come first: what they are about
// was just in use.
void Driver::Settle() {
  std::vector<Event> answers;
  while (!local_.empty() || engine_.busy()) {
    answers.swap(local_);
    for (Event& event : answers) engine_.Step(std::move(event), now_, &actions_);
    answers.clear();
    engine_.Continue(now_, &actions_);
    Dispatch();
    if (look_ups_.size() >= kMaxKept) FlushLookUps();
  }
}

void Driver::Dispatch() {
  for (Action& action : actions_) std::visit([this](auto& a) { Do(a); }, action);
  actions_.clear();
  if (actions_.capacity() > kMaxKept) actions_.shrink_to_fit();
}

// Few look-ups are made here: what the index has in memory takes a tenth of the way to a thread and
// back, and along a chain each decides about the next.
bool Driver::LookUpHere() {
  if (look_ups_.empty() || look_ups_.size() > kFewLookUps ||
      !std::all_of(look_ups_.begin(), look_ups_.end(), OnlyReads))
    return false;
  const auto start = std::chrono::steady_clock::now();
  if (start < look_up_elsewhere_until_) return false;
  const long sleeps = Sleeps();
  auto next = look_ups_.begin();
  for (auto from = start; next != look_ups_.end() && from - start <= kSlowLookUp; ++next) {
    const Action& action = *next;
    if (const auto* query = std::get_if<action::Query>(&action)) {
      local_.push_back(runner_.Run(*query));
    } else if (const auto* find = std::get_if<action::FindRecords>(&action)) {
      local_.push_back(runner_.Run(*find));
    } else {
      local_.push_back(runner_.Run(std::get<action::Match>(action)));
    }
    const auto now = std::chrono::steady_clock::now();
    if (now - from > kSlowLookUp && Sleeps() != sleeps)
      look_up_elsewhere_until_ = now + kAfterSlowLookUp * (now - from);
    from = now;
  }
  look_ups_.erase(look_ups_.begin(), next);
  Settle();
  return true;
}

// Sends the look-ups of this round to the pool, in as many parts as it has threads.
void Driver::FlushLookUps() {
  if (look_ups_.empty()) return;
  const size_t threads = static_cast<size_t>(std::max(1, options_.io_threads));
  const size_t size = std::clamp((look_ups_.size() + threads - 1) / threads, size_t{1}, kMaxBatch);
  for (size_t from = 0; from < look_ups_.size(); from += size) {
    const size_t to = std::min(from + size, look_ups_.size());
    std::vector<Action> batch(std::make_move_iterator(look_ups_.begin() + from),
                              std::make_move_iterator(look_ups_.begin() + to));
    io_->Post([this, batch = std::move(batch)]() mutable {
      std::vector<Event> answers;
      answers.reserve(batch.size());
      for (const Action& action : batch) {
        if (const auto* query = std::get_if<action::Query>(&action)) {
          answers.push_back(runner_.Run(*query));
        } else if (const auto* match = std::get_if<action::Match>(&action)) {
          answers.push_back(runner_.Run(*match));
        } else if (const auto* find = std::get_if<action::FindRecords>(&action)) {
          answers.push_back(runner_.Run(*find));
        } else if (const auto* save = std::get_if<action::Save>(&action)) {
          answers.push_back(runner_.Run(*save));
        } else {
          runner_.Run(std::get<action::Link>(action));
        }
      }
      batch.clear();  // once it is answered nobody may hold the results in it
      Post(std::move(answers));
    });
  }
  look_ups_.clear();
  if (look_ups_.capacity() > kMaxKept) look_ups_.shrink_to_fit();
}

template <typename Action>
void Driver::Call(Action action, CallKey key, const void* owner, bool is_execution, bool cheap,
                  ThreadPool& pool) {
  const auto side = jobs_.find(action.job);
  KILN_CHECK(side != jobs_.end());
  auto context = std::make_shared<Context>(this, owner, is_execution, action.log, action.info,
                                           side->second.values);
  if (cheap) {
    local_.push_back(runner_.Run(action, *context));
    return;
  }
  calls_[key] = context;
  pool.Post(
      [this, call = std::optional(std::move(action)), context = std::move(context)]() mutable {
        Event answer(runner_.Run(*call, *context));
        call.reset();  // as in FlushLookUps
        Post(std::move(answer));
      });
}

void Driver::Do(action::MakeCacheMap& action) {
  const bool cheap = action.op != nullptr && action.op->CheapCacheMap();
  Vertex* vertex = action.vertex;
  Call(std::move(action), {vertex, kCacheMapPart}, vertex, false, cheap, *keys_);
}

void Driver::Do(action::ComputeContent& action) {
  Vertex* vertex = action.vertex;
  const int64_t input = action.input;
  if (auto known = action.op->KnownContentDigest(static_cast<int>(input), action.result)) {
    local_.push_back(event::ContentDone{vertex, action.input, *std::move(known)});
    return;
  }
  Call(std::move(action), {vertex, input}, vertex, false, false, *keys_);
}

void Driver::Do(action::Execute& action) {
  Execution* execution = action.execution;
  const bool cheap = action.op->CheapExecute();
  Call(std::move(action), {execution, kExecutePart}, execution, true, cheap, *ops_);
}

void Driver::Do(action::LoadNested& action) {
  keys_->Post([this, action = std::move(action)] { Post(Event(runner_.Run(action))); });
}

// Imported results may have to be asked for far away: they do not keep look-ups waiting.
void Driver::Do(action::Load& action) {
  ThreadPool& pool = action.imports != nullptr ? *keys_ : *io_;
  pool.Post([this, action = std::move(action)] { Post(Event(runner_.Run(action))); });
}

void Driver::LookUpWhenReady(const std::shared_ptr<ImportedKeys>& imports, Action action) {
  if (imports == nullptr) {
    look_ups_.push_back(std::move(action));
    return;
  }
  // The engine waits for the answer, and the driver for the engine.
  imports->WhenReady([this, action = std::move(action)]() mutable {
    PostTask(
        [this, action = std::move(action)]() mutable { look_ups_.push_back(std::move(action)); });
  });
}

void Driver::Do(action::Query& action) {
  std::shared_ptr<ImportedKeys> imports = action.imports;
  LookUpWhenReady(imports, std::move(action));
}

void Driver::Do(action::FindRecords& action) {
  std::shared_ptr<ImportedKeys> imports = action.imports;
  LookUpWhenReady(imports, std::move(action));
}

void Driver::CancelCall(const CallKey& key) {
  const auto it = calls_.find(key);
  if (it != calls_.end()) it->second->Cancel();
}

void Driver::Do(action::CancelCacheMap& action) { CancelCall({action.vertex, kCacheMapPart}); }
void Driver::Do(action::CancelContent& action) { CancelCall({action.vertex, action.input}); }
void Driver::Do(action::CancelExecute& action) { CancelCall({action.execution, kExecutePart}); }

void Driver::Do(action::FinishRequest& action) { Finish(action.request, std::move(action.result)); }

void Driver::Finish(RequestId request, absl::StatusOr<ResultPtr> result) {
  Done quick;
  {
    MutexLock lock(&mu_);
    const auto it = requests_.find(request);
    if (it == requests_.end()) return;
    PendingRequest& finished = it->second;
    if (!finished.done) {
      finished.outcome = std::move(result);
      return;
    }
    if (finished.calls == Calls::kQuick) {
      quick = std::move(finished.done);
    } else {
      done_->Post([done = std::move(finished.done), result = std::move(result)]() mutable {
        done(std::move(result));
      });
    }
    requests_.erase(it);
  }
  if (quick) quick(std::move(result));
}

// What was only begun is nobody's to be told of.
void Driver::Withdraw(RequestId request, const absl::Status& cause) {
  {
    MutexLock lock(&mu_);
    const auto it = requests_.find(request);
    if (it == requests_.end()) return;
    if (!it->second.done) {
      requests_.erase(it);
      return;
    }
  }
  Finish(request, cause);
}

void Driver::Do(action::Subscribe& action) {
  const auto side = jobs_.find(action.job);
  if (side == jobs_.end()) return;
  SubscribeAll(action.logs, side->second.log);
}

void Driver::Do(action::Unsubscribe& action) {
  const auto side = jobs_.find(action.job);
  if (side == jobs_.end()) return;
  for (const std::shared_ptr<VertexLog>& log : action.logs)
    log->Unsubscribe(side->second.log.get());
}

void Driver::Do(action::Progress& action) {
  action.log->Tell(action.mark, action.now, action.error);
}
void Driver::Do(action::Follow& action) { action.leader->AddFollower(action.follower); }
void Driver::Do(action::Unfollow& action) { action.leader->DropFollowers(); }

JobId Driver::AddJob(const JobOptions& options, std::shared_ptr<JobLog> log,
                     std::shared_ptr<JobValuesMap> values) {
  const JobId id = next_job_++;
  PostTask([this, id, options, log = std::move(log), values = std::move(values)]() mutable {
    jobs_[id] = {std::move(log), std::move(values)};
    Feed(event::NewJob{id, std::move(options.session_ids), std::move(options.entitlements)});
  });
  return id;
}

void Driver::AddSession(JobId job, std::string session_id) {
  Post(Event(event::AddSession{job, std::move(session_id)}));
}

RequestId Driver::Build(JobId job, std::vector<std::string> entitlements,
                        std::shared_ptr<ImportedKeys> imports, std::string definition, Done done,
                        Calls calls) {
  return Post({job, std::move(done), true, calls}, std::move(entitlements), std::move(imports),
              std::move(definition));
}

RequestId Driver::Begin(JobId job, std::vector<std::string> entitlements,
                        std::shared_ptr<ImportedKeys> imports, std::string definition, bool run) {
  return Post({job, nullptr, run}, std::move(entitlements), std::move(imports),
              std::move(definition));
}

RequestId Driver::Post(PendingRequest request, std::vector<std::string> entitlements,
                       std::shared_ptr<ImportedKeys> imports, std::string definition) {
  const RequestId id = next_request_++;
  const JobId job = request.job;
  const bool small = definition.size() <= kSmallDefinition;
  bool refused = false;
  {
    MutexLock lock(&mu_);
    refused = stopping_;
    if (!refused) {
      requests_.emplace(id, std::move(request));
      if (!small) {
        keys_->Post([this, job, id, entitlements = std::move(entitlements),
                     imports = std::move(imports), definition = std::move(definition)] {
          Load(job, id, entitlements, imports, definition);
        });
      }
    }
  }
  if (refused) {
    if (request.done) request.done(StoppedError());
  } else if (small) {
    Load(job, id, entitlements, imports, definition);
  }
  return id;
}

bool Driver::GoOn(JobId job, RequestId request, Done& done, Calls calls) {
  bool running = false;
  std::optional<absl::StatusOr<ResultPtr>> outcome;
  {
    MutexLock lock(&mu_);
    const auto it = requests_.find(request);
    if (it == requests_.end()) return false;
    PendingRequest& begun = it->second;
    begun.done = std::move(done);
    begun.calls = calls;
    running = std::exchange(begun.run, true);
    outcome.swap(begun.outcome);
  }
  if (outcome.has_value()) {
    Finish(request, *std::move(outcome));
  } else if (!running) {  // a definition that is still being loaded is built as a whole
    Post(Event(event::GoOn{job, request}));
  }
  return true;
}

void Driver::Load(JobId job, RequestId request, const std::vector<std::string>& entitlements,
                  const std::shared_ptr<ImportedKeys>& imports, const std::string& definition) {
  absl::StatusOr<LoadedGraph> graph = LoadDefinition(definition, entitlements);
  if (!graph.ok()) return Finish(request, std::move(graph).status());
  if (graph->vertices.empty()) return Finish(request, ResultPtr());
  ResolveOps(runner_.resolver(), &*graph);
  graph->imports = imports;
  auto shared = std::make_shared<LoadedGraph>(*std::move(graph));
  std::vector<event::Build::Early> early;
  for (uint32_t at = 0; at < shared->vertices.size(); ++at) {
    const std::shared_ptr<Op>& op = shared->vertices[at].op;
    if (op != nullptr && op->RunsEarly()) early.push_back({at, next_request_++});
  }
  PostTask([this, job, request, shared = std::move(shared), early = std::move(early)]() mutable {
    bool run = false;
    {
      MutexLock lock(&mu_);
      const auto it = requests_.find(request);
      if (it == requests_.end()) return;  // cancelled meanwhile
      run = it->second.run;
    }
    if (run) early.clear();
    Feed(event::Build{job, request, std::move(shared), std::move(early), !run});
  });
}

absl::StatusOr<SolvedGraph> Driver::Solved(JobId job, absl::Span<const std::string> entitlements,
                                           const std::shared_ptr<ImportedKeys>& imports,
                                           const std::string& definition) {
  KILN_ASSIGN_OR_RETURN(LoadedGraph graph, LoadDefinition(definition, entitlements));
  if (graph.vertices.empty()) return SolvedGraph();
  ResolveOps(runner_.resolver(), &graph);
  graph.imports = imports;
  absl::StatusOr<SolvedGraph> solved = absl::UnavailableError("the solver is shutting down");
  Ask([&] {
    solved = engine_.Solved(job, graph, now_, &actions_);
    Dispatch();
  });
  return solved;
}

void Driver::CancelRequest(JobId job, RequestId request, absl::Status cause) {
  Withdraw(request, cause);
  Post(Event(event::CancelRequest{job, request, std::move(cause)}));
}

void Driver::CancelJob(JobId job, absl::Status cause) {
  std::vector<RequestId> requests;
  {
    MutexLock lock(&mu_);
    for (const auto& [id, request] : requests_)
      if (request.job == job) requests.push_back(id);
  }
  for (RequestId id : requests) Withdraw(id, cause);
  Post(Event(event::CancelJob{job, std::move(cause)}));
}

void Driver::ReleaseJob(JobId job, absl::Status cause) {
  CancelJob(job, std::move(cause));
  Ask([] {});  // the loop takes what it is told in that order
}

void Driver::EndJob(JobId job) {
  CancelJob(job, absl::CancelledError("context canceled"));
  Post(Event(event::EndJob{job}));
}

SolverStats Driver::stats() const {
  MutexLock lock(&mu_);
  return stats_;
}

JobStats Driver::StatsOf(JobId job) {
  JobStats stats;
  Ask([&] { stats = engine_.StatsOf(job); });
  return stats;
}

}  // namespace kiln::solver
