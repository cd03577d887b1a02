// COPY and ADD (dockerfile.md 2.6).
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/llb/go_path.h"
#include "client/llb/source.h"
#include "daemon/frontend/dockerfile/dispatch.h"
#include "daemon/frontend/dockerfile/os_path.h"
#include "daemon/frontend/dockerfile/step_source.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"
#include "daemon/gateway/bridge.h"
#include "daemon/ops/symbolic_mode.h"
#include "proto/digest.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {
namespace {

namespace llb = client::llb;

llb::Constraints InlineDocument() { return llb::Named("[internal] preparing inline document"); }

bool IsHttp(absl::string_view source) {
  return absl::StartsWith(source, "http://") || absl::StartsWith(source, "https://");
}

}  // namespace

absl::Status StageDispatcher::Do(const Copy& copy) {
  CopyStep step;
  KILN_ASSIGN_OR_RETURN(step.chown, Expand(copy.chown));
  KILN_ASSIGN_OR_RETURN(step.chmod, Expand(copy.chmod));
  step.paths = &copy.paths;
  step.link = copy.link;
  step.parents = copy.parents;
  step.exclude = &copy.exclude;
  StageState* source = command_->sources.empty() ? nullptr : command_->sources[0];
  if (source != nullptr && !source->dispatched) {
    return absl::InvalidArgumentError(absl::StrCat("cannot copy from stage ", Quote(copy.from),
                                                   ", it needs to be defined before current stage ",
                                                   Quote(stage_.name)));
  }
  step.from = source != nullptr ? source->state : scope_.main_context;
  step.from_context = source == nullptr;
  return CopyFiles(&step);
}

absl::Status StageDispatcher::Do(const Add& add) {
  CopyStep step;
  step.is_add = true;
  KILN_ASSIGN_OR_RETURN(step.chown, Expand(add.chown));
  KILN_ASSIGN_OR_RETURN(step.chmod, Expand(add.chmod));
  KILN_ASSIGN_OR_RETURN(step.checksum, Expand(add.checksum));
  step.paths = &add.paths;
  step.link = add.link;
  step.exclude = &add.exclude;
  step.keep_git_dir = add.keep_git_dir;
  step.unpack = add.unpack;
  step.from = scope_.main_context;
  step.from_context = true;
  return CopyFiles(&step);
}

absl::StatusOr<std::string> StageDispatcher::Destination(const std::string& path) const {
  KILN_ASSIGN_OR_RETURN(std::string bare,
                        Annotate(WithoutDrive(path, os(), true), "removing drive letter"));
  if (IsAbsolutePath(bare, os())) return AbsolutePath("/", bare, os(), true);
  if (bare == "." || bare.empty()) bare = "./";  // the working directory itself
  return AbsolutePath(stage_.state.dir(), bare, os(), true);
}

absl::Status StageDispatcher::SetMode(CopyStep* step) {
  const std::string& text = step->chmod;
  if (text.empty()) return absl::OkStatus();
  const absl::Status not_octal = absl::InvalidArgumentError(absl::StrCat(
      "invalid chmod parameter: '", text, "'. it should be octal string and between 0 and 07777"));
  uint32_t mode = 0;
  bool octal = true;
  for (const char c : text) {
    octal &= c >= '0' && c <= '7';
    mode = octal ? std::min<uint32_t>(mode * 8 + (c - '0'), 1 << 16) : mode;
  }
  if (octal) {
    if (mode > 07777) return not_octal;
    step->info.mode = static_cast<int32_t>(mode);
    return absl::OkStatus();
  }
  if (text[0] >= '0' && text[0] <= '9') return not_octal;
  if (!SymbolicMode::Parse(text).ok()) return absl::InvalidArgumentError("invalid syntax");
  step->info.mode_str = text;
  return absl::OkStatus();
}

absl::Status StageDispatcher::CheckChecksum(const CopyStep& step,
                                            const std::vector<std::string>& sources) {
  if (step.checksum.empty()) return absl::OkStatus();
  if (sources.size() != 1) {
    return absl::InvalidArgumentError("checksum can't be specified for multiple sources");
  }
  const auto git = ParseGitReference(sources[0]);
  const bool is_git = !git.ok() || git->has_value();
  if (!is_git && !IsHttp(sources[0])) {
    return absl::InvalidArgumentError("checksum requires HTTP(S) or Git sources");
  }
  return absl::OkStatus();
}

absl::Status StageDispatcher::CopyFiles(CopyStep* step) {
  std::vector<std::string> sources;
  for (const std::string& source : step->paths->sources) {
    KILN_ASSIGN_OR_RETURN(sources.emplace_back(), Expand(source));
  }
  KILN_ASSIGN_OR_RETURN(const std::string dest, Expand(step->paths->dest));
  std::vector<InlineFile> files = step->paths->inline_files;
  for (InlineFile& file : files) {
    if (file.expand) {
      KILN_ASSIGN_OR_RETURN(file.data, Expand(file.data, /*inline_file=*/true));
    }
  }
  KILN_ASSIGN_OR_RETURN(step->dest, Destination(dest));
  if (!step->chown.empty()) step->info.owner = llb::ParseChown(step->chown);
  step->info.exclude_patterns = *step->exclude;
  step->info.create_dest_path = true;
  KILN_RETURN_IF_ERROR(SetMode(step));
  KILN_RETURN_IF_ERROR(CheckChecksum(*step, sources));
  step->history = absl::StrCat(step->is_add ? "ADD" : "COPY", step->parents ? " --parents" : "",
                               step->chown.empty() ? "" : absl::StrCat(" --chown=", step->chown),
                               step->chmod.empty() ? "" : absl::StrCat(" --chmod=", step->chmod));
  step->name = NameStep(ShownCode(), stage_.platform);
  for (const std::string& source : sources) {
    absl::StrAppend(&step->history, " ", source);
    KILN_ASSIGN_OR_RETURN(const std::optional<GitReference> git, ParseGitReference(source));
    if (git && !git->looks_local) {
      KILN_RETURN_IF_ERROR(AddGit(*git, step));
    } else if (IsHttp(source)) {
      KILN_RETURN_IF_ERROR(AddDownload(source, step));
    } else {
      KILN_RETURN_IF_ERROR(AddPath(source, step));
    }
  }
  for (const InlineFile& file : files) KILN_RETURN_IF_ERROR(AddInlineFile(file, step));
  absl::StrAppend(&step->history, " ", dest, " # buildkit");
  KILN_RETURN_IF_ERROR(Commit(step));
  StageState* from = step->from_context ? nullptr : command_->sources[0];
  for (const std::string& source : sources) {
    if (step->is_add && IsHttp(source)) continue;
    (from == nullptr ? stage_.context_paths : *from->used_paths).insert(llb::JoinPath("/", source));
  }
  return absl::OkStatus();
}

absl::Status StageDispatcher::AddGit(const GitReference& git, CopyStep* step) {
  if (!step->is_add) return absl::InvalidArgumentError("source can't be a git ref for COPY");
  if (step->keep_git_dir && git.keep_git_dir && *step->keep_git_dir != *git.keep_git_dir) {
    return absl::InvalidArgumentError("inconsistent keep-git-dir configuration");
  }
  if (git.keep_git_dir) step->keep_git_dir = git.keep_git_dir;
  if (!step->checksum.empty() && !git.checksum.empty() && step->checksum != git.checksum) {
    return absl::InvalidArgumentError(
        absl::StrCat("checksum mismatch ", Quote(step->checksum), " != ", Quote(git.checksum)));
  }
  if (!git.checksum.empty()) step->checksum = git.checksum;
  llb::GitInfo info = GitSourceInfo(git);
  info.checksum = step->checksum;
  info.keep_git_dir = step->keep_git_dir.value_or(false);
  info.constraints = llb::Named(step->name);
  step->action.Copy(llb::Git(git.remote, std::move(info)), "/", step->dest, step->info);
  return absl::OkStatus();
}

absl::Status StageDispatcher::AddDownload(const std::string& url, CopyStep* step) {
  if (!step->is_add) return absl::InvalidArgumentError("source can't be a URL for COPY");
  llb::HttpInfo info;
  info.filename = HttpFilename(url);
  if (!step->checksum.empty()) {
    const auto digest = Digest::Parse(step->checksum);
    if (!digest.ok()) return Annotate(digest.status(), absl::StrCat("--checksum=", step->checksum));
    info.checksum = digest->ToString();
  }
  info.constraints = llb::Named(step->name);
  info.constraints.metadata.description.Set(kCommandKey, "");
  llb::CopyInfo copy = step->info;
  copy.attempt_unpack = step->unpack.value_or(false);
  const std::string filename = info.filename;
  step->action.Copy(llb::Http(url, std::move(info)), filename, step->dest, std::move(copy));
  return absl::OkStatus();
}

void StageDispatcher::CheckIgnored(const std::string& source, bool is_add) {
  if (scope_.ignored == nullptr || scope_.ignored->has_exceptions()) return;
  const std::string path = llb::CleanPath(source);
  if ((path == "." || path == "/") && !scope_.ignores_root) return;
  if (!scope_.ignored->Matches(path)) return;
  lint_.Report(rules::kCopyIgnoredFile, lines(),
               absl::StrCat("Attempting to ", is_add ? "Add" : "Copy", " file ", Quote(path),
                            " that is excluded by .dockerignore"));
}

absl::Status StageDispatcher::AddPath(const std::string& source, CopyStep* step) {
  if (step->from_context) CheckIgnored(source, step->is_add);
  llb::CopyInfo copy = step->info;
  const auto absolute = [&](const std::string& path) {
    return Annotate(AbsolutePath("/", path, os(), false), "removing drive letter");
  };
  std::string root = source;
  if (step->parents) {
    // Directories up to the pivot "/./" are not made again.
    std::string below = source;
    const size_t pivot = source.find("/./");
    root = pivot == std::string::npos ? "/" : source.substr(0, pivot);
    if (pivot != std::string::npos) below = source.substr(pivot + 3);
    KILN_ASSIGN_OR_RETURN(below, absolute(below));
    copy.include_patterns = {std::string(absl::StripPrefix(below, "/"))};
    if (!HasWildcards(root) && !HasWildcards(below)) {
      KILN_ASSIGN_OR_RETURN(copy.required_paths.emplace_back(),
                            absolute(llb::JoinPath(root, below)));
    }
  }
  KILN_ASSIGN_OR_RETURN(root, absolute(root));
  copy.follow_symlinks = true;
  copy.dir_contents_only = true;
  copy.attempt_unpack = step->unpack.value_or(step->is_add);
  copy.allow_wildcard = true;
  copy.allow_empty_wildcard = true;
  step->action.Copy(step->from, root, step->dest, std::move(copy));
  return absl::OkStatus();
}

absl::Status StageDispatcher::AddInlineFile(const InlineFile& file, CopyStep* step) {
  absl::StrAppend(&step->history, " <<", file.name);
  KILN_ASSIGN_OR_RETURN(const std::string name,
                        Annotate(WithoutDrive(file.name, os(), false), "removing drive letter"));
  const llb::State document =
      llb::State().File(llb::Mkfile(name, 0644, file.data), InlineDocument());
  step->action.Copy(document, WithSlashes(name, os()), step->dest, step->info);
  return absl::OkStatus();
}

absl::Status StageDispatcher::Commit(CopyStep* step) {
  llb::Constraints constraints = NamedStep(step->name);
  constraints.metadata.ignore_cache = stage_.ignore_cache;
  if (step->link && step->chmod.empty()) {
    // Two steps that are shown as one: the files alone, then laid over what is there.
    const std::string id = NewId();
    llb::Constraints files = constraints;
    files.metadata.progress_group = llb::ProgressGroup{id, step->name, true};
    constraints.metadata.progress_group = llb::ProgressGroup{id, step->name, false};
    --stage_.step_index;  // the same step
    constraints.metadata.description.Set(
        "llb.customname", NameStep(absl::StrCat("LINK ", ShownCode()), stage_.platform));
    const llb::State copied = llb::State().File(std::move(step->action), std::move(files));
    stage_.state = stage_.state.WithOutput(
        llb::Merge({stage_.state, copied}, std::move(constraints)).output());
  } else {
    stage_.state = stage_.state.File(std::move(step->action), std::move(constraints));
  }
  AddHistory(std::move(step->history), true);
  return absl::OkStatus();
}

}  // namespace kiln::daemon::dockerfile
