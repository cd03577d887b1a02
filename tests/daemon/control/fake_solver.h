#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "solver/solver.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

// A progress log in memory.
class FakeProgress : public solver::ProgressLog, public solver::ProgressSink {
 public:
  void Add(solver::ProgressEvent event) {
    std::vector<absl::AnyInvocable<void()>> woken;
    {
      MutexLock lock(&mu_);
      if (ended_) return;
      events_.push_back(std::make_shared<const solver::ProgressEvent>(std::move(event)));
      for (auto& [offset, wake] : std::exchange(waiting_, {})) {
        if (offset < events_.size()) {
          woken.push_back(std::move(wake));
        } else {
          waiting_.emplace_back(offset, std::move(wake));
        }
      }
    }
    for (auto& wake : woken) wake();
  }
  std::vector<solver::ProgressEventPtr> Read(size_t offset, size_t limit, bool* ended) override {
    MutexLock lock(&mu_);
    std::vector<solver::ProgressEventPtr> events;
    for (size_t i = offset; i < events_.size() && events.size() < limit; ++i)
      events.push_back(events_[i]);
    *ended = ended_ && offset + events.size() >= events_.size();
    return events;
  }
  void NotifyAt(size_t offset, absl::AnyInvocable<void()> wake) override {
    {
      MutexLock lock(&mu_);
      if (offset >= events_.size() && !ended_) {
        waiting_.emplace_back(offset, std::move(wake));
        return;
      }
    }
    wake();
  }
  void End() override {
    std::vector<std::pair<size_t, absl::AnyInvocable<void()>>> woken;
    {
      MutexLock lock(&mu_);
      ended_ = true;
      woken.swap(waiting_);
    }
    for (auto& [offset, wake] : woken) wake();
  }
  void Status(solver::StatusUpdate) override {}
  void Log(solver::LogChunk) override {}
  void Warn(solver::Warning) override {}

 private:
  Mutex mu_;
  std::vector<solver::ProgressEventPtr> events_ ABSL_GUARDED_BY(mu_);
  std::vector<std::pair<size_t, absl::AnyInvocable<void()>>> waiting_ ABSL_GUARDED_BY(mu_);
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
};

// What a definition yields; blocks as long as it likes.
using FakeBuild = std::function<absl::StatusOr<solver::ResultPtr>(const std::string& definition,
                                                                  const CancelToken& cancel)>;

class FakeJob : public solver::Job {
 public:
  FakeJob(solver::JobOptions options, FakeBuild build)
      : options_(std::move(options)), build_(std::move(build)) {}

  const solver::JobOptions& options() const { return options_; }
  FakeProgress& log() { return progress_; }
  const std::string& id() const override { return options_.id; }
  void Build(std::string definition,
             absl::AnyInvocable<void(absl::StatusOr<solver::ResultPtr>)> done) override {
    done(build_(definition, CancelToken()));
  }
  absl::StatusOr<solver::ResultPtr> BuildAndWait(std::string definition,
                                                 const CancelToken& cancel) override {
    return build_(definition, cancel);
  }
  void Begin(std::string definition, bool run) override {
    MutexLock lock(&mu_);
    begun_.emplace_back(std::move(definition), run);
  }
  // What Begin was called with.
  std::vector<std::pair<std::string, bool>> begun() {
    MutexLock lock(&mu_);
    return begun_;
  }
  absl::StatusOr<solver::SolvedGraph> Solved(const std::string&) override {
    return absl::UnimplementedError("the graph of a fake job");
  }
  void Cancel(absl::Status cause) override { cancel_.Cancel(std::move(cause)); }
  void Release(absl::Status cause) override { Cancel(std::move(cause)); }
  void AddSession(std::string) override {}
  solver::ProgressLog& progress() override { return progress_; }
  absl::Status RunStep(const std::string& id, const std::string& name,
                       const std::function<absl::Status(solver::ProgressSink&)>& work) override {
    solver::VertexUpdate vertex;
    vertex.digest = Digest::Of(id);
    vertex.name = name;
    vertex.started = absl::Now();
    progress_.Add(vertex);
    const absl::Status status = work(progress_);
    vertex.completed = absl::Now();
    vertex.error = std::string(status.message());
    progress_.Add(vertex);
    return status;
  }
  solver::JobStats stats() override { return {}; }
  solver::JobValues& values() override { return values_; }

 private:
  class Values : public solver::JobValues {
   public:
    absl::StatusOr<std::string> GetOrMake(
        const std::string&, const std::function<absl::StatusOr<std::string>()>& make) override {
      return make();
    }
  };
  const solver::JobOptions options_;
  const FakeBuild build_;
  Mutex mu_;
  std::vector<std::pair<std::string, bool>> begun_ ABSL_GUARDED_BY(mu_);
  FakeProgress progress_;
  CancelSource cancel_;
  Values values_;
};

class FakeSolver : public solver::Solver {
 public:
  FakeBuild build = [](const std::string&, const CancelToken&) {
    return absl::StatusOr<solver::ResultPtr>(nullptr);
  };

  absl::StatusOr<std::shared_ptr<solver::Job>> NewJob(const solver::JobOptions& options) override {
    MutexLock lock(&mu_);
    std::weak_ptr<FakeJob>& slot = jobs_[options.id];
    if (slot.lock() != nullptr)
      return absl::AlreadyExistsError(absl::StrCat("job ID ", options.id, " exists"));
    auto job = std::make_shared<FakeJob>(options, build);
    slot = job;
    return job;
  }
  std::shared_ptr<solver::Job> FindJob(absl::string_view id) override { return Fake(id); }
  solver::SolverStats stats() const override {
    solver::SolverStats stats;
    stats.executions = 7;
    return stats;
  }
  std::shared_ptr<FakeJob> Fake(absl::string_view id) {
    MutexLock lock(&mu_);
    return jobs_[std::string(id)].lock();
  }

 private:
  Mutex mu_;
  std::map<std::string, std::weak_ptr<FakeJob>> jobs_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::daemon
