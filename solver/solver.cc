#include "solver/solver.h"

#include <atomic>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "solver/internal/driver.h"
#include "store/base/mutex.h"

namespace kiln::solver {
namespace {

class JobImpl;

// Which jobs live, by id. Outlives the solver while a job does.
struct Registry {
  Mutex mu;
  absl::flat_hash_map<std::string, std::weak_ptr<JobImpl>> jobs ABSL_GUARDED_BY(mu);
};

class JobImpl : public Job {
 public:
  JobImpl(JobOptions options, std::shared_ptr<Driver> driver, std::shared_ptr<Registry> registry)
      : options_(std::move(options)),
        driver_(std::move(driver)),
        registry_(std::move(registry)),
        log_(std::make_shared<JobLog>()),
        values_(std::make_shared<JobValuesMap>()),
        job_(driver_->AddJob(options_, log_, values_)) {}

  ~JobImpl() override {
    {
      MutexLock lock(&registry_->mu);
      const auto it = registry_->jobs.find(options_.id);
      // A newer one of that id may have come between the last drop and now.
      if (it != registry_->jobs.end() && it->second.expired()) registry_->jobs.erase(it);
    }
    driver_->EndJob(job_);
    log_->End();
  }

  const std::string& id() const override { return options_.id; }

  void Build(std::string definition,
             absl::AnyInvocable<void(absl::StatusOr<ResultPtr>)> done) override {
    Request(std::move(definition), std::move(done), Driver::Calls::kOnPool);
  }

  void Begin(std::string definition, bool run) override {
    const Digest digest = Digest::Of(definition);
    MutexLock lock(&mu_);
    RequestId& begun = begun_[digest];
    if (begun != 0) return;
    begun =
        driver_->Begin(job_, options_.entitlements, options_.imports, std::move(definition), run);
  }

  absl::StatusOr<ResultPtr> BuildAndWait(std::string definition,
                                         const CancelToken& cancel) override {
    struct Answer {
      Mutex mu;
      CondVar changed;
      bool done ABSL_GUARDED_BY(mu) = false;
      absl::StatusOr<ResultPtr> result ABSL_GUARDED_BY(mu) = absl::UnknownError("no answer");
    };
    auto answer = std::make_shared<Answer>();
    const RequestId request = Request(
        std::move(definition),
        [answer](absl::StatusOr<ResultPtr> result) {
          MutexLock lock(&answer->mu);
          answer->done = true;
          answer->result = std::move(result);
          answer->changed.SignalAll();
        },
        Driver::Calls::kQuick);
    const CancelRegistration on_cancel =
        cancel.OnCancel([&] { driver_->CancelRequest(job_, request, cancel.status()); });
    MutexLock lock(&answer->mu);
    while (!answer->done) answer->changed.Wait(&answer->mu);
    return std::move(answer->result);
  }

  absl::StatusOr<SolvedGraph> Solved(const std::string& definition) override {
    return driver_->Solved(job_, options_.entitlements, options_.imports, definition);
  }

  void Cancel(absl::Status cause) override { driver_->CancelJob(job_, std::move(cause)); }
  void Release(absl::Status cause) override { driver_->ReleaseJob(job_, std::move(cause)); }
  void AddSession(std::string session_id) override {
    driver_->AddSession(job_, std::move(session_id));
  }

  ProgressLog& progress() override { return *log_; }

  absl::Status RunStep(const std::string& id, const std::string& name,
                       const std::function<absl::Status(ProgressSink&)>& work) override {
    auto info = std::make_shared<VertexInfo>();
    info->digest = Digest::Of(id);
    info->name = name;
    const std::shared_ptr<VertexLog> step = std::make_shared<VertexLog>(std::move(info));
    step->Subscribe(log_);
    step->Tell(action::Mark::kStarted, absl::Now(), "");
    const absl::Status status = work(*step);
    step->Tell(action::Mark::kCompleted, absl::Now(), std::string(status.message()));
    step->Unsubscribe(log_.get());
    return status;
  }

  JobStats stats() override { return driver_->StatsOf(job_); }
  JobValues& values() override { return *values_; }

 private:
  // Goes on with what was begun, else builds.
  RequestId Request(std::string definition, Driver::Done done, Driver::Calls calls) {
    RequestId begun = 0;
    {
      MutexLock lock(&mu_);
      if (!begun_.empty()) {
        const auto it = begun_.find(Digest::Of(definition));
        if (it != begun_.end()) {
          begun = it->second;
          begun_.erase(it);
        }
      }
    }
    if (begun != 0 && driver_->GoOn(job_, begun, done, calls)) return begun;
    return driver_->Build(job_, options_.entitlements, options_.imports, std::move(definition),
                          std::move(done), calls);
  }

  const JobOptions options_;
  const std::shared_ptr<Driver> driver_;
  const std::shared_ptr<Registry> registry_;
  const std::shared_ptr<JobLog> log_;
  const std::shared_ptr<JobValuesMap> values_;
  const JobId job_;
  Mutex mu_;
  absl::flat_hash_map<Digest, RequestId> begun_ ABSL_GUARDED_BY(mu_);  // by definition
};

class SolverImpl : public Solver {
 public:
  SolverImpl(const SolverOptions& options, store::CacheIndex* index, ResultLoader* loader,
             OpResolver* resolver)
      : driver_(std::make_shared<Driver>(options, index, loader, resolver)),
        registry_(std::make_shared<Registry>()) {}

  ~SolverImpl() override { driver_->Stop(); }

  absl::StatusOr<std::shared_ptr<Job>> NewJob(const JobOptions& options) override {
    MutexLock lock(&registry_->mu);
    std::weak_ptr<JobImpl>& slot = registry_->jobs[options.id];
    if (!slot.expired())
      return absl::AlreadyExistsError(absl::StrCat("job ID ", options.id, " exists"));
    auto job = std::make_shared<JobImpl>(options, driver_, registry_);
    slot = job;
    return job;
  }

  std::shared_ptr<Job> FindJob(absl::string_view id) override {
    MutexLock lock(&registry_->mu);
    const auto it = registry_->jobs.find(id);
    return it == registry_->jobs.end() ? nullptr : it->second.lock();
  }

  SolverStats stats() const override { return driver_->stats(); }

 private:
  const std::shared_ptr<Driver> driver_;
  const std::shared_ptr<Registry> registry_;
};

}  // namespace

std::unique_ptr<Solver> Solver::Create(const SolverOptions& options, store::CacheIndex* index,
                                       ResultLoader* loader, OpResolver* resolver) {
  return std::make_unique<SolverImpl>(options, index, loader, resolver);
}

}  // namespace kiln::solver
