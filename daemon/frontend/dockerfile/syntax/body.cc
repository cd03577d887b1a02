#include "daemon/frontend/dockerfile/syntax/body.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "daemon/frontend/dockerfile/syntax/flags.h"
#include "daemon/frontend/dockerfile/syntax/suggest.h"
#include "daemon/frontend/dockerfile/syntax/unicode.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {

namespace {

absl::Status NoFlags(const SplitInstruction& split) { return FlagSet().Parse(split.flags); }

absl::Status BlankName(absl::string_view instruction) {
  return absl::InvalidArgumentError(absl::StrCat(instruction, " names can not be blank"));
}

// WORKDIR, USER and MAINTAINER.
absl::StatusOr<std::string> OneArgument(absl::string_view instruction, SplitInstruction* split) {
  if (split->args.size() != 1) return NeedsOneArgument(instruction);
  KILN_RETURN_IF_ERROR(NoFlags(*split));
  return std::move(split->args[0]);
}

absl::StatusOr<std::vector<KeyValue>> TakePairs(absl::string_view instruction,
                                                SplitInstruction* split) {
  KILN_RETURN_IF_ERROR(NoFlags(*split));
  if (split->pairs.empty()) return NeedsArguments(instruction);
  for (const KeyValue& pair : split->pairs) {
    if (pair.key.empty()) return BlankName(instruction);
  }
  return std::move(split->pairs);
}

absl::StatusOr<Arg> ParseArg(LogicalLine* line) {
  if (line->split.args.empty()) return NeedsArguments("ARG");
  // As DescriptionOf finds them, but for all keys at once: both may be many.
  absl::flat_hash_map<absl::string_view, absl::string_view> descriptions;
  for (const absl::string_view comment : line->comments) {
    const size_t blank = comment.find(' ');
    if (blank != absl::string_view::npos)
      descriptions.emplace(comment.substr(0, blank), comment.substr(blank + 1));
  }
  Arg arg;
  for (const std::string& word : line->split.args) {
    ArgDefinition& definition = arg.args.emplace_back();
    const size_t equals = word.find('=');
    if (equals == 0) return BlankName("ARG");
    definition.key = word.substr(0, equals);
    if (equals != std::string::npos) definition.value = word.substr(equals + 1);
    if (const auto found = descriptions.find(definition.key); found != descriptions.end())
      definition.description = std::string(found->second);
  }
  return arg;
}

absl::StatusOr<Shell> ParseShell(SplitInstruction* split) {
  KILN_RETURN_IF_ERROR(NoFlags(*split));
  if (split->args.empty()) return NeedsArguments("SHELL");
  if (!split->json)
    return absl::InvalidArgumentError("SHELL requires the arguments to be in JSON form");
  return Shell{std::move(split->args)};
}

absl::StatusOr<Expose> ParseExpose(SplitInstruction* split) {
  if (split->args.empty()) return NeedsArguments("EXPOSE");
  KILN_RETURN_IF_ERROR(NoFlags(*split));
  std::sort(split->args.begin(), split->args.end());
  return Expose{std::move(split->args)};
}

absl::StatusOr<Volume> ParseVolume(SplitInstruction* split) {
  if (split->args.empty()) return NeedsArguments("VOLUME");
  KILN_RETURN_IF_ERROR(NoFlags(*split));
  Volume volume;
  for (const std::string& path : split->args) {
    volume.paths.emplace_back(TrimSpace(path));
    if (volume.paths.back().empty())
      return absl::InvalidArgumentError("VOLUME specified can not be an empty string");
  }
  return volume;
}

// The instruction within an ONBUILD, with the here-documents that it had.
std::string TriggerOf(const LogicalLine& line) {
  absl::string_view code = TrimLeadingSpace(line.code);
  code.remove_prefix(line.split.word.size());
  std::string trigger(absl::StripLeadingAsciiWhitespace(code));
  for (const Heredoc& heredoc : line.heredocs)
    absl::StrAppend(&trigger, "\n", heredoc.content, heredoc.name);
  return trigger;
}

absl::StatusOr<Onbuild> ParseOnbuild(const LogicalLine& line) {
  if (line.split.trigger_word.empty()) return NeedsArguments("ONBUILD");
  KILN_RETURN_IF_ERROR(NoFlags(line.split));
  const Keyword keyword = ToKeyword(line.split.trigger_word);
  if (keyword == Keyword::kOnbuild)
    return absl::InvalidArgumentError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
  if (keyword == Keyword::kFrom || keyword == Keyword::kMaintainer) {
    return absl::InvalidArgumentError(absl::StrCat(absl::AsciiStrToUpper(line.split.trigger_word),
                                                   " isn't allowed as an ONBUILD trigger"));
  }
  return Onbuild{TriggerOf(line)};
}

}  // namespace

absl::Status NeedsOneArgument(absl::string_view instruction) {
  return absl::InvalidArgumentError(absl::StrCat(instruction, " requires exactly one argument"));
}

absl::Status NeedsArguments(absl::string_view instruction) {
  return absl::InvalidArgumentError(absl::StrCat(instruction, " requires at least one argument"));
}

CommandLine TakeCommand(SplitInstruction* split) { return {std::move(split->args), !split->json}; }

std::string DescriptionOf(absl::string_view name, const std::vector<std::string>& comments) {
  for (absl::string_view comment : comments) {
    if (absl::ConsumePrefix(&comment, name) && absl::ConsumePrefix(&comment, " "))
      return std::string(comment);
  }
  return "";
}

absl::StatusOr<InstructionBody> ParseBody(LogicalLine* line) {
  SplitInstruction& split = line->split;
  switch (split.keyword) {
    case Keyword::kAdd:
      return ParseAdd(line);
    case Keyword::kArg:
      return ParseArg(line);
    case Keyword::kCmd:
      KILN_RETURN_IF_ERROR(NoFlags(split));
      return Cmd{TakeCommand(&split)};
    case Keyword::kCopy:
      return ParseCopy(line);
    case Keyword::kEntrypoint:
      KILN_RETURN_IF_ERROR(NoFlags(split));
      return Entrypoint{TakeCommand(&split)};
    case Keyword::kEnv: {
      KILN_ASSIGN_OR_RETURN(auto pairs, TakePairs("ENV", &split));
      return Env{std::move(pairs)};
    }
    case Keyword::kExpose:
      return ParseExpose(&split);
    case Keyword::kHealthcheck:
      return ParseHealthcheck(line);
    case Keyword::kLabel: {
      KILN_ASSIGN_OR_RETURN(auto pairs, TakePairs("LABEL", &split));
      return Label{std::move(pairs)};
    }
    case Keyword::kMaintainer: {
      KILN_ASSIGN_OR_RETURN(std::string author, OneArgument("MAINTAINER", &split));
      return Maintainer{std::move(author)};
    }
    case Keyword::kOnbuild:
      return ParseOnbuild(*line);
    case Keyword::kRun:
      return ParseRun(line);
    case Keyword::kShell:
      return ParseShell(&split);
    case Keyword::kStopSignal:
      if (split.args.size() != 1) return NeedsOneArgument("STOPSIGNAL");
      return StopSignal{std::move(split.args[0])};
    case Keyword::kUser: {
      KILN_ASSIGN_OR_RETURN(std::string user, OneArgument("USER", &split));
      return User{std::move(user)};
    }
    case Keyword::kVolume:
      return ParseVolume(&split);
    case Keyword::kWorkdir: {
      KILN_ASSIGN_OR_RETURN(std::string path, OneArgument("WORKDIR", &split));
      return Workdir{std::move(path)};
    }
    case Keyword::kFrom:
    case Keyword::kUnknown:
      break;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown instruction: ", split.word,
                   DidYouMean(NearestIgnoringCase(split.word, KeywordNames()))));
}

}  // namespace kiln::daemon::dockerfile
