#include "daemon/frontend/dockerfile/dispatch.h"

#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "daemon/frontend/dockerfile/go_format.h"
#include "daemon/frontend/dockerfile/llb_platform.h"
#include "daemon/frontend/dockerfile/os_path.h"
#include "daemon/frontend/dockerfile/step_source.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"
#include "daemon/frontend/dockerfile/syntax/suggest.h"
#include "daemon/frontend/dockerfile/text_checks.h"
#include "daemon/frontend/dockerfile/variables.h"
#include "proto/utf8.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {
namespace {

namespace llb = client::llb;

// Arguments for the builder alone: no step sees them.
constexpr absl::string_view kScanContext = "BUILDKIT_SBOM_SCAN_CONTEXT";
constexpr absl::string_view kScanStage = "BUILDKIT_SBOM_SCAN_STAGE";

// The ones whose text names a step, which goes over the wire.
bool MakesStep(const InstructionBody& body) {
  return std::holds_alternative<Run>(body) || std::holds_alternative<Copy>(body) ||
         std::holds_alternative<Add>(body) || std::holds_alternative<Workdir>(body);
}

bool IsBuilderArg(absl::string_view key) { return key == kScanContext || key == kScanStage; }

std::string PairText(const KeyValue& pair) { return absl::StrCat(pair.key, "=", pair.value); }

// true, false, or a list of the stages that are meant.
bool IsEnabledFor(const std::string& stage, const std::string& value) {
  if (const auto all = ParseBool(value)) return *all;
  for (absl::string_view name : absl::StrSplit(value, ',')) {
    if (name == stage) return true;
  }
  return false;
}

}  // namespace

absl::Status StageDispatcher::Run() {
  Inherit();
  stage_.dispatched = true;
  if (!stage_.platform) stage_.platform = scope_.target_platform;
  KILN_RETURN_IF_ERROR(WithLocation(Start(), stage_.lines));
  stage_.history.reserve(stage_.commands.size());
  for (const StageCommand& command : stage_.commands) {
    KILN_RETURN_IF_ERROR(WithLocation(Apply(command), command.instruction->text.lines));
  }
  Finish();
  return absl::OkStatus();
}

void StageDispatcher::Inherit() {
  const StageState* base = stage_.base;
  if (base == nullptr) return;
  stage_.state = base->state;
  stage_.platform = base->platform;
  stage_.image = base->image;
  stage_.image.on_build.clear();  // they have run, or run as instructions of this stage
  stage_.base_image = base->base_image;
  stage_.used_paths = base->used_paths;
  stage_.workdir_set = base->workdir_set;
  stage_.declared_args = base->declared_args;
}

absl::Status StageDispatcher::Start() {
  if (os() != "windows" && !stage_.image.HasEnv("PATH")) {
    stage_.image.env.push_back(absl::StrCat("PATH=", kDefaultPath));
  }
  for (const absl::string_view entry : stage_.image.env) {
    const std::pair<absl::string_view, absl::string_view> variable =
        absl::StrSplit(entry, absl::MaxSplits('=', 1));
    stage_.state = std::move(stage_.state).AddEnv(variable.first, variable.second);
  }
  if (!scope_.options->hostname.empty()) {
    stage_.state = stage_.state.Hostname(scope_.options->hostname);
  }
  if (!stage_.image.working_dir.empty()) {
    KILN_RETURN_IF_ERROR(SetWorkdir(std::string(stage_.image.working_dir), /*by_image=*/true));
  }
  if (!stage_.image.user.empty()) stage_.state = stage_.state.User(stage_.image.user);
  stage_.state = stage_.state.Network(scope_.options->network);
  return absl::OkStatus();
}

absl::Status StageDispatcher::Apply(const StageCommand& command) {
  command_ = &command;
  if (MakesStep(command.instruction->body) && !IsValidUtf8(command.instruction->text.code))
    return absl::InvalidArgumentError("the instruction is not valid UTF-8");
  const std::vector<std::string>& comments = command.instruction->text.comments;
  if (!comments.empty() || lint_has_comments_) lint_ = scope_.lint->WithComments(comments);
  lint_has_comments_ = !comments.empty();
  return std::visit([this](const auto& body) { return Do(body); }, command.instruction->body);
}

void StageDispatcher::Finish() {
  const auto enabled = [&](absl::string_view key) {
    bool on = false;
    if (const auto global = EnvLookup(*scope_.globals)(key)) {
      on = IsEnabledFor(stage_.name, std::string(*global));
    }
    for (const ArgDefinition& arg : stage_.declared_args) {
      if (arg.key == key && arg.value) on = IsEnabledFor(stage_.name, *arg.value);
    }
    return on;
  };
  stage_.scan_context = enabled(kScanContext);
  stage_.scan_stage = enabled(kScanStage);
}

absl::StatusOr<std::string> StageDispatcher::Expand(absl::string_view word, bool inline_file) {
  ExpandOptions options;
  options.escape = inline_file ? '\\' : scope_.escape;
  options.ignore_quotes = inline_file;
  const EnvLookup lookup(env());
  std::set<std::string> unset;  // also of an expansion that fails
  absl::StatusOr<std::string> expansion =
      ExpandWord(word, options, [&](absl::string_view name) -> std::optional<absl::string_view> {
        const auto value = lookup(name);
        if (!value) unset.insert(std::string(name));
        return value;
      });
  ReportUnset(unset);
  return expansion;
}

void StageDispatcher::ReportUnset(const std::set<std::string>& unset) {
  for (const std::string& name : unset) {
    bool declared = IsBuilderArg(name);
    for (const ArgDefinition& arg : stage_.declared_args) declared |= arg.key == name;
    if (declared) continue;
    const std::string nearest = Nearest(name, KeysOf(env()));
    lint_.Report(rules::kUndefinedVar, lines(),
                 absl::StrCat("Usage of undefined variable '$", name, "'",
                              nearest.empty() ? "" : DidYouMean(absl::StrCat("$", nearest))));
  }
}

std::string StageDispatcher::ShownCode() const {
  const std::string& code = command_->instruction->text.code;
  ExpandOptions options;
  options.escape = scope_.escape;
  return UpperKeyword(ExpandWord(code, options, EnvLookup(env())).value_or(code));
}

std::string StageDispatcher::NameStep(absl::string_view text,
                                      const std::optional<Platform>& platform) {
  StepNaming naming;
  naming.show_platform = scope_.options->multi_platform;
  if (naming.show_platform) naming.platform = platform;
  naming.env = &env();
  naming.is_trigger = command_->is_trigger;
  return StepName(stage_, text, naming);
}

llb::Constraints StageDispatcher::NamedStep(std::string name) const {
  llb::Constraints constraints = llb::Named(std::move(name));
  constraints.metadata.locations.push_back(LocationOf(scope_.text, lines()));
  return constraints;
}

void StageDispatcher::AddHistory(std::string created_by, bool has_layer) {
  stage_.history.push_back({std::move(created_by), has_layer});
}

void StageDispatcher::CheckLegacy(const KeyValue& pair) {
  if (!pair.legacy) return;
  const std::string& keyword = command_->instruction->text.keyword;
  lint_.Report(rules::kLegacyKeyValueFormat, lines(),
               absl::StrCat("\"", keyword, " key=value\" should be used instead of legacy \"",
                            keyword, " key value\" format"));
}

void StageDispatcher::CheckSecret(absl::string_view instruction, const std::string& key) {
  if (!LooksSecret(key)) return;
  lint_.Report(rules::kSecretsUsedInArgOrEnv, lines(),
               absl::StrCat("Do not use ARG or ENV instructions for sensitive data (", instruction,
                            " ", Quote(key), ")"));
}

absl::Status StageDispatcher::Do(const Arg& arg) {
  std::string history = "ARG";
  for (ArgDefinition definition : arg.args) {
    CheckSecret("ARG", definition.key);
    const std::string& key = definition.key;
    ArgUse use;
    use.definition = definition;
    use.lines = lines();
    bool inherited = false;  // from the global scope, which has told of it
    if (const auto given = scope_.build_args->find(key); given != scope_.build_args->end()) {
      definition.value = given->second;
    } else if (definition.value) {
      KILN_ASSIGN_OR_RETURN(definition.value, Expand(*definition.value));
    } else if (const auto global = EnvLookup(*scope_.globals)(key)) {
      definition.value = std::string(*global);
      inherited = true;
    }
    if (definition.value) {
      if (!IsBuilderArg(key)) stage_.state = std::move(stage_.state).AddEnv(key, *definition.value);
      use.value = *definition.value;
    }
    if (!inherited) stage_.outline.args[key] = std::move(use);
    stage_.outline.used_args.insert(key);
    absl::StrAppend(&history, " ", key);
    if (definition.value) absl::StrAppend(&history, "=", *definition.value);
    stage_.declared_args.push_back(std::move(definition));
  }
  AddHistory(std::move(history), false);
  return absl::OkStatus();
}

absl::Status StageDispatcher::Do(const Env& env) {
  std::vector<KeyValue> pairs = env.pairs;
  for (KeyValue& pair : pairs) {  // all of them with the variables before the instruction
    KILN_ASSIGN_OR_RETURN(pair.key, Expand(pair.key));
    KILN_ASSIGN_OR_RETURN(pair.value, Expand(pair.value));
  }
  std::string history = "ENV";
  for (const KeyValue& pair : pairs) {
    CheckLegacy(pair);
    CheckSecret("ENV", pair.key);
    absl::StrAppend(&history, " ", PairText(pair));
    stage_.state = std::move(stage_.state).AddEnv(pair.key, pair.value);
    stage_.image.SetEnv(pair.key, pair.value);
  }
  AddHistory(std::move(history), false);
  return absl::OkStatus();
}

absl::Status StageDispatcher::Do(const Label& label) {
  std::vector<KeyValue> pairs = label.pairs;
  for (KeyValue& pair : pairs) {
    KILN_ASSIGN_OR_RETURN(pair.key, Expand(pair.key));
    KILN_ASSIGN_OR_RETURN(pair.value, Expand(pair.value));
  }
  std::string history = "LABEL";
  for (KeyValue& pair : pairs) {
    CheckLegacy(pair);
    absl::StrAppend(&history, " ", PairText(pair));
    stage_.image.labels[pair.key] = std::move(pair.value);
  }
  AddHistory(std::move(history), false);
  return absl::OkStatus();
}

absl::Status StageDispatcher::SetWorkdir(const std::string& path, bool by_image) {
  if (!by_image) {
    if (!stage_.workdir_set && !IsAbsolutePath(path, os())) {
      lint_.Report(rules::kWorkdirRelativePath, lines(),
                   absl::StrCat("Relative workdir ", Quote(path),
                                " can have unexpected results if the base image changes"));
    }
    stage_.workdir_set = true;
  }
  KILN_ASSIGN_OR_RETURN(
      const std::string dir,
      Annotate(AbsolutePath(stage_.image.working_dir, path, os(), false), "normalizing workdir"));
  stage_.image.working_dir = NativePath(dir, os());
  stage_.state = stage_.state.Dir(dir);
  return absl::OkStatus();
}

absl::Status StageDispatcher::Do(const Workdir& workdir) {
  KILN_ASSIGN_OR_RETURN(const std::string path, Expand(workdir.path));
  KILN_RETURN_IF_ERROR(SetWorkdir(path, /*by_image=*/false));
  const std::string dir = stage_.state.dir();
  if (dir != "/") {
    llb::MkdirInfo info;
    info.make_parents = true;
    if (!stage_.image.user.empty()) info.owner = llb::ParseChown(stage_.image.user);
    if (scope_.epoch) info.created = absl::FromUnixSeconds(*scope_.epoch);
    llb::Constraints constraints = NamedStep(NameStep(ShownCode(), stage_.platform));
    stage_.state =
        stage_.state.File(llb::Mkdir(dir, 0755, std::move(info)), std::move(constraints));
  }
  AddHistory(absl::StrCat("WORKDIR ", dir), dir != "/");
  return absl::OkStatus();
}

absl::Status StageDispatcher::Do(const User& user) {
  KILN_ASSIGN_OR_RETURN(stage_.image.user, Expand(user.user));
  stage_.state = stage_.state.User(stage_.image.user);
  AddHistory(absl::StrCat("USER ", stage_.image.user), false);
  return absl::OkStatus();
}

absl::Status StageDispatcher::Do(const Volume& volume) {
  std::vector<std::string> paths;
  for (const std::string& path : volume.paths) {
    KILN_ASSIGN_OR_RETURN(paths.emplace_back(), Expand(path));
  }
  for (const std::string& path : paths) {
    if (path.empty()) {
      return absl::InvalidArgumentError("VOLUME specified can not be an empty string");
    }
    stage_.image.volumes.insert(path);
  }
  AddHistory(absl::StrCat("VOLUME ", PlainList(paths)), false);
  return absl::OkStatus();
}

absl::Status StageDispatcher::Do(const StopSignal& signal) {
  KILN_ASSIGN_OR_RETURN(const std::string text, Expand(signal.signal));
  KILN_RETURN_IF_ERROR(CheckSignal(text));
  stage_.image.stop_signal = text;
  AddHistory(absl::StrCat("STOPSIGNAL ", text), false);
  return absl::OkStatus();
}

absl::Status StageDispatcher::Do(const Expose& expose) {
  ExpandOptions options;
  options.escape = scope_.escape;
  std::vector<std::string> written, ports;
  for (const std::string& word : expose.ports) {
    KILN_ASSIGN_OR_RETURN(const std::vector<std::string> words,
                          ExpandWords(word, options, EnvLookup(env())));
    written.insert(written.end(), words.begin(), words.end());
  }
  for (const std::string& text : written) {
    KILN_ASSIGN_OR_RETURN(const std::vector<std::string> some, ParsePort(text, lines(), lint_));
    ports.insert(ports.end(), some.begin(), some.end());
  }
  stage_.image.exposed_ports.insert(ports.begin(), ports.end());
  AddHistory(absl::StrCat("EXPOSE ", PlainList(ports)), false);
  return absl::OkStatus();
}

void StageDispatcher::CheckUsedOnce(std::optional<LineRange>* seen) {
  if (*seen) {  // the earlier one is the useless one
    lint_.Report(rules::kMultipleInstructionsDisallowed, **seen,
                 absl::StrCat("Multiple ", command_->instruction->text.keyword,
                              " instructions should not be used in the same stage because only "
                              "the last one will be used"));
  }
  *seen = lines();
}

std::vector<std::string> StageDispatcher::WithShell(const std::vector<std::string>& args) const {
  static const auto& windows = *new std::vector<std::string>{"cmd", "/S", "/C"};
  static const auto& posix = *new std::vector<std::string>{"/bin/sh", "-c"};
  const std::vector<std::string>& shell = !stage_.image.shell.empty() ? stage_.image.shell
                                          : stage_.image.platform.os == "windows" ? windows
                                                                                  : posix;
  std::vector<std::string> words;
  words.reserve(shell.size() + 1);
  words.insert(words.end(), shell.begin(), shell.end());
  words.push_back(args.size() == 1 ? args[0] : absl::StrJoin(args, " "));
  return words;
}

std::vector<std::string> StageDispatcher::CommandWords(const CommandLine& command, bool lint) {
  if (!command.shell_form) return command.args;
  if (lint && stage_.image.shell.empty()) {
    lint_.Report(
        rules::kJsonArgsRecommended, lines(),
        absl::StrCat("JSON arguments recommended for ", command_->instruction->text.keyword,
                     " to prevent unintended behavior related to OS signals"));
  }
  return WithShell(command.args);
}

absl::Status StageDispatcher::Do(const Cmd& cmd) {
  CheckUsedOnce(&stage_.cmd);
  stage_.image.cmd = CommandWords(cmd.command, /*lint=*/true);
  stage_.image.args_escaped = true;
  AddHistory(absl::StrCat("CMD ", QuoteList(stage_.image.cmd)), false);
  return absl::OkStatus();
}

absl::Status StageDispatcher::Do(const Entrypoint& entrypoint) {
  CheckUsedOnce(&stage_.entrypoint);
  stage_.image.entrypoint = CommandWords(entrypoint.command, /*lint=*/true);
  if (!stage_.cmd) stage_.image.cmd.clear();  // a base image's arguments are for its own program
  AddHistory(absl::StrCat("ENTRYPOINT ", QuoteList(stage_.image.entrypoint)), false);
  return absl::OkStatus();
}

absl::Status StageDispatcher::Do(const Shell& shell) {
  stage_.image.shell = shell.args;
  AddHistory(absl::StrCat("SHELL ", PlainList(shell.args)), false);
  return absl::OkStatus();
}

absl::Status StageDispatcher::Do(const Healthcheck& check) {
  CheckUsedOnce(&stage_.healthcheck);
  HealthcheckConfig& health = stage_.image.healthcheck.emplace();
  health.test = check.test;
  health.interval_ns = absl::ToInt64Nanoseconds(check.interval);
  health.timeout_ns = absl::ToInt64Nanoseconds(check.timeout);
  health.start_period_ns = absl::ToInt64Nanoseconds(check.start_period);
  health.start_interval_ns = absl::ToInt64Nanoseconds(check.start_interval);
  health.retries = check.retries;
  AddHistory(absl::StrCat("HEALTHCHECK {Test:", PlainList(health.test),
                          " Interval:", DurationText(health.interval_ns),
                          " Timeout:", DurationText(health.timeout_ns),
                          " StartPeriod:", DurationText(health.start_period_ns), " StartInterval:",
                          DurationText(health.start_interval_ns), " Retries:", health.retries, "}"),
             false);
  return absl::OkStatus();
}

absl::Status StageDispatcher::Do(const Onbuild& onbuild) {
  stage_.image.on_build.push_back(onbuild.trigger);
  return absl::OkStatus();
}

absl::Status StageDispatcher::Do(const Maintainer& maintainer) {
  stage_.image.author = maintainer.author;
  AddHistory(absl::StrCat("MAINTAINER ", maintainer.author), false);
  return absl::OkStatus();
}

}  // namespace kiln::daemon::dockerfile
