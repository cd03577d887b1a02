#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/gateway/bridge.h"
#include "solver/solver.h"
#include "store/base/cancel.h"
#include "store/base/mutex.h"
#include "store/layer/descriptor.h"

namespace kiln::daemon {

class BuildProvenance;

// Warnings that a frontend raised, in order; like solver::ProgressLog. Thread-safe.
class WarningLog {
 public:
  void Add(solver::VertexWarningUpdate warning);
  std::vector<solver::VertexWarningUpdate> Read(size_t offset);
  // Calls `wake` once when there is something at or after `offset`; at once if there is already.
  void NotifyAt(size_t offset, absl::AnyInvocable<void()> wake);

 private:
  Mutex mu_;
  std::vector<solver::VertexWarningUpdate> warnings_ ABSL_GUARDED_BY(mu_);
  std::vector<absl::AnyInvocable<void()>> waiting_ ABSL_GUARDED_BY(mu_);
};

// One Control.Solve, while it runs and a little longer, so that a client whose Status call comes
// late still reads it. Members are constant, but for what they point to.
struct Build {
  std::string ref;
  std::string frontend;
  std::map<std::string, std::string> frontend_attrs;
  std::vector<std::pair<std::string, std::map<std::string, std::string>>> exporters;
  absl::Time created_at;
  bool internal = false;  // not told to those who listen to the history
  std::shared_ptr<solver::Job> job;
  std::shared_ptr<Bridge> bridge;  // null: not driven by the client
  std::shared_ptr<WarningLog> warnings;
  std::shared_ptr<CancelSource> cancel;  // ends the build from inside the daemon
};
using BuildPtr = std::shared_ptr<const Build>;

// How a build ended.
struct BuildEnd {
  absl::Status status;
  absl::Time completed_at;
  std::map<std::string, std::string> exporter_response;
  std::map<std::string, std::string> result_metadata = {};  // of the frontend
  std::map<int, store::Descriptor> roots = {};              // of images, by the exporter's index
  std::shared_ptr<const BuildProvenance> provenance = nullptr;  // null: none is kept
  std::vector<std::shared_ptr<void>> holds =
      {};  // on what exports made, until a record has its own
};

// The builds that run, and those that ended just now. Thread-safe.
class BuildTable : public BridgeFinder {
 public:
  // How long callers wait for a build to appear (BuildKit: gateway forwarder, status).
  struct Waits {
    absl::Duration bridge = absl::Seconds(3);
    absl::Duration status = absl::Seconds(6);
  };
  explicit BuildTable(Waits waits) : waits_(waits) {}
  BuildTable() : BuildTable(Waits()) {}

  // kUnavailable while draining.
  absl::Status Add(BuildPtr build);
  // The build ended; it stays findable for Status until Remove.
  void End(const BuildPtr& build, const BuildEnd& end);
  void Remove(const BuildPtr& build);

  // A build of that ref was refused before it began, so who waits for it need not: for Status it
  // ended, having nothing to show. Forgotten when a build of the ref begins, and in time.
  void Refused(const std::string& ref);

  // For Status: running or just ended; null for one that was refused. kNotFound "no such job X"
  // after the wait. Blocks.
  absl::StatusOr<BuildPtr> Find(absl::string_view ref, const CancelToken& cancel);
  absl::StatusOr<std::shared_ptr<Bridge>> FindBridge(absl::string_view build_id,
                                                     const CancelToken& cancel) override;
  // Without waiting; null when there is none.
  BuildPtr Peek(absl::string_view ref) const;

  // Running builds, oldest first.
  std::vector<BuildPtr> Running() const;
  int64_t total() const;

  // From now on Add fails with `why`.
  void Drain(absl::Status why);
  // Waits until no build runs; false at the deadline.
  bool WaitIdle(absl::Time deadline);
  // Cancels what runs.
  void CancelAll(const absl::Status& why);

  // Tells a listener of builds that begin (end is null) and end. The builds that run now are told
  // first. The listener must not block. Returns what RemoveListener takes; afterwards the listener
  // is not called any more.
  using Listener = std::function<void(const BuildPtr& build, const BuildEnd* end)>;
  uint64_t AddListener(Listener listener);
  void RemoveListener(uint64_t id);

 private:
  struct Entry {
    BuildPtr build;
    bool running = true;
  };
  absl::StatusOr<BuildPtr> Wait(absl::string_view ref, absl::Duration timeout, bool with_bridge,
                                const CancelToken& cancel);

  const Waits waits_;
  mutable Mutex mu_;
  CondVar changed_;
  absl::flat_hash_map<std::string, Entry> builds_ ABSL_GUARDED_BY(mu_);
  std::deque<std::string> refused_ ABSL_GUARDED_BY(mu_);  // the last ones
  absl::Status draining_ ABSL_GUARDED_BY(mu_);
  int64_t total_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t next_listener_ ABSL_GUARDED_BY(mu_) = 1;
  std::map<uint64_t, Listener> listeners_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::daemon
