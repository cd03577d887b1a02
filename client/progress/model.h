#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "client/progress/progress.h"

namespace kiln::client {

// One line of a display: a vertex, or a group of vertices that share a name.
struct Step {
  enum class State { kWaiting, kRunning, kDone, kCached, kCanceled, kFailed };

  struct LogLine {
    double seconds = 0;  // since the step's latest start
    std::string text;
  };
  struct Part {  // a VertexStatus
    StatusEvent event;
    bool changed = true;  // since a display last showed it
  };

  int number = 0;  // from 1, in order of first appearance as started; 0: not yet shown
  std::string name;
  State state = State::kWaiting;
  std::optional<absl::Time> started;    // of the latest run
  std::optional<absl::Time> completed;  // of the latest run
  absl::Duration before;                // time of earlier runs
  std::string error;
  std::vector<Part> parts;
  std::vector<LogLine> new_lines;  // complete lines that no display has taken yet
  std::deque<std::string> tail;    // the last lines
  size_t lines_total = 0;
  std::vector<WarningEvent> warnings;  // not yet taken
  bool internal() const { return name.rfind("[internal]", 0) == 0; }
  bool ended() const { return state != State::kWaiting && state != State::kRunning; }
  // Of all its runs; a running one counts up to `now`.
  absl::Duration Elapsed(absl::Time now) const;
};

// Counts for the summary. Internal bookkeeping steps (names that begin with "[internal]") and
// exports count like any other.
struct StepCounts {
  int total = 0;
  int cached = 0;
  int run = 0;  // completed without the cache
  int failed = 0;
  int canceled = 0;
};

// What the events so far say about each step. Not thread-safe.
class ProgressModel {
 public:
  static constexpr size_t kTailLines = 200;

  // Returns the steps that changed, each once.
  std::vector<Step*> Apply(const ProgressUpdate& update);

  // All steps that were started, in the order of their numbers.
  const std::vector<Step*>& started() const { return started_; }
  // Steps announced, started or not.
  int announced() const { return static_cast<int>(steps_.size()); }
  StepCounts Counts() const;
  // Every warning, for the final list.
  const std::vector<WarningEvent>& warnings() const { return warnings_; }
  // The daemon's clock may differ: its time minus ours, from the first start seen.
  absl::Time DaemonNow(absl::Time ours) const { return ours + clock_offset_; }

 private:
  struct Member {
    VertexEvent event;
    bool weak = false;
  };
  struct Entry {
    Step step;
    std::vector<Member> members;  // one, unless a group
    bool group = false;
    std::string partial;  // a log line without its end
  };
  Entry* FindOrAdd(const VertexEvent& event);
  void ApplyVertex(const VertexEvent& event, Entry* entry);
  void Refresh(Entry* entry);
  void ApplyLog(const LogEvent& event, Entry* entry);

  std::vector<std::unique_ptr<Entry>> steps_;
  absl::flat_hash_map<std::string, Entry*> by_digest_;
  absl::flat_hash_map<std::string, Entry*> by_group_;
  std::vector<Step*> started_;
  std::vector<WarningEvent> warnings_;
  bool clock_known_ = false;
  absl::Duration clock_offset_;
};

}  // namespace kiln::client
