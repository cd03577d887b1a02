#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/control/build.h"
#include "store/base/deadline.h"
#include "store/base/fd.h"
#include "store/base/mutex.h"
#include "store/base/steady_cond_var.h"
#include "store/blob_store.h"
#include "store/database.h"

namespace moby::buildkit::v1 {
class BuildHistoryRecord;
class Descriptor;
class StatusResponse;
}  // namespace moby::buildkit::v1

namespace kiln::daemon {

// The status stream of an ended build, as it was kept. Not thread-safe; blocks on disk.
class StatusReplay {
 public:
  explicit StatusReplay(Fd file) : file_(std::move(file)) {}
  // False at the end, and when what was kept cannot be read: status() tells.
  bool Next(moby::buildkit::v1::StatusResponse* out);
  const absl::Status& status() const { return status_; }

 private:
  absl::StatusOr<bool> Read(moby::buildkit::v1::StatusResponse* out);
  Fd file_;
  absl::Status status_;
};

// How long ended builds are kept: those beyond the newest `keep` go when they are older than
// `max_age`, unless they are pinned.
struct HistoryLimits {
  size_t keep = 50;
  absl::Duration max_age = absl::Hours(48);
};

// The builds that run and the records of those that ended (wire.md 7). Records are rows of the
// database, what hangs on them (status stream, error with its details, provenance, the documents of
// images) blobs under a lease of the record's. Internal builds are not told of. Thread-safe; what
// is not said to be quick blocks on disk.
class BuildHistory {
 public:
  enum class EventType { kStarted = 0, kComplete = 1, kDeleted = 2 };
  // `record` is a serialized BuildHistoryRecord.
  struct Event {
    EventType type;
    std::string ref;
    std::shared_ptr<const std::string> record;
  };

  // `database` and `blobs` outlive it.
  BuildHistory(store::Database* database, store::BlobStore* blobs, HistoryLimits limits);
  // Keeps what it was given.
  ~BuildHistory();

  // Waits for the record of an earlier build of that ref; else quick.
  void Started(const BuildPtr& build);
  // The build and its progress have ended, and Keep will be called. It runs no more, and whoever
  // asks for its record, or for all, waits until it is kept: so its client may have its answer
  // before. Writes the row that is left, without anything that hangs on it, when the daemon dies
  // before Keep has replaced it: one write without fsync.
  void Ended(const BuildPtr& build, const BuildEnd& end);
  // Keeps the whole record, then lets go of what `end` holds, on a thread of its own: 50 ms later,
  // when the client that was just answered is not in need of the processor any more, or as soon as
  // somebody waits for it. What cannot be kept is logged: the build's own outcome counts more.
  // Quick.
  void Keep(const BuildPtr& build, BuildEnd end);

  // Returns when every build that has ended by now is kept: whatever it held of the store is let go
  // but for what its record holds.
  void WaitUntilKept() const;

  // A serialized record of an ended build. kNotFound.
  absl::StatusOr<std::string> Get(absl::string_view ref) const;
  // All of them, in no order.
  absl::StatusOr<std::vector<std::string>> List() const;
  // Its status stream. kNotFound without a record, kDataLoss when the record has no stream.
  absl::StatusOr<std::unique_ptr<StatusReplay>> OpenLogs(absl::string_view ref) const;

  // "failed to retrieve ref X: file does not exist".
  absl::Status SetPinned(const std::string& ref, bool pinned);
  // Unknown refs are fine.
  absl::Status Delete(const std::string& ref);

  // Calls back for every event from now on, quick and in order, and first for the builds that run
  // now. Returns what StopListening takes; afterwards it is not called any more. Quick.
  using Listener = std::function<void(const Event&)>;
  uint64_t Listen(Listener listener);
  void StopListening(uint64_t id);

 private:
  struct Ending {
    BuildPtr build;
    BuildEnd end;
    Deadline due;
  };
  void Run();
  void KeepNow(const BuildPtr& build, BuildEnd end);
  absl::Status Write(const BuildPtr& build, const BuildEnd& end,
                     moby::buildkit::v1::BuildHistoryRecord* record);
  absl::Status KeepLogs(const BuildPtr& build, const std::string& lease,
                        moby::buildkit::v1::BuildHistoryRecord* record);
  absl::Status KeepProvenance(const BuildEnd& end, const std::string& lease,
                              moby::buildkit::v1::BuildHistoryRecord* record);
  absl::Status KeepBlob(const std::string& bytes, const char* media_type, const std::string& lease,
                        moby::buildkit::v1::Descriptor* descriptor);
  absl::Status Put(const moby::buildkit::v1::BuildHistoryRecord& record);
  // Drops what the limits leave out. Reads nothing before the first record can be too old.
  void Collect();
  // When the next one can be.
  absl::StatusOr<absl::Time> DeleteTooOld();
  // Without waiting for what is being kept.
  absl::StatusOr<std::string> GetKept(absl::string_view ref) const;
  absl::StatusOr<std::vector<std::string>> ListKept() const;
  absl::Status DeleteKept(const std::string& ref);

  // Until the build of that ref is kept.
  void WaitFor(absl::string_view ref) const;
  void TellLocked(const Event& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  store::Database* const database_;
  store::BlobStore* const blobs_;
  const HistoryLimits limits_;
  Mutex change_mu_;  // one change of a record at a time; taken before mu_
  mutable Mutex mu_;
  std::map<std::string, Event> running_ ABSL_GUARDED_BY(mu_);
  absl::Time collect_at_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
  std::set<std::string, std::less<>> keeping_ ABSL_GUARDED_BY(mu_);  // refs: ended, not yet kept
  mutable CondVar kept_;
  std::deque<Ending> endings_ ABSL_GUARDED_BY(mu_);
  mutable int waiting_ ABSL_GUARDED_BY(mu_) = 0;  // for kept_
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  mutable SteadyCondVar hurry_;  // of endings_, waiting_ and stopping_
  uint64_t next_listener_ ABSL_GUARDED_BY(mu_) = 1;
  std::map<uint64_t, Listener> listeners_ ABSL_GUARDED_BY(mu_);
  std::thread thread_;  // last: it uses the rest
};

}  // namespace kiln::daemon
