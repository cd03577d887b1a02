#include "daemon/frontend/dockerfile/syntax/location.h"

#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/status_details.h"

namespace kiln::daemon::dockerfile {

namespace {

// "3-5,7-7". Never leaves the daemon.
constexpr absl::string_view kLinesPayload = "kiln/dockerfile.lines";

std::vector<std::string> WireRanges(const LineRange& lines) {
  std::vector<std::string> ranges;
  for (int line = lines.first; line <= std::max(lines.first, lines.last); ++line) {
    pb::Range range;
    range.mutable_start()->set_line(line);
    range.mutable_end()->set_line(line);
    ranges.push_back(range.SerializeAsString());
  }
  return ranges;
}

}  // namespace

absl::Status WithLocation(absl::Status status, const LineRange& lines) {
  if (status.ok()) return status;
  std::string text = absl::StrCat(lines.first, "-", lines.last);
  if (const auto before = status.GetPayload(kLinesPayload); before.has_value())
    text = absl::StrCat(std::string(*before), ",", text);
  status.SetPayload(kLinesPayload, absl::Cord(text));
  return status;
}

absl::Status WithOnlyLocation(absl::Status status, const LineRange& lines) {
  return WithLocation(WithoutLocations(std::move(status)), lines);
}

absl::Status WithoutLocations(absl::Status status) {
  status.ErasePayload(kLinesPayload);
  return status;
}

std::vector<LineRange> LocationsOf(const absl::Status& status) {
  std::vector<LineRange> locations;
  const auto payload = status.GetPayload(kLinesPayload);
  if (!payload.has_value()) return locations;
  const std::string text(*payload);
  for (const absl::string_view range : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> ends = absl::StrSplit(range, '-');
    LineRange lines;
    if (absl::SimpleAtoi(ends.first, &lines.first) && absl::SimpleAtoi(ends.second, &lines.last))
      locations.push_back(lines);
  }
  return locations;
}

absl::Status AttachSource(absl::Status status, absl::string_view filename, absl::string_view data) {
  const std::vector<LineRange> locations = LocationsOf(status);
  if (locations.empty()) return status;
  pb::SourceInfo info;
  info.set_filename(std::string(filename));
  info.set_data(std::string(data));
  info.set_language("Dockerfile");
  const std::string info_bytes = info.SerializeAsString();
  status = WithoutLocations(std::move(status));
  for (const LineRange& lines : locations) AddSourceDetail(info_bytes, WireRanges(lines), &status);
  return status;
}

}  // namespace kiln::daemon::dockerfile
