#include "daemon/frontend/dockerfile/text_checks.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"
#include "daemon/frontend/dockerfile/syntax/suggest.h"
#include "daemon/frontend/dockerfile/variables.h"
#include "daemon/image/platform.h"
#include "daemon/registry/reference.h"

namespace kiln::daemon::dockerfile {
namespace {

bool IsLower(absl::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](unsigned char c) { return absl::ascii_isupper(c); });
}
bool IsUpper(absl::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](unsigned char c) { return absl::ascii_islower(c); });
}

// The comment right above a FROM or ARG should describe it: "# name what it is".
void CheckDescription(absl::string_view instruction, const std::vector<std::string>& keys,
                      const InstructionText& text, const Linter& lint) {
  if (text.comments.empty() || keys.empty()) return;
  const std::string& comment = text.comments.back();
  const std::string first = comment.substr(0, comment.find(' '));
  if (std::find(keys.begin(), keys.end(), first) != keys.end()) return;
  lint.Report(rules::kInvalidDefinitionDescription, text.lines,
              absl::StrCat("Comment for ", instruction, " should follow the format: `# ",
                           keys.size() > 1 ? "<arg_key>" : keys[0], " <description>`"));
}

void CheckArg(const InstructionText& text, const Arg& arg, const Linter& base) {
  std::vector<std::string> keys;
  for (const ArgDefinition& definition : arg.args) keys.push_back(definition.key);
  CheckDescription("ARG", keys, text, base.WithComments(text.comments));
}

void CheckFrom(const Stage& stage, const Linter& base) {
  const InstructionText& text = stage.text;
  const Linter lint = base.WithComments(text.comments);
  if (!IsLower(stage.written_name)) {
    lint.Report(rules::kStageNameCasing, text.lines,
                absl::StrCat("Stage name '", stage.written_name, "' should be lowercase"));
  }
  const bool lower = IsLower(text.keyword);
  if (lower || IsUpper(text.keyword)) {
    const std::string& as = stage.as_keyword;
    if (!as.empty() && !(lower ? IsLower(as) : IsUpper(as))) {
      lint.Report(
          rules::kFromAsCasing, text.lines,
          absl::StrCat("'", as, "' and '", text.keyword, "' keywords' casing do not match"));
    }
  }
  if (!stage.name.empty()) CheckDescription("FROM", {stage.name}, text, lint);
}

void CheckCasing(const InstructionText& text, bool lower_is_majority, const Linter& lint) {
  if (lower_is_majority ? IsLower(text.keyword) : IsUpper(text.keyword)) return;
  lint.Report(
      rules::kConsistentInstructionCasing, text.lines,
      absl::StrCat("Command '", text.keyword, "' should match the case of the command majority (",
                   lower_is_majority ? "lowercase" : "uppercase", ")"));
}

template <size_t N>
bool HasSegment(absl::string_view key, const std::array<absl::string_view, N>& segments) {
  for (absl::string_view segment : absl::StrSplit(key, '_')) {
    for (absl::string_view known : segments) {
      if (absl::EqualsIgnoreCase(segment, known)) return true;
    }
  }
  return false;
}

}  // namespace

bool LooksSecret(absl::string_view key) {
  static constexpr std::array<absl::string_view, 10> kSecret = {
      "apikey",   "auth",  "credential", "credentials", "key",
      "password", "pword", "passwd",     "secret",      "token"};
  static constexpr std::array<absl::string_view, 3> kHarmless = {"public", "file", "version"};
  return HasSegment(key, kSecret) && !HasSegment(key, kHarmless);
}

void CheckInstructions(const Document& document, const Linter& lint) {
  for (const int line : document.empty_continuations) {
    lint.Report(rules::kNoEmptyContinuation, {line, line}, "Empty continuation line");
  }
  for (const Document::GlobalArg& global : document.global_args) {
    CheckArg(global.text, global.arg, lint);
  }
  for (const Stage& stage : document.stages) {
    CheckFrom(stage, lint);
    for (const Instruction& instruction : stage.instructions) {
      if (const auto* arg = std::get_if<Arg>(&instruction.body)) {
        CheckArg(instruction.text, *arg, lint);
      } else if (std::holds_alternative<Maintainer>(instruction.body)) {
        lint.WithComments(instruction.text.comments)
            .Report(rules::kMaintainerDeprecated, instruction.text.lines,
                    "Maintainer instruction is deprecated in favor of using label");
      }
    }
  }
}

void CheckWholeFile(const Document& document, const Linter& lint) {
  std::set<std::string> names;
  for (const Stage& stage : document.stages) {
    if (stage.name.empty()) continue;
    if (stage.name == "context" || stage.name == "scratch") {
      lint.Report(rules::kReservedStageName, stage.text.lines,
                  absl::StrCat("Stage name should not use the same name as reserved stage ",
                               Quote(stage.name)));
    }
    if (!names.insert(stage.name).second) {
      lint.Report(rules::kDuplicateStageName, stage.text.lines,
                  absl::StrCat("Duplicate stage name ", Quote(stage.name),
                               ", stage names should be unique"));
    }
  }
  int lower = 0, upper = 0;
  const auto count = [&](const InstructionText& text) {
    lower += IsLower(text.keyword) ? 1 : 0;
    upper += IsUpper(text.keyword) && !IsLower(text.keyword) ? 1 : 0;
  };
  for (const Stage& stage : document.stages) {
    count(stage.text);
    for (const Instruction& instruction : stage.instructions) count(instruction.text);
  }
  for (const Stage& stage : document.stages) {
    CheckCasing(stage.text, lower > upper, lint);
    for (const Instruction& instruction : stage.instructions) {
      CheckCasing(instruction.text, lower > upper, lint);
    }
  }
}

void CheckDefaultBases(const Document& document, const EnvList& predefined, const Linter& lint) {
  if (!lint.enabled()) return;
  const auto scope = EvaluateGlobalArgs(document, predefined, {});
  if (!scope.ok()) return;  // the build fails with the same error
  ExpandOptions options;
  options.escape = document.escape;
  for (const Stage& stage : document.stages) {
    const auto base = ExpandWord(stage.base, options, EnvLookup(scope->env));
    if (!base.ok()) return;
    if (Reference::ParseFamiliar(*base).ok()) continue;
    lint.Report(rules::kInvalidDefaultArgInFrom, stage.text.lines,
                absl::StrCat("Default value for ARG ", stage.base,
                             " results in empty or invalid base image name"));
  }
}

void CheckFromArgs(const std::set<std::string>& unset, const std::vector<std::string>& known,
                   const LineRange& lines, const Linter& lint) {
  for (const std::string& name : unset) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    lint.Report(rules::kUndefinedArgInFrom, lines,
                absl::StrCat("FROM argument '", name, "' is not declared",
                             DidYouMean(Nearest(name, known))));
  }
}

void CheckFromPlatform(const Stage& stage, const Expansion& platform, const EnvList& global,
                       const Linter& lint) {
  if (platform.set.size() == 1 && platform.unset.empty() &&
      platform.set.count("TARGETPLATFORM") > 0 &&
      EnvLookup(global)("TARGETPLATFORM") == absl::string_view(platform.text)) {
    lint.Report(rules::kRedundantTargetPlatform, stage.text.lines,
                absl::StrCat("Setting platform to predefined ", stage.platform,
                             " in FROM is redundant as this is the default behavior"));
  }
  if (!platform.set.empty() || !platform.unset.empty()) return;
  const auto parsed = ParsePlatform(platform.text);
  if (!parsed.ok()) return;  // fails later
  if (absl::StrContains(stage.name, parsed->os) ||
      absl::StrContains(stage.name, parsed->architecture)) {
    return;
  }
  lint.Report(
      rules::kFromPlatformFlagConstDisallowed, stage.text.lines,
      absl::StrCat("FROM --platform flag should not use constant value ", Quote(platform.text)));
}

}  // namespace kiln::daemon::dockerfile
