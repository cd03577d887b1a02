#include "daemon/frontend/dockerfile/syntax/parse.h"

#include <algorithm>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/frontend/dockerfile/syntax/body.h"
#include "daemon/frontend/dockerfile/syntax/flags.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"
#include "daemon/frontend/dockerfile/syntax/lines.h"
#include "daemon/frontend/dockerfile/syntax/unicode.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {

namespace {

bool IsStageName(absl::string_view name) {
  if (name.empty() || !absl::ascii_islower(name[0])) return false;
  for (const char c : name) {
    if (!absl::ascii_islower(c) && !absl::ascii_isdigit(c) && !absl::StrContains("-_.", c))
      return false;
  }
  return true;
}

InstructionText TakeText(LogicalLine* line) {
  std::string& code = line->code;
  const absl::string_view trimmed = TrimSpace(code);
  if (trimmed.size() != code.size()) code = std::string(trimmed);
  return {std::move(line->split.word), std::move(code), line->lines, std::move(line->comments)};
}

// What linting looks at is set in any case, the rest if this is a valid FROM.
absl::Status ParseFrom(LogicalLine* line, Stage* stage) {
  const std::vector<std::string> args = std::move(line->split.args);
  const std::vector<std::string> flag_words = std::move(line->split.flags);
  stage->text = TakeText(line);
  if (args.size() >= 3) stage->as_keyword = args[1];
  if (args.size() == 3) stage->written_name = args[2];
  std::string name;
  if (args.size() == 3 && absl::EqualsIgnoreCase(args[1], "as")) {
    name = absl::AsciiStrToLower(args[2]);
    if (!IsStageName(name)) {
      return absl::InvalidArgumentError(
          absl::StrCat("invalid name for build stage: ", Quote(args[2]),
                       ", name can't start with a number or contain symbols"));
    }
  } else if (args.size() != 1) {
    return absl::InvalidArgumentError("FROM requires either one or three arguments");
  }
  FlagSet flags;
  flags.String("platform", &stage->platform);
  KILN_RETURN_IF_ERROR(flags.Parse(flag_words));
  stage->base = args[0];
  stage->name = std::move(name);
  if (!stage->name.empty()) {
    stage->description = DescriptionOf(stage->name, stage->text.comments);
  }
  return absl::OkStatus();
}

absl::Status Locate(const absl::Status& status, const LineRange& lines) {
  return WithLocation(
      Annotate(status, absl::StrCat("dockerfile parse error on line ", lines.first)), lines);
}

absl::Status AddInstruction(LogicalLine* line, Document* document) {
  const LineRange lines = line->lines;
  if (line->split.keyword == Keyword::kFrom) {
    document->stages.emplace_back();
    const absl::Status status = ParseFrom(line, &document->stages.back());
    return status.ok() ? status : Locate(status, lines);
  }
  auto body = ParseBody(line);
  if (!body.ok()) {
    if (line->split.keyword == Keyword::kMaintainer && !document->stages.empty()) {
      document->stages.back().instructions.push_back({TakeText(line), Maintainer{}});
    }
    return Locate(body.status(), lines);
  }
  if (!document->stages.empty()) {
    Instruction& added = document->stages.back().instructions.emplace_back();
    added.text = TakeText(line);
    added.body = *std::move(body);
    return absl::OkStatus();
  }
  Arg* arg = std::get_if<Arg>(&*body);
  if (arg == nullptr)
    return WithLocation(absl::InvalidArgumentError("no build stage in current context"), lines);
  document->global_args.push_back({TakeText(line), std::move(*arg)});
  return absl::OkStatus();
}

}  // namespace

absl::Status Parse(absl::string_view data, Document* document) {
  *document = {};
  LogicalLines lines;
  KILN_RETURN_IF_ERROR(ReadLines(data, &lines));
  document->escape = lines.escape;
  document->empty_continuations = std::move(lines.empty_continuations);
  std::deque<LogicalLine>& rest = lines.lines;
  while (!rest.empty()) {
    const bool begins_stage = rest.front().split.keyword == Keyword::kFrom;
    KILN_RETURN_IF_ERROR(AddInstruction(&rest.front(), document));
    rest.pop_front();  // its memory serves the next ones
    if (!begins_stage) continue;
    const auto end = std::find_if(rest.begin(), rest.end(), [](const LogicalLine& line) {
      return line.split.keyword == Keyword::kFrom;
    });
    document->stages.back().instructions.reserve(end - rest.begin());
  }
  return absl::OkStatus();
}

absl::StatusOr<Instruction> ParseTrigger(absl::string_view trigger, const LineRange& from) {
  LogicalLines lines;
  if (const absl::Status status = ReadLines(trigger, &lines); !status.ok())
    return WithOnlyLocation(status, from);
  if (lines.lines.size() != 1) {
    return WithLocation(absl::InvalidArgumentError("onbuild trigger should be a single expression"),
                        from);
  }
  LogicalLine& line = lines.lines[0];
  line.lines = from;
  const Keyword keyword = line.split.keyword;
  if (keyword == Keyword::kFrom) {
    return WithLocation(absl::InvalidArgumentError("FROM isn't allowed as an ONBUILD trigger"),
                        from);
  }
  auto body = ParseBody(&line);
  if (!body.ok()) return WithLocation(body.status(), from);
  return Instruction{TakeText(&line), *std::move(body)};
}

}  // namespace kiln::daemon::dockerfile
