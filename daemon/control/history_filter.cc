#include "daemon/control/history_filter.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "proto/buildkit/control.pb.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

namespace pbc = moby::buildkit::v1;

absl::Time ToTime(const google::protobuf::Timestamp& stamp) {
  return absl::FromUnixSeconds(stamp.seconds()) + absl::Nanoseconds(stamp.nanos());
}

// Fields of a CSV line (RFC 4180); Go's reader takes quotes only around a whole field.
absl::StatusOr<std::vector<std::string>> SplitCsv(absl::string_view line) {
  std::vector<std::string> fields(1);
  bool quoted = false, closed = false;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (quoted) {
      if (c != '"') {
        fields.back().push_back(c);
      } else if (i + 1 < line.size() && line[i + 1] == '"') {
        fields.back().push_back(line[++i]);
      } else {
        quoted = false;
        closed = true;
      }
    } else if (c == ',') {
      fields.emplace_back();
      closed = false;
    } else if (c == '"' && fields.back().empty() && !closed) {
      quoted = true;
    } else if (closed) {
      return absl::InvalidArgumentError(
          absl::StrCat("history filter ", line, ": text after quotes"));
    } else {
      fields.back().push_back(c);
    }
  }
  if (quoted)
    return absl::InvalidArgumentError(absl::StrCat("history filter ", line, ": open quotes"));
  return fields;
}

std::string StatusOf(const pbc::BuildHistoryRecord& record) {
  if (!record.has_completedat()) return "running";
  if (!record.has_error()) return "completed";
  return record.error().code() == 1 ? "canceled" : "error";
}

// Where the sources came from, when the client told.
std::optional<std::string> RepositoryOf(const pbc::BuildHistoryRecord& record) {
  for (const char* key : {"vcs:source", "context"}) {
    const auto found = record.frontendattrs().find(key);
    if (found != record.frontendattrs().end() && !found->second.empty()) return found->second;
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<std::optional<HistoryFilter::TimeCondition>> HistoryFilter::ParseTime(
    absl::string_view condition, absl::Time now) {
  static constexpr std::pair<absl::string_view, Measure> kMeasures[] = {
      {"startedAt", Measure::kStartedAt},
      {"completedAt", Measure::kCompletedAt},
      {"duration", Measure::kDuration}};
  static constexpr std::pair<absl::string_view, Order> kOrders[] = {{"<=", Order::kLessEqual},
                                                                    {">=", Order::kGreaterEqual},
                                                                    {"<", Order::kLess},
                                                                    {">", Order::kGreater}};
  for (const auto& [name, measure] : kMeasures) {
    absl::string_view rest = condition;
    if (!absl::ConsumePrefix(&rest, name)) continue;
    for (const auto& [text, order] : kOrders) {
      if (!absl::ConsumePrefix(&rest, text)) continue;
      TimeCondition made = {measure, order, absl::InfinitePast(), absl::ZeroDuration()};
      std::string error;
      if (absl::ParseDuration(rest, &made.duration)) {
        made.time = now - made.duration;
        return made;
      }
      if (measure != Measure::kDuration &&
          absl::ParseTime(absl::RFC3339_full, rest, &made.time, &error))
        return made;
      return absl::InvalidArgumentError(
          absl::StrCat("history filter ", condition, ": \"", rest, "\" is no ",
                       measure == Measure::kDuration ? "duration" : "time or duration"));
    }
    return absl::InvalidArgumentError(
        absl::StrCat("history filter ", condition, ": needs one of < <= > >="));
  }
  return std::nullopt;
}

absl::StatusOr<HistoryFilter> HistoryFilter::Parse(absl::Span<const std::string> elements,
                                                   absl::Time now) {
  HistoryFilter filter;
  for (const std::string& line : elements) {
    if (line.empty()) continue;  // a client without filters may send one
    KILN_ASSIGN_OR_RETURN(const std::vector<std::string> fields, SplitCsv(line));
    Element element;
    std::vector<std::string> texts;
    for (const std::string& field : fields) {
      KILN_ASSIGN_OR_RETURN(const auto time, ParseTime(field, now));
      if (time.has_value())
        element.times.push_back(*time);
      else
        texts.push_back(field);
    }
    std::vector<std::string> joined;
    if (!texts.empty()) joined.push_back(absl::StrJoin(texts, ","));
    KILN_ASSIGN_OR_RETURN(element.text, store::Filter::Parse(joined));
    filter.elements_.push_back(std::move(element));
  }
  return filter;
}

bool HistoryFilter::Holds(const TimeCondition& condition, const pbc::BuildHistoryRecord& record,
                          absl::Time now) {
  const auto compare = [&](auto have, auto want) {
    switch (condition.order) {
      case Order::kLess:
        return have < want;
      case Order::kLessEqual:
        return have <= want;
      case Order::kGreater:
        return have > want;
      case Order::kGreaterEqual:
        return have >= want;
    }
    return false;
  };
  const absl::Time started = ToTime(record.createdat());
  if (condition.measure == Measure::kStartedAt) return compare(started, condition.time);
  const bool ended = record.has_completedat();
  if (condition.measure == Measure::kCompletedAt)
    return ended && compare(ToTime(record.completedat()), condition.time);
  return compare((ended ? ToTime(record.completedat()) : now) - started, condition.duration);
}

bool HistoryFilter::Matches(const pbc::BuildHistoryRecord& record, absl::Time now) const {
  if (elements_.empty()) return true;
  const auto field = [&](absl::Span<const std::string> path) -> std::optional<std::string> {
    if (path.size() != 1) return std::nullopt;
    if (path[0] == "ref") return record.ref();
    if (path[0] == "status") return StatusOf(record);
    if (path[0] == "repository") return RepositoryOf(record);
    return std::nullopt;
  };
  for (const Element& element : elements_) {
    if (!element.text.Matches(field)) continue;
    bool all = true;
    for (const TimeCondition& time : element.times) all = all && Holds(time, record, now);
    if (all) return true;
  }
  return false;
}

}  // namespace kiln::daemon
