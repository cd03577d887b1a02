#include "client/llb/file_vertex.h"

#include <map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/llb/go_path.h"
#include "proto/buildkit/ops.pb.h"
#include "store/base/status_macros.h"

namespace kiln::client::llb {
namespace {

constexpr int kPermissionBits = 0777;

// Absolute and clean. A trailing "/" or "/." of a destination decides what a copy does: kept.
std::string NormalizePath(absl::string_view dir, absl::string_view path, bool keep_slash) {
  std::string clean = CleanPath(path);
  if (clean.front() != '/') clean = JoinPath("/", JoinPath(dir, clean));
  if (!keep_slash) return clean;
  if (absl::EndsWith(path, "/") && !absl::EndsWith(clean, "/")) {
    clean += "/";
  } else if (absl::EndsWith(path, "/.")) {
    if (clean != "/") clean += "/";
    clean += ".";
  }
  return clean;
}

int64_t Timestamp(const std::optional<absl::Time>& time) {
  return time ? absl::ToUnixNanos(*time) : -1;
}

void FillUser(const UserOpt& user, int64_t base, pb::UserOpt* out) {
  if (user.name.empty()) {
    out->set_byid(user.id);
    return;
  }
  out->mutable_byname()->set_name(user.name);
  out->mutable_byname()->set_input(base);
}

template <typename Action>
void FillOwner(const std::optional<ChownOpt>& owner, int64_t base, Action* action) {
  if (!owner) return;
  pb::ChownOpt* out = action->mutable_owner();
  if (owner->user) FillUser(*owner->user, base, out->mutable_user());
  if (owner->group) FillUser(*owner->group, base, out->mutable_group());
}

void FillCopyInfo(const CopyInfo& info, int64_t base, pb::FileActionCopy* out) {
  FillOwner(info.owner, base, out);
  for (const std::string& pattern : info.include_patterns) out->add_include_patterns(pattern);
  for (const std::string& pattern : info.exclude_patterns) out->add_exclude_patterns(pattern);
  for (const std::string& path : info.required_paths) out->add_required_paths(path);
  out->set_allowwildcard(info.allow_wildcard);
  out->set_allowemptywildcard(info.allow_empty_wildcard);
  out->set_followsymlink(info.follow_symlinks);
  out->set_dircopycontents(info.dir_contents_only);
  out->set_attemptunpackdockercompatibility(info.attempt_unpack);
  out->set_createdestpath(info.create_dest_path);
  out->set_timestamp(Timestamp(info.created));
  out->set_alwaysreplaceexistingdestpaths(info.always_replace_existing);
  if (!info.mode_str.empty()) {
    out->set_modestr(info.mode_str);
  } else {
    out->set_mode(info.mode ? *info.mode : -1);
  }
}

}  // namespace

// The op under construction. An action's input is an input of the op, or an earlier action, whose
// number on the wire follows only when all inputs of the op are known.
struct FileVertex::Draft {
  struct Source {
    int64_t index = -1;
    bool is_action = false;
  };
  struct Action {
    const FileAction::Action* action;
    const State* base_state;
    int64_t base;
    Source input, secondary;
  };
  const MarshalContext& context;
  pb::Op op;
  std::vector<Action> actions;
  std::map<const FileAction::Bound*, int> seen;  // chain → its last action
};

FileVertex::FileVertex(State base, FileAction action, Constraints constraints)
    : chain_{std::move(base), std::move(action.actions_)}, constraints_(std::move(constraints)) {
  if (!constraints_.platform) constraints_.platform = chain_.base.settings().platform;
}

FileVertex::~FileVertex() {
  std::vector<Output> inputs;
  CollectInputs(chain_, &inputs);
  chain_ = {};  // `inputs` now holds the last references
  Release(std::move(inputs));
}

void FileVertex::CollectInputs(const FileAction::Bound& chain, std::vector<Output>* inputs) {
  if (!chain.base.scratch()) inputs->push_back(chain.base.output());
  for (const FileAction::Action& action : chain.actions) {
    const auto* copy = std::get_if<FileAction::CopyAction>(&action);
    if (copy == nullptr) continue;
    if (copy->action != nullptr) {
      CollectInputs(*copy->action, inputs);
    } else if (!copy->from.scratch()) {
      inputs->push_back(copy->from.output());
    }
  }
}

std::vector<Output> FileVertex::Inputs() const {
  std::vector<Output> inputs;
  CollectInputs(chain_, &inputs);
  return inputs;
}

absl::StatusOr<int> FileVertex::AddChain(const FileAction::Bound& chain, Draft* draft) const {
  if (auto seen = draft->seen.find(&chain); seen != draft->seen.end()) return seen->second;
  if (chain.actions.empty()) {
    return absl::InvalidArgumentError("file op without an action: action is required");
  }
  int64_t base = -1;
  if (!chain.base.scratch()) {
    KILN_ASSIGN_OR_RETURN(base, draft->context.AddInput(chain.base.output(), &draft->op));
  }
  Draft::Source input{base, false};
  for (const FileAction::Action& action : chain.actions) {
    Draft::Action drafted{&action, &chain.base, base, input, {}};
    if (const auto* copy = std::get_if<FileAction::CopyAction>(&action)) {
      if (copy->action != nullptr) {
        KILN_ASSIGN_OR_RETURN(const int from, AddChain(*copy->action, draft));
        drafted.secondary = {from, true};
      } else if (!copy->from.scratch()) {
        KILN_ASSIGN_OR_RETURN(const int64_t from,
                              draft->context.AddInput(copy->from.output(), &draft->op));
        drafted.secondary = {from, false};
      }
    }
    input = {static_cast<int64_t>(draft->actions.size()), true};
    draft->actions.push_back(drafted);
  }
  draft->seen[&chain] = static_cast<int>(input.index);
  return static_cast<int>(input.index);
}

absl::Status FileVertex::FillAction(const FileAction::Action& action, const std::string& dir,
                                    int64_t base, pb::FileAction* out) const {
  if (const auto* mkdir = std::get_if<FileAction::MkdirAction>(&action)) {
    pb::FileActionMkDir* op = out->mutable_mkdir();
    op->set_path(NormalizePath(dir, mkdir->path, false));
    op->set_mode(mkdir->mode & kPermissionBits);
    op->set_makeparents(mkdir->info.make_parents);
    FillOwner(mkdir->info.owner, base, op);
    op->set_timestamp(Timestamp(mkdir->info.created));
  } else if (const auto* mkfile = std::get_if<FileAction::MkfileAction>(&action)) {
    pb::FileActionMkFile* op = out->mutable_mkfile();
    op->set_path(NormalizePath(dir, mkfile->path, false));
    op->set_mode(mkfile->mode & kPermissionBits);
    op->set_data(mkfile->data);
    FillOwner(mkfile->info.owner, base, op);
    op->set_timestamp(Timestamp(mkfile->info.created));
  } else if (const auto* link = std::get_if<FileAction::SymlinkAction>(&action)) {
    pb::FileActionSymlink* op = out->mutable_symlink();
    op->set_oldpath(link->old_path);
    op->set_newpath(NormalizePath(dir, link->new_path, false));
    FillOwner(link->info.owner, base, op);
    op->set_timestamp(Timestamp(link->info.created));
  } else if (const auto* rm = std::get_if<FileAction::RmAction>(&action)) {
    pb::FileActionRm* op = out->mutable_rm();
    op->set_path(NormalizePath(dir, rm->path, false));
    op->set_allownotfound(rm->info.allow_not_found);
    op->set_allowwildcard(rm->info.allow_wildcard);
  } else {
    const auto& copy = std::get<FileAction::CopyAction>(action);
    pb::FileActionCopy* op = out->mutable_copy();
    const State& from = copy.action != nullptr ? copy.action->base : copy.from;
    const std::string src = CleanPath(copy.src);
    op->set_src(src.front() == '/' ? src : JoinPath(from.dir(), src));
    op->set_dest(NormalizePath(dir, copy.dest, true));
    FillCopyInfo(copy.info, base, op);
  }
  return absl::OkStatus();
}

absl::StatusOr<MarshalledOp> FileVertex::Marshal(const MarshalContext& context) const {
  Draft draft{context, {}, {}, {}};
  KILN_RETURN_IF_ERROR(AddChain(chain_, &draft).status());
  Constraints constraints = constraints_;
  std::set<std::string>& caps = constraints.metadata.caps;
  caps.insert("file.base");
  OpMetadata metadata;
  const int64_t inputs = draft.op.inputs_size();
  const auto number = [inputs](const Draft::Source& source) {
    return source.is_action ? inputs + source.index : source.index;
  };
  pb::FileOp* file = draft.op.mutable_file();
  for (const Draft::Action& drafted : draft.actions) {
    pb::FileAction* out = file->add_actions();
    out->set_input(number(drafted.input));
    out->set_secondaryinput(number(drafted.secondary));
    out->set_output(&drafted == &draft.actions.back() ? 0 : -1);
    KILN_RETURN_IF_ERROR(FillAction(*drafted.action, drafted.base_state->dir(), drafted.base, out));
    if (out->has_symlink()) caps.insert("file.symlink.create");
    if (out->has_copy()) {
      const pb::FileActionCopy& copy = out->copy();
      if (copy.include_patterns_size() + copy.exclude_patterns_size() > 0) {
        caps.insert("file.copy.includeexcludepatterns");
      }
      if (copy.required_paths_size() > 0) caps.insert("file.copy.requiredpaths");
      if (copy.alwaysreplaceexistingdestpaths()) {
        caps.insert("file.copy.alwaysreplaceexistingdestpaths");
      }
    }
  }
  metadata = FillConstraints(context, std::move(constraints), &draft.op);
  draft.op.clear_platform();  // file ops are not platform specific
  return FinishOp(std::move(draft.op), std::move(metadata));
}

}  // namespace kiln::client::llb
