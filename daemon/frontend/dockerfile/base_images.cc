// What stages start from: images, named contexts, and the ONBUILD triggers of both.
#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/llb/source.h"
#include "daemon/frontend/dockerfile/compilation.h"
#include "daemon/frontend/dockerfile/llb_platform.h"
#include "daemon/frontend/dockerfile/parallel.h"
#include "daemon/frontend/dockerfile/step_name.h"
#include "daemon/frontend/dockerfile/step_source.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"
#include "daemon/frontend/dockerfile/syntax/parse.h"
#include "daemon/frontend/dockerfile/syntax/suggest.h"
#include "daemon/registry/reference.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {
namespace {

namespace llb = client::llb;

constexpr char kScratch[] = "scratch";

// Names that people often mean.
std::vector<std::string> CommonImages() {
  std::vector<std::string> names;
  for (absl::string_view name :
       {"alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora"}) {
    names.push_back(std::string(name));
    names.push_back(absl::StrCat(name, ":latest"));
  }
  return names;
}

// Without layers there is nothing to pull, though the config counts.
bool HasNoFiles(const DockerImage& image) {
  if (image.diff_ids && !image.diff_ids->empty()) return false;
  return std::all_of(image.history.begin(), image.history.end(),
                     [](const HistoryItem& item) { return item.empty_layer; });
}

// Without an explicit target, a base image that is only there for another platform of the builder
// decides on the platform.
Platform DetectPlatform(const Platform& image, const Platform& wanted,
                        const std::vector<Platform>& builds) {
  if (image.os == wanted.os && image.architecture == wanted.architecture) return wanted;
  for (const Platform& build : builds) {
    if (image.os == build.os && image.architecture == build.architecture) return build;
  }
  return wanted;
}

}  // namespace

absl::Status Compilation::ResolveBases() {
  for (bool again = true; again;) {
    again = false;
    const std::set<const StageState*> reachable = ReachableFrom(target_);
    std::vector<std::function<absl::Status()>> tasks;
    for (StageState& stage : stages_) {
      if (stage.base != nullptr || stage.dispatched || stage.resolved) continue;
      const bool wanted = request_.all_stages || reachable.count(&stage) > 0;
      stage.resolved = wanted;  // the others may still be needed by a trigger
      if (stage.base_name == kScratch && !stage.context) {
        stage.image = DockerImage::Scratch(target_platform_);
        stage.platform = target_platform_;
        stage.dispatched = stage.hidden;
        continue;
      }
      tasks.push_back([this, &stage, wanted] { return ResolveBase(&stage, wanted); });
    }
    KILN_RETURN_IF_ERROR(RunInParallel(tasks));
    for (StageState& stage : stages_) {
      if (stage.platform_finding.empty()) continue;
      lint_->Report(rules::kInvalidBaseImagePlatform, stage.lines,
                    std::exchange(stage.platform_finding, {}));
    }
    // Triggers may name stages and images that nothing else needs.
    for (size_t i = 0; i < stages_.size(); ++i) {  // grows meanwhile
      StageState& stage = stages_[i];
      if (reachable.count(&stage) == 0) continue;
      const absl::StatusOr<bool> more = AddTriggers(&stage);
      if (!more.ok()) return WithOnlyLocation(more.status(), stage.lines);
      again |= *more;
    }
  }
  return absl::OkStatus();
}

absl::Status Compilation::ResolveBase(StageState* stage, bool reachable) {
  const auto resolve = [&]() -> absl::Status {
    KILN_ASSIGN_OR_RETURN(
        const Reference reference,
        Annotate(Reference::ParseFamiliar(stage->base_name),
                 absl::StrCat("failed to parse stage name ", Quote(stage->base_name))));
    if (!reachable) return absl::OkStatus();
    if (stage->context) return UseContextAsStage(stage);
    const Platform platform = stage->platform.value_or(target_platform_);
    KILN_ASSIGN_OR_RETURN(
        const std::optional<NamedContext> context,
        FindNamedContext(request_.sources->client(), reference.ToString(), platform));
    if (context) return UseContextAsBase(*context, platform, stage);
    return UseImage(stage, platform);
  };
  const absl::Status status = resolve();
  if (stage->hidden) stage->dispatched = true;  // it has no instructions
  return WithLocation(status, stage->hidden ? stage->named_at : stage->lines);
}

BuildSources::NeededPaths Compilation::PathsOf(const StageState& stage) const {
  return [paths = stage.used_paths] { return FollowPaths(*paths); };
}

absl::Status Compilation::UseContextAsStage(StageState* stage) {
  KILN_ASSIGN_OR_RETURN(LoadedContext loaded, contexts_.Load(*stage->context, PathsOf(*stage)));
  stage->dispatched = true;
  stage->state = std::move(loaded.state);
  if (!loaded.image) return absl::OkStatus();
  stage->image = *std::move(loaded.image);
  const Platform& platform = stage->image.platform;
  if (!platform.architecture.empty() && !platform.os.empty()) stage->platform = platform;
  return absl::OkStatus();
}

absl::Status Compilation::UseContextAsBase(const NamedContext& context, const Platform& platform,
                                           StageState* stage) {
  KILN_ASSIGN_OR_RETURN(LoadedContext loaded, contexts_.Load(context, PathsOf(*stage)));
  stage->image = loaded.image ? *std::move(loaded.image) : DockerImage::Scratch(platform);
  stage->base_image = std::make_shared<const DockerImage>(stage->image);
  stage->state = loaded.state.WithPlatform(ToLlb(platform));
  stage->platform = platform;
  return absl::OkStatus();
}

absl::Status Compilation::UseImage(StageState* stage, const Platform& wanted) {
  const std::string written = stage->base_name;
  KILN_ASSIGN_OR_RETURN(const Reference asked, Reference::ParseFamiliar(written));
  FrontendClient::ImageRequest request;
  request.reference = asked.ToString();
  request.platform = FormatPlatform(wanted);
  request.resolve_mode = options_.resolve_mode_name;
  request.log_name =
      absl::StrCat("[", options_.multi_platform ? absl::StrCat(FormatPlatform(wanted), " ") : "",
                   "internal] load metadata for ", request.reference);
  const absl::StatusOr<FrontendClient::Image> resolved = request_.images->Resolve(request);
  if (!resolved.ok()) {
    std::vector<std::string> known = StageNames();
    for (std::string& name : CommonImages()) known.push_back(std::move(name));
    absl::Status status(resolved.status().code(),
                        absl::StrCat(written, ": ", resolved.status().message(),
                                     DidYouMean(Nearest(written, known))));
    resolved.status().ForEachPayload(
        [&](absl::string_view url, const absl::Cord& value) { status.SetPayload(url, value); });
    return status;
  }
  KILN_ASSIGN_OR_RETURN(DockerImage image, Annotate(DockerImage::Parse(resolved->config),
                                                    "failed to parse image config"));
  stage->base_image = std::make_shared<const DockerImage>(image);
  image.created.reset();
  Platform platform = wanted;
  if (!stage->platform && !request_.target_platform) {
    platform = DetectPlatform(image.platform, wanted, options_.build_platforms);
  }
  // A policy may have put another image in its place.
  KILN_ASSIGN_OR_RETURN(Reference pinned,
                        Annotate(Reference::ParseFamiliar(resolved->reference),
                                 absl::StrCat("failed to parse ref ", Quote(resolved->reference))));
  pinned.digest = resolved->digest;
  stage->base_name = pinned.ToString();
  stage->platform = platform;
  stage->image = std::move(image);
  if (HasNoFiles(stage->image)) return absl::OkStatus();

  llb::ImageInfo info;
  info.resolve_mode = options_.resolve_mode;
  StepNaming naming;
  naming.show_platform = options_.multi_platform;
  naming.platform = platform;
  info.constraints = llb::Named(StepName(*stage, absl::StrCat("FROM ", stage->base_name), naming));
  info.constraints.metadata.description.Set(
      kCommandKey, stage->written == nullptr ? "" : stage->written->text.code);
  info.constraints.metadata.locations.push_back(LocationOf(request_.text, stage->lines));
  info.constraints.platform = ToLlb(platform);
  stage->state = llb::Image(stage->base_name, std::move(info));
  const Platform& got = stage->image.platform;
  if (got.os != platform.os || got.architecture != platform.architecture) {
    stage->platform_finding =
        absl::StrCat("Base image ", written, " was pulled with platform ",
                     Quote(FormatPlatform(NormalizePlatform(got))), ", expected ",
                     Quote(FormatPlatform(NormalizePlatform(platform))), " for current build");
  }
  return absl::OkStatus();
}

// The instructions that the base had stored for whoever builds on it. True when they need stages
// that may not have been resolved.
absl::StatusOr<bool> Compilation::AddTriggers(StageState* stage) {
  std::vector<std::string> triggers = std::move(stage->image.on_build);
  stage->image.on_build.clear();
  if (stage->base != nullptr && !stage->triggers_added) {
    for (const StageCommand& command : stage->base->commands) {
      const auto* stored = std::get_if<Onbuild>(&command.instruction->body);
      if (stored != nullptr) triggers.push_back(stored->trigger);
    }
    stage->triggers_added = true;
  }
  if (triggers.empty()) return false;
  bool more = false;
  std::vector<StageCommand> commands;
  for (const std::string& trigger : triggers) {
    KILN_ASSIGN_OR_RETURN(Instruction instruction, ParseTrigger(trigger, stage->lines));
    stage->triggers.push_back(std::move(instruction));
    StageCommand command{};
    KILN_RETURN_IF_ERROR(AddCommand(stage, stage->triggers.back(), &command));
    command.is_trigger = true;
    more |= !command.sources.empty();
    commands.push_back(std::move(command));
  }
  stage->step_total += static_cast<int>(commands.size());
  stage->commands.insert(stage->commands.begin(), std::make_move_iterator(commands.begin()),
                         std::make_move_iterator(commands.end()));
  return more;
}

}  // namespace kiln::daemon::dockerfile
