#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "solver/internal/event.h"
#include "solver/op.h"
#include "solver/progress.h"
#include "store/base/mutex.h"

namespace kiln::solver {

// The progress of one job. What it derives by itself: inputs of a vertex that starts were satisfied
// without work unless they ran, so they are shown as cached; at the end open intervals are closed.
class JobLog : public ProgressLog {
 public:
  std::vector<ProgressEventPtr> Read(size_t offset, size_t limit, bool* ended) override;
  void NotifyAt(size_t offset, absl::AnyInvocable<void()> wake) override;
  void End() override;

  // `mark` is null for what is no VertexUpdate.
  void Append(const ProgressEventPtr& event, const action::Mark* mark);
  // Makes the vertex known; a second time does nothing.
  void Announce(const ProgressEventPtr& event);

 private:
  enum class Shown : uint8_t { kAnnounced, kKeys, kKeysDone, kRunning, kRan, kCached };
  struct Seen {
    ProgressEventPtr last;  // a VertexUpdate
    Shown shown = Shown::kAnnounced;
  };

  void Push(ProgressEventPtr event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void MarkInputsCached(const VertexUpdate& starter) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::vector<absl::AnyInvocable<void()>> TakeDue() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Mutex mu_;
  std::vector<ProgressEventPtr> events_ ABSL_GUARDED_BY(mu_);
  std::vector<Seen> seen_ ABSL_GUARDED_BY(mu_);  // in the order of announcement
  absl::flat_hash_map<Digest, uint32_t> index_ ABSL_GUARDED_BY(mu_);
  std::vector<std::pair<size_t, absl::AnyInvocable<void()>>> waiters_ ABSL_GUARDED_BY(mu_);
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
};

// Everything told of one vertex, append-only; each subscribed job gets all of it, in order, from
// the beginning. Locks: a leader's before a follower's before a job's.
class VertexLog : public ProgressSink {
 public:
  static std::shared_ptr<VertexLog> Make(std::shared_ptr<const VertexInfo> info,
                                         std::vector<Digest> inputs) {
    return std::make_shared<VertexLog>(std::move(info), std::move(inputs));
  }
  VertexLog(std::shared_ptr<const VertexInfo> info, std::vector<Digest> inputs)
      : info_(std::move(info)), inputs_(std::move(inputs)) {}

  void Subscribe(std::shared_ptr<JobLog> job);
  void Unsubscribe(const JobLog* job);

  void Tell(action::Mark mark, absl::Time now, const std::string& error);
  // What ops told here so far and from now on is told by `follower` as well.
  void AddFollower(std::shared_ptr<VertexLog> follower);
  void DropFollowers();

  void Status(StatusUpdate update) override;
  void Log(LogChunk chunk) override;
  void Warn(Warning warning) override;

 private:
  struct Entry {
    ProgressEventPtr event;
    bool has_mark = false;
    action::Mark mark = action::Mark::kKeys;
  };

  VertexUpdate Announcement() const;
  void Append(Entry entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FromOp(ProgressEventPtr event);
  // The same event told of this vertex.
  ProgressEventPtr AsOwn(const ProgressEvent& event) const;

  const std::shared_ptr<const VertexInfo> info_;
  const std::vector<Digest> inputs_;
  Mutex mu_;
  ProgressEventPtr announcement_ ABSL_GUARDED_BY(mu_);
  std::vector<Entry> entries_ ABSL_GUARDED_BY(mu_);
  std::vector<std::shared_ptr<JobLog>> jobs_ ABSL_GUARDED_BY(mu_);
  std::vector<std::shared_ptr<VertexLog>> followers_ ABSL_GUARDED_BY(mu_);
  absl::Time started_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();  // the open interval, if any
};

}  // namespace kiln::solver
