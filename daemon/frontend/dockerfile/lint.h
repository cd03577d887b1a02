#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/frontend/dockerfile/syntax/location.h"

namespace kiln::daemon::dockerfile {

// A build check (dockerfile.md 7.3). Names, descriptions and addresses are what clients show.
struct LintRule {
  absl::string_view name;
  absl::string_view description;
  absl::string_view key;  // of the documentation page; "": none
  bool experimental = false;

  std::string Url() const;
};

namespace rules {
extern const LintRule kStageNameCasing, kFromAsCasing, kNoEmptyContinuation,
    kConsistentInstructionCasing, kDuplicateStageName, kReservedStageName, kJsonArgsRecommended,
    kMaintainerDeprecated, kUndefinedArgInFrom, kUndefinedVar, kWorkdirRelativePath,
    kMultipleInstructionsDisallowed, kLegacyKeyValueFormat, kInvalidBaseImagePlatform,
    kRedundantTargetPlatform, kSecretsUsedInArgOrEnv, kInvalidDefaultArgInFrom,
    kFromPlatformFlagConstDisallowed, kCopyIgnoredFile, kInvalidDefinitionDescription,
    kExposeProtoCasing, kExposeInvalidFormat;
}  // namespace rules

struct LintFinding {
  const LintRule* rule;
  std::string message;
  LineRange lines;
};

// Which rules run, and whether a finding is an error.
struct LintConfig {
  bool skip_all = false, experimental_all = false;
  std::set<std::string> skip, experimental;
  bool error = false;

  bool Runs(const LintRule& rule) const;
};

// "skip=Rule,…|all;experimental=…;error=true". kInvalidArgument names the faulty option.
absl::StatusOr<LintConfig> ParseLintConfig(absl::string_view text);

// Tells findings to whoever wants them. A cheap value; copies share what was found. Not
// thread-safe.
class Linter {
 public:
  using Sink = std::function<void(const LintFinding& finding)>;

  // Without a sink nothing runs.
  Linter(LintConfig config, Sink sink);

  // With the rules that a "check=…" among the comments of an instruction asks for.
  Linter WithComments(const std::vector<std::string>& comments) const;

  void Report(const LintRule& rule, const LineRange& lines, std::string message) const;
  bool enabled() const { return state_->sink != nullptr; }

  // The failure that error=true makes of findings.
  absl::Status Error() const;

 private:
  struct State {
    Sink sink;
    std::vector<absl::string_view> reported;  // names of rules, each once
  };
  std::shared_ptr<const LintConfig> config_;
  std::shared_ptr<State> state_;
};

}  // namespace kiln::daemon::dockerfile
