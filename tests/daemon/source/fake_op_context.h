#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/session/session.h"
#include "solver/op.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

// What an op sees while it runs, for tests: remembers progress.
class FakeOpContext : public solver::OpContext, public solver::ProgressSink, solver::JobValues {
 public:
  const CancelToken& cancel() const override { return token_; }
  solver::ProgressSink& progress() override { return *this; }
  const solver::VertexInfo& vertex() const override { return vertex_; }
  std::vector<std::string> SessionIds() const override { return session_ids; }
  solver::JobValues& job_values() override { return *this; }

  void Status(solver::StatusUpdate update) override {
    MutexLock lock(&mu_);
    statuses.push_back(std::move(update));
  }
  void Log(solver::LogChunk) override {}
  void Warn(solver::Warning) override {}
  absl::StatusOr<std::string> GetOrMake(
      const std::string& key, const std::function<absl::StatusOr<std::string>()>& make) override {
    auto it = values.find(key);
    if (it != values.end()) return it->second;
    absl::StatusOr<std::string> made = make();
    if (made.ok()) values[key] = *made;
    return made;
  }

  void Cancel(absl::Status cause) { source_.Cancel(std::move(cause)); }

  std::vector<std::string> session_ids;
  std::vector<solver::StatusUpdate> statuses;
  std::map<std::string, std::string> values;

 private:
  CancelSource source_;
  const CancelToken token_ = source_.token();
  const solver::VertexInfo vertex_;
  Mutex mu_;
};

// Sessions by id, without waiting.
class FakeSessions : public SessionFinder {
 public:
  absl::StatusOr<SessionPtr> Get(absl::string_view id, const CancelToken&) override {
    auto it = sessions.find(std::string(id));
    if (it != sessions.end()) return it->second;
    return absl::NotFoundError(
        absl::StrCat("no active session for ", id, ": context deadline exceeded"));
  }
  absl::Status Any(absl::Span<const std::string> ids, const CancelToken& cancel,
                   const std::function<absl::Status(Session&)>& use) override {
    absl::Status status = absl::FailedPreconditionError("no active sessions");
    for (const std::string& id : ids) {
      absl::StatusOr<SessionPtr> session = Get(id, cancel);
      status = session.ok() ? use(**session) : session.status();
      if (status.ok()) return status;
    }
    return status;
  }

  std::map<std::string, SessionPtr> sessions;
};

}  // namespace kiln::daemon
