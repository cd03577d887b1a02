#include "client/llb/file_vertex.h"

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/llb/go_path.h"
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

void WriteUser(int field, const UserOpt& user, int64_t base, WireWriter& out) {
  out.Message(field, [&] {
    if (user.name.empty()) {
      out.Present(2, user.id);
    } else {
      out.Message(1, [&] { out.Text(1, user.name).Number(2, base); });
    }
  });
}

void WriteOwner(int field, const std::optional<ChownOpt>& owner, int64_t base, WireWriter& out) {
  if (!owner) return;
  out.Message(field, [&] {
    if (owner->user) WriteUser(1, *owner->user, base, out);
    if (owner->group) WriteUser(2, *owner->group, base, out);
  });
}

void WriteCopyInfo(const CopyInfo& info, int64_t base, WireWriter& out) {
  WriteOwner(3, info.owner, base, out);
  if (info.mode_str.empty()) out.Number(4, info.mode ? *info.mode : -1);
  out.Number(5, info.follow_symlinks).Number(6, info.dir_contents_only);
  out.Number(7, info.attempt_unpack).Number(8, info.create_dest_path);
  out.Number(9, info.allow_wildcard).Number(10, info.allow_empty_wildcard);
  out.Number(11, Timestamp(info.created));
  for (const std::string& pattern : info.include_patterns) out.Item(12, pattern);
  for (const std::string& pattern : info.exclude_patterns) out.Item(13, pattern);
  out.Number(14, info.always_replace_existing).Text(15, info.mode_str);
  for (const std::string& path : info.required_paths) out.Item(16, path);
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
  OpDraft op;
  absl::InlinedVector<Action, 2> actions;
  absl::flat_hash_map<const FileAction::Bound*, int> seen;  // chain → its last action
};

FileVertex::FileVertex(State base, FileAction&& action, Constraints&& constraints)
    : chain_{std::move(base), std::move(action.actions_)}, traits_(std::move(constraints)) {
  if (traits_.platform == nullptr) traits_.platform = chain_.base.settings().platform;
}

FileVertex::~FileVertex() { ReleaseChain(chain_); }

void FileVertex::ReleaseChain(FileAction::Bound& chain) {
  Release(std::move(chain.base.output_));
  for (FileAction::Action& action : chain.actions) {
    auto* copy = std::get_if<FileAction::CopyAction>(&action);
    if (copy == nullptr) continue;
    Release(std::move(copy->from.output_));
    if (copy->action != nullptr && copy->action.use_count() == 1) ReleaseChain(*copy->action);
  }
}

void FileVertex::CollectInputs(const FileAction::Bound& chain, Inputs* inputs) {
  if (!chain.base.scratch()) inputs->push_back(chain.base.output().vertex.get());
  for (const FileAction::Action& action : chain.actions) {
    const auto* copy = std::get_if<FileAction::CopyAction>(&action);
    if (copy == nullptr) continue;
    if (copy->action != nullptr) {
      CollectInputs(*copy->action, inputs);
    } else if (!copy->from.scratch()) {
      inputs->push_back(copy->from.output().vertex.get());
    }
  }
}

Vertex::Inputs FileVertex::inputs() const {
  Inputs inputs;
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
    KILN_ASSIGN_OR_RETURN(base, draft->op.AddInput(chain.base.output()));
  }
  Draft::Source input{base, false};
  for (const FileAction::Action& action : chain.actions) {
    Draft::Action drafted{&action, &chain.base, base, input, {}};
    if (const auto* copy = std::get_if<FileAction::CopyAction>(&action)) {
      if (copy->action != nullptr) {
        KILN_ASSIGN_OR_RETURN(const int from, AddChain(*copy->action, draft));
        drafted.secondary = {from, true};
      } else if (!copy->from.scratch()) {
        KILN_ASSIGN_OR_RETURN(const int64_t from, draft->op.AddInput(copy->from.output()));
        drafted.secondary = {from, false};
      }
    }
    input = {static_cast<int64_t>(draft->actions.size()), true};
    draft->actions.push_back(drafted);
  }
  draft->seen[&chain] = static_cast<int>(input.index);
  return static_cast<int>(input.index);
}

void FileVertex::AddCaps(const FileAction::Action& action, CapSet* caps) {
  if (std::holds_alternative<FileAction::SymlinkAction>(action)) caps->Add("file.symlink.create");
  const auto* copy = std::get_if<FileAction::CopyAction>(&action);
  if (copy == nullptr) return;
  if (!copy->info.include_patterns.empty() || !copy->info.exclude_patterns.empty())
    caps->Add("file.copy.includeexcludepatterns");
  if (!copy->info.required_paths.empty()) caps->Add("file.copy.requiredpaths");
  if (copy->info.always_replace_existing) caps->Add("file.copy.alwaysreplaceexistingdestpaths");
}

void FileVertex::WriteAction(const FileAction::Action& action, const std::string& dir, int64_t base,
                             WireWriter& out) const {
  if (const auto* mkdir = std::get_if<FileAction::MkdirAction>(&action)) {
    out.Message(6, [&] {
      out.Text(1, NormalizePath(dir, mkdir->path, false)).Number(2, mkdir->mode & kPermissionBits);
      out.Number(3, mkdir->info.make_parents);
      WriteOwner(4, mkdir->info.owner, base, out);
      out.Number(5, Timestamp(mkdir->info.created));
    });
  } else if (const auto* mkfile = std::get_if<FileAction::MkfileAction>(&action)) {
    out.Message(5, [&] {
      out.Text(1, NormalizePath(dir, mkfile->path, false));
      out.Number(2, mkfile->mode & kPermissionBits).Text(3, mkfile->data);
      WriteOwner(4, mkfile->info.owner, base, out);
      out.Number(5, Timestamp(mkfile->info.created));
    });
  } else if (const auto* link = std::get_if<FileAction::SymlinkAction>(&action)) {
    out.Message(8, [&] {
      out.Text(1, link->old_path).Text(2, NormalizePath(dir, link->new_path, false));
      WriteOwner(3, link->info.owner, base, out);
      out.Number(4, Timestamp(link->info.created));
    });
  } else if (const auto* rm = std::get_if<FileAction::RmAction>(&action)) {
    out.Message(7, [&] {
      out.Text(1, NormalizePath(dir, rm->path, false));
      out.Number(2, rm->info.allow_not_found).Number(3, rm->info.allow_wildcard);
    });
  } else {
    const auto& copy = std::get<FileAction::CopyAction>(action);
    const State& from = copy.action != nullptr ? copy.action->base : copy.from;
    const std::string src = CleanPath(copy.src);
    out.Message(4, [&] {
      out.Text(1, src.front() == '/' ? src : JoinPath(from.dir(), src));
      out.Text(2, NormalizePath(dir, copy.dest, true));
      WriteCopyInfo(copy.info, base, out);
    });
  }
}

absl::StatusOr<Digest> FileVertex::Write(GraphWriter& graph) const {
  Draft draft{OpDraft(graph), {}, {}};
  KILN_RETURN_IF_ERROR(AddChain(chain_, &draft).status());
  CapSet caps = {"file.base"};
  for (const Draft::Action& drafted : draft.actions) AddCaps(*drafted.action, &caps);
  const int64_t inputs = draft.op.inputs();
  const auto number = [inputs](const Draft::Source& source) {
    return source.is_action ? inputs + source.index : source.index;
  };
  return draft.op.Finish(
      OpKind::kFile, OnPlatform::kNo, traits_, std::move(caps), [&](WireWriter& file) {
        for (const Draft::Action& drafted : draft.actions) {
          file.Message(2, [&] {
            file.Number(1, number(drafted.input)).Number(2, number(drafted.secondary));
            file.Number(3, &drafted == &draft.actions.back() ? 0 : -1);
            WriteAction(*drafted.action, drafted.base_state->dir(), drafted.base, file);
          });
        }
      });
}

}  // namespace kiln::client::llb
