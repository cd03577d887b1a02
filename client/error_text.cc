#include "client/error_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "client/progress/text.h"
#include "proto/status_details.h"

namespace kiln::client {
namespace {

constexpr char kUsageMark[] = "kiln.usage";

constexpr char kRule[] = "--------------------\n";
constexpr int kMaxColumns = 4096;

int Line(const nlohmann::json& range, const char* end) {
  const auto position = range.find(end);
  if (position == range.end() || !position->is_object()) return 0;
  const auto line = position->find("line");
  return line == position->end() || !line->is_number_integer() ? 0 : line->get<int>();
}

// The excerpts of one Source detail: JSON from the daemon, so nothing in it is taken for granted.
std::string SourceDetail(absl::string_view text) {
  const nlohmann::json source = nlohmann::json::parse(text, nullptr, false);
  if (!source.is_object() || !source.contains("info") || !source["info"].is_object()) return "";
  const nlohmann::json& info = source["info"];
  std::string filename, data;
  if (info.contains("filename") && info["filename"].is_string()) filename = info["filename"];
  if (info.contains("data") && info["data"].is_string() &&
      !absl::Base64Unescape(info["data"].get<std::string>(), &data)) {
    return "";
  }
  const auto ranges = source.find("ranges");
  if (ranges == source.end() || !ranges->is_array() || ranges->empty()) return "";
  int first = 0, last = 0;
  for (const nlohmann::json& range : *ranges) {
    if (!range.is_object()) continue;
    const int begin = Line(range, "start");
    if (begin <= 0) continue;
    first = first == 0 ? begin : std::min(first, begin);
    last = std::max({last, begin, Line(range, "end")});
  }
  return SourceExcerpt(filename, data, first, last);
}

}  // namespace

std::string SourceExcerpt(absl::string_view filename, absl::string_view text, int first, int last) {
  const std::vector<absl::string_view> lines = absl::StrSplit(text, '\n');
  const int total = static_cast<int>(lines.size());
  if (first < 1 || first > total) return "";
  last = std::clamp(last, first, total);
  // More around a single line than around several; what is missing on one side goes to the other.
  const int around = first == last ? 2 : 1;
  int begin = first - around, end = last + around;
  if (begin < 1) {
    end += 1 - begin;
    begin = 1;
  }
  if (end > total) {
    begin = std::max(1, begin - (end - total));
    end = total;
  }
  std::string out = absl::StrCat(ToDisplay(filename, kMaxColumns), ":", first, "\n", kRule);
  for (int line = begin; line <= end; ++line) {
    const bool marked = line >= first && line <= last;
    absl::StrAppend(&out, absl::StrFormat(" %3d | %s ", line, marked ? ">>>" : "   "),
                    ToDisplay(lines[line - 1], kMaxColumns), "\n");
  }
  return absl::StrCat(out, kRule);
}

std::string DescribeError(const absl::Status& status) {
  std::string out;
  for (const StatusDetail& detail : Details(status)) {
    if (detail.type_url == kSourceDetail) absl::StrAppend(&out, SourceDetail(detail.value));
  }
  return absl::StrCat(out, "error: ", status.message(), "\n");
}

absl::Status WrongUsage(absl::Status status) {
  if (absl::IsInvalidArgument(status)) status.SetPayload(kUsageMark, absl::Cord());
  return status;
}

int ExitCodeOf(const absl::Status& status) {
  if (status.GetPayload(kUsageMark).has_value()) return kExitUsage;
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kCancelled:
      return kExitCanceled;
    case absl::StatusCode::kUnavailable:
      return kExitNoDaemon;
    default:
      return kExitFailed;
  }
}

}  // namespace kiln::client
