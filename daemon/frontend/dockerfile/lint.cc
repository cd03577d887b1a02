#include "daemon/frontend/dockerfile/lint.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "daemon/frontend/dockerfile/syntax/directive.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {

namespace rules {
const LintRule kStageNameCasing{"StageNameCasing", "Stage names should be lowercase",
                                "stage-name-casing"};
const LintRule kFromAsCasing{"FromAsCasing",
                             "The 'as' keyword should match the case of the 'from' keyword",
                             "from-as-casing"};
const LintRule kNoEmptyContinuation{
    "NoEmptyContinuation", "Empty continuation lines will become errors in a future release",
    "no-empty-continuation"};
const LintRule kConsistentInstructionCasing{
    "ConsistentInstructionCasing",
    "All commands within the Dockerfile should use the same casing (either upper or lower)",
    "consistent-instruction-casing"};
const LintRule kDuplicateStageName{"DuplicateStageName", "Stage names should be unique",
                                   "duplicate-stage-name"};
const LintRule kReservedStageName{
    "ReservedStageName", "Reserved words should not be used as stage names", "reserved-stage-name"};
const LintRule kJsonArgsRecommended{"JSONArgsRecommended",
                                    "JSON arguments recommended for ENTRYPOINT/CMD to prevent "
                                    "unintended behavior related to OS signals",
                                    "json-args-recommended"};
const LintRule kMaintainerDeprecated{
    "MaintainerDeprecated",
    "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    "maintainer-deprecated"};
const LintRule kUndefinedArgInFrom{"UndefinedArgInFrom", "FROM command must use declared ARGs",
                                   "undefined-arg-in-from"};
const LintRule kUndefinedVar{"UndefinedVar", "Variables should be defined before their use",
                             "undefined-var"};
const LintRule kWorkdirRelativePath{
    "WorkdirRelativePath",
    "Relative workdir without an absolute workdir declared within the build can have unexpected "
    "results if the base image changes",
    "workdir-relative-path"};
const LintRule kMultipleInstructionsDisallowed{
    "MultipleInstructionsDisallowed",
    "Multiple instructions of the same type should not be used in the same stage",
    "multiple-instructions-disallowed"};
const LintRule kLegacyKeyValueFormat{
    "LegacyKeyValueFormat", "Legacy key/value format with whitespace separator should not be used",
    "legacy-key-value-format"};
const LintRule kInvalidBaseImagePlatform{
    "InvalidBaseImagePlatform", "Base image platform does not match expected target platform", ""};
const LintRule kRedundantTargetPlatform{
    "RedundantTargetPlatform",
    "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default "
    "behavior",
    "redundant-target-platform"};
const LintRule kSecretsUsedInArgOrEnv{
    "SecretsUsedInArgOrEnv", "Sensitive data should not be used in the ARG or ENV commands",
    "secrets-used-in-arg-or-env"};
const LintRule kInvalidDefaultArgInFrom{
    "InvalidDefaultArgInFrom",
    "Default value for global ARG results in an empty or invalid base image name",
    "invalid-default-arg-in-from"};
const LintRule kFromPlatformFlagConstDisallowed{
    "FromPlatformFlagConstDisallowed", "FROM --platform flag should not use a constant value",
    "from-platform-flag-const-disallowed"};
const LintRule kCopyIgnoredFile{"CopyIgnoredFile",
                                "Attempting to Copy file that is excluded by .dockerignore",
                                "copy-ignored-file"};
const LintRule kInvalidDefinitionDescription{
    "InvalidDefinitionDescription",
    "Comment for build stage or argument should follow the format: `# <arg/stage name> "
    "<description>`. If this is not intended to be a description comment, add an empty line or "
    "comment between the instruction and the comment.",
    "invalid-definition-description", true};
const LintRule kExposeProtoCasing{"ExposeProtoCasing",
                                  "Protocol in EXPOSE instruction should be lowercase",
                                  "expose-proto-casing"};
const LintRule kExposeInvalidFormat{
    "ExposeInvalidFormat",
    "IP address and host-port mapping should not be used in EXPOSE instruction. This will become "
    "an error in a future release",
    "expose-invalid-format"};
}  // namespace rules

std::string LintRule::Url() const {
  return key.empty() ? "" : absl::StrCat("https://docs.docker.com/go/dockerfile/rule/", key, "/");
}

bool LintConfig::Runs(const LintRule& rule) const {
  const std::string name(rule.name);
  if (rule.experimental) return experimental_all || experimental.count(name) > 0;
  return !skip_all && skip.count(name) == 0;
}

namespace {

void ReadRules(absl::string_view value, bool* all, std::set<std::string>* names) {
  value = absl::StripAsciiWhitespace(value);
  if (value == "all") {
    *all = true;
    return;
  }
  for (absl::string_view name : absl::StrSplit(value, ',')) {
    names->emplace(absl::StripAsciiWhitespace(name));
  }
}

}  // namespace

absl::StatusOr<LintConfig> ParseLintConfig(absl::string_view text) {
  LintConfig config;
  text = absl::StripAsciiWhitespace(text);
  if (text.empty()) return config;
  for (absl::string_view option : absl::StrSplit(text, absl::MaxSplits(';', 2))) {
    const size_t equals = option.find('=');
    const absl::string_view key = absl::StripAsciiWhitespace(option.substr(0, equals));
    if (equals == absl::string_view::npos) {
      return absl::InvalidArgumentError(absl::StrCat("invalid check option ", Quote(option)));
    }
    const absl::string_view value = option.substr(equals + 1);
    if (key == "skip") {
      ReadRules(value, &config.skip_all, &config.skip);
    } else if (key == "experimental") {
      ReadRules(value, &config.experimental_all, &config.experimental);
    } else if (key == "error") {
      const absl::string_view text_value = absl::StripAsciiWhitespace(value);
      const std::optional<bool> error = ParseBool(text_value);
      if (!error) {
        return absl::InvalidArgumentError(absl::StrCat(
            "failed to parse check option ", Quote(option), ": strconv.ParseBool: ", "parsing ",
            Quote(text_value), ": invalid syntax"));
      }
      config.error = *error;
    } else {
      return absl::InvalidArgumentError(absl::StrCat("invalid check option ", Quote(key)));
    }
  }
  return config;
}

Linter::Linter(LintConfig config, Sink sink)
    : config_(std::make_shared<const LintConfig>(std::move(config))),
      state_(std::make_shared<State>()) {
  state_->sink = std::move(sink);
}

Linter Linter::WithComments(const std::vector<std::string>& comments) const {
  for (const std::string& comment : comments) {
    const auto directive = DirectiveScanner("").Next(comment);
    if (!directive.ok() || !*directive || (*directive)->key != "check") continue;
    const std::string& value = (*directive)->value;
    const auto extra = ParseLintConfig(value.substr(0, value.find(' ')));
    if (!extra.ok()) return *this;  // a comment is never an error
    LintConfig merged = *config_;
    merged.skip_all |= extra->skip_all;
    merged.experimental_all |= extra->experimental_all;
    merged.skip.insert(extra->skip.begin(), extra->skip.end());
    merged.experimental.insert(extra->experimental.begin(), extra->experimental.end());
    Linter changed = *this;
    changed.config_ = std::make_shared<const LintConfig>(std::move(merged));
    return changed;
  }
  return *this;
}

void Linter::Report(const LintRule& rule, const LineRange& lines, std::string message) const {
  if (!enabled() || !config_->Runs(rule)) return;
  auto& reported = state_->reported;
  if (std::find(reported.begin(), reported.end(), rule.name) == reported.end()) {
    reported.push_back(rule.name);
  }
  state_->sink({&rule, std::move(message), lines});
}

absl::Status Linter::Error() const {
  if (!config_->error || state_->reported.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("lint violation found for rules: ", absl::StrJoin(state_->reported, ", ")));
}

}  // namespace kiln::daemon::dockerfile
