// Stages and what they need of each other (dockerfile.md 6.1, 6.2).
#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "daemon/frontend/dockerfile/compilation.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"
#include "daemon/frontend/dockerfile/syntax/suggest.h"
#include "daemon/frontend/dockerfile/text_checks.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {
namespace {

constexpr char kScratch[] = "scratch";
const EnvList kNothing;

// How many steps the stage's own instructions are.
int CountSteps(const Stage& stage) {
  return static_cast<int>(
      std::count_if(stage.instructions.begin(), stage.instructions.end(), [](const Instruction& i) {
        return std::holds_alternative<Add>(i.body) || std::holds_alternative<Copy>(i.body) ||
               std::holds_alternative<dockerfile::Run>(i.body) ||
               std::holds_alternative<Workdir>(i.body);
      }));
}

// The first of the words that is like an option, for a message.
std::string SuggestAny(const std::set<std::string>& words, const EnvList& globals) {
  const std::vector<std::string> options = KeysOf(globals);
  for (const std::string& word : words) {
    const std::string nearest = Nearest(word, options);
    if (!nearest.empty()) return DidYouMean(nearest);
  }
  return "";
}

}  // namespace

std::vector<std::string> FollowPaths(const std::set<std::string>& paths) {
  std::vector<std::string> follow;
  for (const std::string& path : paths) {
    if (path == "/") return {};
    follow.push_back(path.substr(1));
  }
  std::sort(follow.begin(), follow.end());
  return follow;
}

absl::Status Compilation::RegisterStages() {
  for (size_t i = 0; i < document_.stages.size(); ++i) {
    KILN_RETURN_IF_ERROR(RegisterStage(document_.stages[i], i));
  }
  return absl::OkStatus();
}

absl::Status Compilation::ExpandFrom(const Stage& written, StageState* stage) {
  const Linter lint = lint_->WithComments(written.text.comments);
  const LineRange& lines = written.text.lines;
  ExpandOptions expand;
  expand.escape = document_.escape;
  std::vector<std::string> known = KeysOf(globals_.env);
  for (const auto& [key, unused] : globals_.args) known.push_back(key);
  absl::StatusOr<Expansion> base = ExpandTraced(written.base, expand, EnvLookup(globals_.env));
  if (!base.ok()) return WithLocation(base.status(), lines);
  CheckFromArgs(base->unset, known, lines, lint);
  if (base->text.empty()) {
    return WithLocation(absl::InvalidArgumentError(
                            absl::StrCat("base name (", written.base, ") should not be blank")),
                        lines);
  }
  stage->base_name = std::move(base->text);
  stage->outline.args = globals_.args;
  std::set<std::string> used = std::move(base->set);
  if (!written.platform.empty()) {
    absl::StatusOr<Expansion> platform =
        ExpandTraced(written.platform, expand, EnvLookup(globals_.env));
    if (!platform.ok()) {
      return WithLocation(
          Annotate(platform.status(),
                   absl::StrCat("failed to process arguments for platform ", written.platform)),
          lines);
    }
    CheckFromArgs(platform->unset, known, lines, lint);
    CheckFromPlatform(written, *platform, globals_.env, lint);
    if (platform->text.empty()) {
      return WithLocation(absl::InvalidArgumentError(absl::StrCat(
                              "empty platform value from expression ", written.platform,
                              SuggestAny(platform->unset, globals_.env))),
                          lines);
    }
    const auto parsed = ParsePlatform(platform->text);
    if (!parsed.ok()) {
      return WithLocation(
          absl::InvalidArgumentError(absl::StrCat("failed to parse platform ", written.platform,
                                                  ": ", parsed.status().message(),
                                                  SuggestAny(platform->unset, globals_.env))),
          lines);
    }
    stage->platform = *parsed;
    used.insert(platform->set.begin(), platform->set.end());
  }
  stage->outline.used_args = std::move(used);
  return absl::OkStatus();
}

absl::Status Compilation::RegisterStage(const Stage& written, size_t index) {
  StageState stage;
  stage.written = &written;
  stage.lines = written.text.lines;
  stage.name = written.name;
  KILN_RETURN_IF_ERROR(ExpandFrom(written, &stage));
  if (!written.name.empty()) {
    KILN_ASSIGN_OR_RETURN(stage.context,
                          FindNamedContext(request_.sources->client(), written.name,
                                           stage.platform.value_or(target_platform_)));
    if (stage.context) {
      stages_.push_back(std::move(stage));
      AddStage(&stages_.back());
      stages_.back().base = nullptr;  // replaced as a whole
      return absl::OkStatus();
    }
  } else {
    stage.name = absl::StrCat("stage-", index);
  }
  stage.ignore_cache = options_.IgnoresCache(written.name);
  stage.step_total = CountSteps(written);
  std::set<std::string> used = stage.outline.used_args;
  stages_.push_back(std::move(stage));
  StageState& added = stages_.back();
  AddStage(&added);
  added.outline.used_args.insert(used.begin(), used.end());
  if (added.base_name != kScratch && added.base == nullptr) ++added.step_total;  // the FROM
  return absl::OkStatus();
}

// Finds the stage's base among those before it, and lets later ones find it.
void Compilation::AddStage(StageState* stage) {
  if (const auto base = by_name_.find(stage->base_name); base != by_name_.end()) {
    stage->base = base->second;
    stage->outline = base->second->outline;
  }
  if (!stage->written_name().empty()) by_name_[stage->written_name()] = stage;
}

StageState* Compilation::FindStage(absl::string_view name) {
  const auto found = by_name_.find(absl::AsciiStrToLower(name));
  return found == by_name_.end() ? nullptr : found->second;
}

std::vector<std::string> Compilation::StageNames() const {
  std::vector<std::string> names;
  for (const StageState& stage : stages_) {
    if (!stage.name.empty()) names.push_back(stage.name);
  }
  return names;
}

absl::Status Compilation::ChooseTarget() {
  target_ = options_.target.empty() ? &stages_.back() : FindStage(options_.target);
  if (target_ != nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("target stage ", Quote(options_.target), " could not be found",
                   DidYouMean(Nearest(options_.target, StageNames()))));
}

StageState* Compilation::HiddenStage(const std::string& image, const LineRange& lines,
                                     const LineRange& named_at) {
  StageState& stage = stages_.emplace_back();
  stage.base_name = image;
  stage.lines = lines;
  stage.named_at = named_at;
  stage.hidden = true;
  AddStage(&stage);
  return &stage;
}

absl::Status Compilation::AddCommand(StageState* stage, const Instruction& instruction,
                                     StageCommand* command) {
  const LineRange& lines = instruction.text.lines;
  command->instruction = &instruction;
  if (const auto* copy = std::get_if<Copy>(&instruction.body);
      copy != nullptr && !copy->from.empty()) {
    ExpandOptions expand;
    expand.escape = document_.escape;
    KILN_ASSIGN_OR_RETURN(const std::string from,
                          ExpandWord(copy->from, expand, EnvLookup(kNothing)));
    if (from != copy->from) {
      return absl::InvalidArgumentError(
          "variable expansion is not supported for --from, define a new stage with FROM using ARG "
          "from global scope as a workaround");
    }
    int64_t index = 0;
    if (absl::SimpleAtoi(copy->from, &index)) {
      if (index < 0 || index >= static_cast<int64_t>(stages_.size())) {
        return absl::InvalidArgumentError(absl::StrCat("invalid stage index ", index));
      }
      command->sources = {&stages_[index]};
    } else {
      StageState* source = FindStage(copy->from);
      command->sources = {source != nullptr ? source : HiddenStage(copy->from, lines, lines)};
    }
  } else if (const auto* run = std::get_if<dockerfile::Run>(&instruction.body)) {
    for (const RunMount& mount : run->mounts) {
      // What a mount without `from` reads is decided later, when its type is known.
      const std::string from = mount.from.empty() ? kScratch : mount.from;
      StageState* source = FindStage(from);
      command->sources.push_back(source != nullptr ? source : HiddenStage(from, {}, lines));
    }
  }
  for (StageState* source : command->sources) stage->AddDependency(source, lines);
  return absl::OkStatus();
}

absl::Status Compilation::LinkStages() {
  const size_t written = stages_.size();  // hidden ones are added meanwhile
  for (size_t i = 0; i < written; ++i) {
    StageState& stage = stages_[i];
    stage.commands.reserve(stage.written->instructions.size());
    for (const Instruction& instruction : stage.written->instructions) {
      StageCommand command{};
      KILN_RETURN_IF_ERROR(
          WithLocation(AddCommand(&stage, instruction, &command), instruction.text.lines));
      stage.commands.push_back(std::move(command));
    }
  }
  KILN_RETURN_IF_ERROR(CheckCycles());
  if (stages_.size() == 1) stages_[0].name.clear();
  return absl::OkStatus();
}

// A depth-first walk over --from and mount edges, without recursion.
absl::Status Compilation::CheckCycles() {
  struct Frame {
    const StageState* stage;
    size_t next = 0;
  };
  std::set<const StageState*> visited, on_path;
  for (const StageState& start : stages_) {
    if (!visited.insert(&start).second) continue;
    std::vector<Frame> path = {{&start}};
    on_path = {&start};
    while (!path.empty()) {
      Frame& top = path.back();
      if (top.next == top.stage->dependencies.size()) {
        on_path.erase(top.stage);
        path.pop_back();
        continue;
      }
      const StageState* next = top.stage->dependencies[top.next++].first;
      if (on_path.count(next) > 0) {
        absl::Status status = absl::InvalidArgumentError(
            absl::StrCat("circular dependency detected on stage: ", start.name));
        for (const Frame& frame : path) {
          status = WithLocation(status, frame.stage->dependencies[frame.next - 1].second);
        }
        return status;
      }
      if (visited.insert(next).second) {
        on_path.insert(next);
        path.push_back({next});
      }
    }
  }
  return absl::OkStatus();
}

std::set<const StageState*> Compilation::ReachableFrom(const StageState* target) const {
  std::set<const StageState*> reachable = {target};
  std::vector<const StageState*> open = {target};
  const auto add = [&](const StageState* stage) {
    if (reachable.insert(stage).second) open.push_back(stage);
  };
  while (!open.empty()) {
    const StageState* stage = open.back();
    open.pop_back();
    if (stage->base != nullptr) add(stage->base);
    for (const auto& [dependency, unused] : stage->dependencies) add(dependency);
  }
  return reachable;
}

}  // namespace kiln::daemon::dockerfile
