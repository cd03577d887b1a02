#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "store/filter.h"

namespace moby::buildkit::v1 {
class BuildHistoryRecord;
}

namespace kiln::daemon {

// Which records a client wants to see (wire.md 7.1): a record passes when one element of the list
// does, or when there is none. An element is a CSV line of conditions that must all hold: ref,
// status (running, completed, error, canceled) and repository with == != ~=, as in store::Filter;
// startedAt, completedAt (RFC 3339, or a duration: that long ago) and duration with < <= > >=.
// Immutable.
class HistoryFilter {
 public:
  // kInvalidArgument shows the condition and what is wrong with it. Durations count from `now`.
  static absl::StatusOr<HistoryFilter> Parse(absl::Span<const std::string> elements,
                                             absl::Time now);
  bool Matches(const moby::buildkit::v1::BuildHistoryRecord& record, absl::Time now) const;

 private:
  enum class Measure { kStartedAt, kCompletedAt, kDuration };
  enum class Order { kLess, kLessEqual, kGreater, kGreaterEqual };
  struct TimeCondition {
    Measure measure;
    Order order;
    absl::Time time;          // of the first two
    absl::Duration duration;  // of kDuration
  };
  struct Element {
    store::Filter text;
    std::vector<TimeCondition> times;
  };
  static absl::StatusOr<std::optional<TimeCondition>> ParseTime(absl::string_view condition,
                                                                absl::Time now);
  static bool Holds(const TimeCondition& condition,
                    const moby::buildkit::v1::BuildHistoryRecord& record, absl::Time now);

  std::vector<Element> elements_;
};

}  // namespace kiln::daemon
