#include "daemon/frontend/dockerfile/compilation.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "daemon/frontend/dockerfile/dispatch.h"
#include "daemon/frontend/dockerfile/llb_platform.h"
#include "daemon/frontend/dockerfile/syntax/directive.h"
#include "daemon/frontend/dockerfile/syntax/parse.h"
#include "daemon/frontend/dockerfile/text_checks.h"
#include "store/base/pattern_matcher.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {
namespace {

namespace llb = client::llb;

// Build args of these names, in any case, reach every RUN; the later name in byte order wins.
std::optional<llb::ProxyEnv> ProxyOf(const std::map<std::string, std::string>& build_args) {
  std::optional<llb::ProxyEnv> proxy;
  for (const auto& [key, value] : build_args) {
    const std::string name = absl::AsciiStrToLower(key);
    const auto field = name == "http_proxy"    ? &llb::ProxyEnv::http_proxy
                       : name == "https_proxy" ? &llb::ProxyEnv::https_proxy
                       : name == "ftp_proxy"   ? &llb::ProxyEnv::ftp_proxy
                       : name == "no_proxy"    ? &llb::ProxyEnv::no_proxy
                       : name == "all_proxy"   ? &llb::ProxyEnv::all_proxy
                                               : nullptr;
    if (field == nullptr) continue;
    if (!proxy) proxy.emplace();
    (*proxy).*field = value;
  }
  return proxy;
}

absl::StatusOr<LintConfig> ConfigOf(const Options& options, absl::string_view data) {
  if (options.lint) return *options.lint;
  return Annotate(ParseLintConfig(FindCheck(data).value_or("")), "failed to parse check options");
}

}  // namespace

Compilation::Compilation(CompilationRequest request)
    : request_(std::move(request)),
      options_(*request_.options),
      contexts_(request_.sources, request_.images, options_.resolve_mode_name),
      build_args_(options_.build_args),
      target_platform_(request_.target_platform.value_or(options_.build_platforms[0])) {}

absl::Status Compilation::Parse(Document* document) {
  const std::string& data = request_.text->data;
  if (data.empty()) return absl::InvalidArgumentError("the Dockerfile cannot be empty");
  KILN_ASSIGN_OR_RETURN(LintConfig config, ConfigOf(options_, data));
  lint_.emplace(std::move(config), request_.lint);
  const absl::Status status = dockerfile::Parse(data, document);
  CheckInstructions(*document, *lint_);
  KILN_RETURN_IF_ERROR(status);
  if (document->stages.empty()) {
    return absl::InvalidArgumentError("dockerfile contains no stages to build");
  }
  CheckWholeFile(*document, *lint_);
  return absl::OkStatus();
}

absl::Status Compilation::Run() {
  KILN_RETURN_IF_ERROR(Parse(&document_));
  const std::string target =
      options_.target.empty() ? document_.stages.back().name : options_.target;
  EnvList predefined =
      PredefinedArgs(options_.build_platforms[0], target_platform_, target, build_args_);
  CheckDefaultBases(document_, predefined, *lint_);
  KILN_ASSIGN_OR_RETURN(globals_,
                        EvaluateGlobalArgs(document_, std::move(predefined), build_args_));
  KILN_RETURN_IF_ERROR(ResolveEpoch());
  KILN_RETURN_IF_ERROR(RegisterStages());
  KILN_RETURN_IF_ERROR(ChooseTarget());
  KILN_RETURN_IF_ERROR(LinkStages());
  KILN_RETURN_IF_ERROR(ResolveBases());
  KILN_RETURN_IF_ERROR(DispatchStages());
  target_->used_paths->insert("/");  // all of it is the result
  for (const auto& [key, value] : options_.labels) target_->image.labels[key] = value;
  KILN_RETURN_IF_ERROR(lint_->Error());
  JoinHistory();
  FinishImage();
  return absl::OkStatus();
}

absl::Status Compilation::DispatchStages() {
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> patterns,
                        request_.sources->IgnorePatterns());
  KILN_ASSIGN_OR_RETURN(const PatternMatcher ignored, PatternMatcher::Create(patterns));
  KILN_ASSIGN_OR_RETURN(main_context_, request_.sources->MainContext([paths = context_paths_] {
    return FollowPaths(*paths);
  }));
  DispatchScope scope;
  scope.options = &options_;
  scope.build_args = &build_args_;
  scope.globals = &globals_.env;
  scope.text = request_.text;
  scope.escape = document_.escape;
  scope.target_platform = target_platform_;
  scope.main_context = main_context_;
  scope.proxy = ProxyOf(build_args_);
  scope.epoch = epoch_;
  scope.lint = &*lint_;
  scope.ignored = patterns.empty() ? nullptr : &ignored;
  for (const std::string& pattern : patterns) {
    scope.ignores_root |= pattern == "*" || pattern == "**" || pattern == "**/*";
  }
  const std::set<const StageState*> reachable = ReachableFrom(target_);
  for (StageState& stage : stages_) {
    const bool wanted = request_.all_stages || reachable.count(&stage) > 0;
    if (!wanted || stage.dispatched) continue;
    StageDispatcher dispatcher(scope, &stage);
    KILN_RETURN_IF_ERROR(dispatcher.Run());
    context_paths_->insert(stage.context_paths.begin(), stage.context_paths.end());
  }
  return absl::OkStatus();
}

// The history of a stage continues that of its bases. Kept apart until here: copied into each stage
// of a long chain, it would take quadratic time.
void Compilation::JoinHistory() {
  std::vector<StageState*> chain;
  size_t lines = 0;
  for (StageState* stage = target_; stage != nullptr; stage = stage->base) {
    chain.push_back(stage);
    lines += stage->history.size();
  }
  std::vector<HistoryItem>& history = target_->image.history;
  history.reserve(history.size() + lines);
  std::optional<GoTime> created;
  if (epoch_) created = GoTime::Utc(absl::FromUnixSeconds(*epoch_));
  for (auto stage = chain.rbegin(); stage != chain.rend(); ++stage) {
    for (HistoryLine& line : (*stage)->history) {
      HistoryItem& item = history.emplace_back();
      item.created = created;
      item.created_by = std::move(line.created_by);
      item.comment = "buildkit.dockerfile.v0";
      item.empty_layer = !line.has_layer;
    }
    (*stage)->history.clear();
  }
}

// An explicit platform is what the image is for, whatever its base says.
void Compilation::FinishImage() {
  Platform& platform = target_->image.platform;
  if (request_.target_platform) {
    const Platform& wanted = *request_.target_platform;
    const bool same = wanted.os == platform.os && wanted.architecture == platform.architecture;
    platform.os = wanted.os;
    platform.architecture = wanted.architecture;
    if (!wanted.variant.empty() || !same) platform.variant = wanted.variant;
    if (!wanted.os_version.empty() || !same) platform.os_version = wanted.os_version;
    if (!wanted.os_features.empty()) platform.os_features = wanted.os_features;
  }
  platform = NormalizePlatform(platform);
}

absl::StatusOr<llb::Definition> Compilation::Marshal() const {
  llb::Constraints defaults;
  defaults.platform = ToLlb(target_platform_);
  return Annotate(target_->state.Marshal(defaults), "failed to marshal LLB definition");
}

std::vector<const StageState*> Compilation::NeededStages() const {
  const std::set<const StageState*> reachable = ReachableFrom(target_);
  std::vector<const StageState*> needed;
  for (const StageState& stage : stages_) {
    if (reachable.count(&stage) > 0) needed.push_back(&stage);
  }
  return needed;
}

}  // namespace kiln::daemon::dockerfile
