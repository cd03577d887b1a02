#include "daemon/ops/file_actions.h"

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/ops/copy_tree.h"
#include "daemon/ops/owner.h"
#include "daemon/ops/symbolic_mode.h"
#include "proto/buildkit/ops.pb.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

using store::Attributes;
using store::Entry;
using store::SplitPath;
using store::TreeReader;
using store::TreeWriter;

// nullopt: leave times as they are. 0 is the epoch.
std::optional<absl::Time> TimeOf(int64_t timestamp) {
  if (timestamp == -1) return std::nullopt;
  return absl::FromUnixNanos(timestamp);
}

// A user sets the group as well, to the same number or to what passwd says; a group then overrides.
// Unknown names are 0, as in BuildKit.
absl::StatusOr<std::optional<Owner>> ResolveOwner(const pb::ChownOpt* owner,
                                                  const InputTree& input_tree) {
  if (owner == nullptr) return std::optional<Owner>();
  Owner out;
  if (owner->user().has_byid()) out = {owner->user().byid(), owner->user().byid()};
  if (owner->user().has_byname()) {
    const pb::NamedUserOpt& name = owner->user().byname();
    KILN_ASSIGN_OR_RETURN(const TreeReader tree, input_tree(static_cast<int>(name.input())));
    KILN_ASSIGN_OR_RETURN(const std::optional<Owner> found, FindUser(tree, name.name()));
    out = found.value_or(Owner());
  }
  if (owner->group().has_byid()) out.gid = owner->group().byid();
  if (owner->group().has_byname()) {
    const pb::NamedUserOpt& name = owner->group().byname();
    KILN_ASSIGN_OR_RETURN(const TreeReader tree, input_tree(static_cast<int>(name.input())));
    KILN_ASSIGN_OR_RETURN(const std::optional<uint32_t> found, FindGroup(tree, name.name()));
    // Not found leaves the gid that the user gave.
    out.gid = found.value_or(out.gid);
  }
  return std::optional<Owner>(out);
}

template <typename Action>
absl::StatusOr<Attributes> AttributesOf(const Action& action, const InputTree& input_tree) {
  Attributes out;
  KILN_ASSIGN_OR_RETURN(const std::optional<Owner> owner,
                        ResolveOwner(action.has_owner() ? &action.owner() : nullptr, input_tree));
  if (owner.has_value()) {
    out.uid = owner->uid;
    out.gid = owner->gid;
  }
  out.mtime = TimeOf(action.timestamp());
  return out;
}

absl::Status MakeDirectory(const pb::FileActionMkDir& action, TreeWriter& to,
                           const InputTree& input_tree) {
  KILN_ASSIGN_OR_RETURN(Attributes attributes, AttributesOf(action, input_tree));
  attributes.mode = static_cast<uint32_t>(action.mode()) & 0777;
  KILN_ASSIGN_OR_RETURN(const std::string path, to.reader().ResolveMissing(action.path()));
  if (action.makeparents()) return MakeDirs(to, path, attributes).status();
  const absl::Status status = to.MakeDir(path, attributes);
  // Anything of that name will do, even a file.
  return absl::IsAlreadyExists(status) ? absl::OkStatus() : status;
}

absl::Status MakeFile(const pb::FileActionMkFile& action, TreeWriter& to,
                      const InputTree& input_tree) {
  KILN_ASSIGN_OR_RETURN(Attributes attributes, AttributesOf(action, input_tree));
  attributes.mode = static_cast<uint32_t>(action.mode()) & 0777;
  KILN_ASSIGN_OR_RETURN(const std::string path, to.reader().ResolveMissing(action.path()));
  const auto existing = to.reader().Lstat(path);
  if (!existing.ok()) {
    if (!absl::IsNotFound(existing.status())) return existing.status();
    return to.WriteFile(path, action.data(), attributes);
  }
  // Truncating a file keeps what it was, but for its capabilities.
  KILN_ASSIGN_OR_RETURN(const auto xattrs, to.reader().Xattrs(*existing, path));
  attributes.mode = existing->st.st_mode & 07777;
  attributes.uid = attributes.uid.value_or(existing->st.st_uid);
  attributes.gid = attributes.gid.value_or(existing->st.st_gid);
  KILN_RETURN_IF_ERROR(to.WriteFile(path, action.data(), attributes));
  for (const auto& [name, value] : xattrs) {
    if (name == "security.capability") continue;
    KILN_RETURN_IF_ERROR(to.SetXattr(path, name, value));
  }
  return absl::OkStatus();
}

// `path` with its parent resolved: the last component itself is meant, link or not.
absl::StatusOr<std::string> ResolveParent(const TreeReader& tree, absl::string_view path) {
  const auto [parent, name] = SplitPath(store::CleanPath(path));
  KILN_ASSIGN_OR_RETURN(const std::string dir, tree.ResolveMissing(parent));
  return store::JoinPath(dir, name);
}

absl::Status MakeSymlink(const pb::FileActionSymlink& action, TreeWriter& to,
                         const InputTree& input_tree) {
  KILN_ASSIGN_OR_RETURN(const Attributes attributes, AttributesOf(action, input_tree));
  KILN_ASSIGN_OR_RETURN(const std::string path, ResolveParent(to.reader(), action.newpath()));
  return to.MakeSymlink(path, action.oldpath(), attributes);
}

absl::Status RemovePath(const std::string& path, bool allow_not_found, TreeWriter& to) {
  if (store::CleanPath(path) == "/")
    return absl::InvalidArgumentError("rmPath: invalid empty path");
  KILN_ASSIGN_OR_RETURN(const std::string resolved, ResolveParent(to.reader(), path));
  const absl::Status status = to.Remove(resolved);
  return allow_not_found && absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::Status Remove(const pb::FileActionRm& action, TreeWriter& to) {
  if (!action.allowwildcard()) return RemovePath(action.path(), action.allownotfound(), to);
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> paths,
                        ResolveWildcards(to.reader(), action.path()));
  for (const std::string& path : paths)
    KILN_RETURN_IF_ERROR(RemovePath(path, action.allownotfound(), to));
  return absl::OkStatus();
}

absl::Status Copy(const pb::FileActionCopy& action, TreeWriter& to, const TreeReader& secondary,
                  const InputTree& input_tree, const CancelToken& cancel) {
  CopyRequest request;
  request.src = action.src();
  request.dest = action.dest();
  KILN_ASSIGN_OR_RETURN(request.owner,
                        ResolveOwner(action.has_owner() ? &action.owner() : nullptr, input_tree));
  if (!action.modestr().empty()) {
    KILN_ASSIGN_OR_RETURN(request.symbolic_mode, SymbolicMode::Parse(action.modestr()));
  } else if (action.mode() != -1) {
    request.mode = static_cast<uint32_t>(action.mode()) & 07777;
  }
  request.time = TimeOf(action.timestamp());
  request.follow_symlink = action.followsymlink();
  request.contents_only = action.dircopycontents();
  request.unpack = action.attemptunpackdockercompatibility();
  request.create_dest = action.createdestpath();
  request.wildcard = action.allowwildcard();
  request.allow_empty_wildcard = action.allowemptywildcard();
  request.replace_existing = action.alwaysreplaceexistingdestpaths();
  request.include_patterns.assign(action.include_patterns().begin(),
                                  action.include_patterns().end());
  request.exclude_patterns.assign(action.exclude_patterns().begin(),
                                  action.exclude_patterns().end());
  return CopyTree(secondary, to, request, cancel);
}

}  // namespace

absl::Status RunFileAction(const pb::FileAction& action, TreeWriter& to,
                           const TreeReader& secondary, const InputTree& input_tree,
                           const CancelToken& cancel) {
  if (cancel.Cancelled()) return cancel.status();
  switch (action.action_case()) {
    case pb::FileAction::kMkdir:
      return MakeDirectory(action.mkdir(), to, input_tree);
    case pb::FileAction::kMkfile:
      return MakeFile(action.mkfile(), to, input_tree);
    case pb::FileAction::kSymlink:
      return MakeSymlink(action.symlink(), to, input_tree);
    case pb::FileAction::kRm:
      return Remove(action.rm(), to);
    case pb::FileAction::kCopy:
      return Copy(action.copy(), to, secondary, input_tree, cancel);
    default:
      return absl::InvalidArgumentError("invalid action type");
  }
}

}  // namespace kiln::daemon
