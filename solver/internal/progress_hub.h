#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/hash/hash.h"
#include "solver/internal/event.h"
#include "solver/internal/large_table.h"
#include "solver/kept_progress.h"
#include "solver/op.h"
#include "solver/progress.h"
#include "store/base/mutex.h"

namespace kiln::solver {

// An interval of a vertex in Unix nanoseconds.
struct Interval {
  static constexpr int64_t kNever = INT64_MIN;
  int64_t started = kNever;    // kNever: not yet
  int64_t completed = kNever;  // kNever: not yet
};

// The progress of one job. What it derives by itself: inputs of a vertex that starts were satisfied
// without work unless they ran, so they are shown as cached; at the end open intervals are closed.
//
// There are a few events for each of very many vertices, so they are kept small and made into
// ProgressEvents for whoever reads.
class JobLog : public ProgressLog {
 public:
  std::vector<ProgressEventPtr> Read(size_t offset, size_t limit, bool* ended) override;
  void NotifyAt(size_t offset, absl::AnyInvocable<void()> wake) override;
  void End() override;

  // So many vertices are about to be announced.
  void Reserve(size_t vertices);
  // This one soon.
  void Prefetch(const Digest& vertex);
  // Makes the vertex known, a second time does nothing, and gives its number for Tell. Its inputs
  // are known by then.
  uint32_t Announce(const std::shared_ptr<const VertexInfo>& info);
  void Tell(uint32_t vertex, action::Mark mark, Interval interval, const std::string& error);
  // Of a vertex that was announced; no VertexUpdate.
  void Append(ProgressEventPtr event);

 private:
  enum class Shown : uint8_t { kAnnounced, kKeys, kKeysDone, kRunning, kRan, kCached };
  struct Seen {
    std::shared_ptr<const VertexInfo> info;
    int64_t started = Interval::kNever;         // of the last event
    uint32_t inputs_begin = 0, inputs_end = 0;  // of inputs_
    Shown shown = Shown::kAnnounced;
  };
  enum class What : uint8_t { kUpdate, kCachedUpdate, kEvent };
  struct Entry {
    Interval interval;
    uint32_t index = 0;  // into events_ for kEvent, else into seen_
    What what = What::kUpdate;
  };
  using Wakes = std::vector<absl::AnyInvocable<void()>>;
  // Enough to tell the vertices of one job apart, and small.
  using HalfDigest = std::array<uint32_t, 4>;
  struct HalfHash {
    size_t operator()(const HalfDigest& half) const {
      uint64_t prefix;
      std::memcpy(&prefix, half.data(), sizeof(prefix));
      return absl::HashOf(prefix);
    }
  };
  static HalfDigest Half(const Digest& digest) {
    HalfDigest half;
    std::memcpy(half.data(), digest.raw().data(), sizeof(half));
    return half;
  }

  void PushUpdate(uint32_t vertex, Interval interval, bool cached, const std::string& error)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void PushEvent(ProgressEventPtr event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void MarkInputsCached(const Seen& starter, int64_t when) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Wakes TakeDue() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Mutex mu_;
  std::deque<Entry> entries_ ABSL_GUARDED_BY(mu_);
  std::vector<ProgressEventPtr> events_ ABSL_GUARDED_BY(mu_);  // those kept whole
  std::deque<Seen> seen_ ABSL_GUARDED_BY(mu_);                 // in the order of announcement
  std::deque<uint32_t> inputs_ ABSL_GUARDED_BY(mu_);           // of each of them, into seen_
  LargeTable<HalfDigest, uint32_t, HalfHash> index_ ABSL_GUARDED_BY(mu_);  // into seen_
  std::vector<std::pair<size_t, absl::AnyInvocable<void()>>> waiters_ ABSL_GUARDED_BY(mu_);
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
};

// Everything told of one vertex, append-only; each subscribed job gets all of it, in order, from
// the beginning. Locks: a leader's before a follower's before a job's.
class VertexLog : public KeptProgressSink {
 public:
  explicit VertexLog(std::shared_ptr<const VertexInfo> info) : info_(std::move(info)) {}

  const VertexInfo& info() const { return *info_; }

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
  struct Subscriber {
    std::shared_ptr<JobLog> job;
    uint32_t vertex;  // its number there
  };
  struct Entry {
    Interval interval;
    int32_t text = -1;  // kMark: index into errors, or -1; else into events
    bool is_event = false;
    action::Mark mark = action::Mark::kKeys;
  };
  // What most vertices have nothing of.
  struct Words {
    std::vector<ProgressEventPtr> events;
    std::vector<std::string> errors;
    std::vector<std::shared_ptr<VertexLog>> followers;
  };

  Words& words() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FromOp(ProgressEventPtr event);
  // The same event told of this vertex.
  ProgressEventPtr AsOwn(const ProgressEvent& event) const;

  const std::shared_ptr<const VertexInfo> info_;
  Mutex mu_;
  absl::InlinedVector<Entry, 2> entries_ ABSL_GUARDED_BY(mu_);
  absl::InlinedVector<Subscriber, 1> jobs_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<Words> words_ ABSL_GUARDED_BY(mu_);
  int64_t started_ ABSL_GUARDED_BY(mu_) = Interval::kNever;  // the open interval, if any
};

// Has the job subscribe to all of them, in this order.
void SubscribeAll(const std::vector<std::shared_ptr<VertexLog>>& logs,
                  const std::shared_ptr<JobLog>& job);

}  // namespace kiln::solver
