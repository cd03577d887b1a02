#include "store/snapshot/apply.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"
#include "store/snapshot/copy_entry.h"
#include "store/snapshot/driver.h"

namespace kiln::store {
namespace {

Layers WithTarget(Layers lower, const std::string& target) {
  lower.push_back(target);
  return lower;
}

absl::StatusOr<std::optional<struct stat>> LstatIfThere(const std::string& path) {
  struct stat st = {};
  if (::lstat(path.c_str(), &st) == 0) return st;
  if (errno == ENOENT) return std::nullopt;
  return ErrnoStatus(errno, absl::StrCat("stat ", path));
}

absl::Status RemoveEntry(const std::string& path, const struct stat& st) {
  if (S_ISDIR(st.st_mode)) return RemoveTree(path);
  if (::unlink(path.c_str()) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, absl::StrCat("remove ", path));
}

}  // namespace

TreeApplier::TreeApplier(std::string target, ApplyOptions options)
    : target_(std::move(target)),
      options_(std::move(options)),
      whole_(WithTarget(options_.lower, target_)) {}

absl::Status TreeApplier::Apply(const Change& change) {
  const std::string path = change.path == "/" ? target_ : target_ + change.path;
  if (change.kind == Change::Kind::kDelete) return Delete(change, path);
  if (S_ISDIR(change.st.st_mode)) return PutDirectory(change, path);
  return PutFile(change, path);
}

absl::StatusOr<bool> TreeApplier::ShowsThrough(const std::string& tree_path) const {
  if (options_.lower.empty()) return false;
  const absl::Status found = whole_.Lstat(tree_path).status();
  if (found.ok()) return true;
  if (absl::IsNotFound(found)) return false;
  return found;
}

absl::Status TreeApplier::PutDirectory(const Change& change, const std::string& path) {
  KILN_ASSIGN_OR_RETURN(const std::optional<struct stat> old, LstatIfThere(path));
  const bool merges = old.has_value() && S_ISDIR(old->st_mode) && !change.opaque;
  if (!merges && change.path != "/") {
    if (old.has_value()) KILN_RETURN_IF_ERROR(RemoveEntry(path, *old));
    // A whiteout, a file or a hidden directory was here: what is below must stay hidden. Without
    // one of these the directory merges with the one below.
    bool hide = options_.keep_all_whiteouts && change.opaque;
    if (!hide && (change.opaque || old.has_value())) {
      KILN_ASSIGN_OR_RETURN(hide, ShowsThrough(change.path));
    }
    if (::mkdir(path.c_str(), 0700) != 0) return ErrnoStatus(errno, absl::StrCat("create ", path));
    if (hide) KILN_RETURN_IF_ERROR(SetOpaque(path));
  }
  KILN_RETURN_IF_ERROR(CopyMetadata(change.host_path, change.st, path));
  directories_[change.path] = change.st;
  return absl::OkStatus();
}

absl::Status TreeApplier::PutFile(const Change& change, const std::string& path) {
  KILN_ASSIGN_OR_RETURN(const std::optional<struct stat> old, LstatIfThere(path));
  if (old.has_value()) KILN_RETURN_IF_ERROR(RemoveEntry(path, *old));
  const bool linkable = S_ISREG(change.st.st_mode) || S_ISLNK(change.st.st_mode);
  if (linkable) {
    KILN_ASSIGN_OR_RETURN(const bool linked, LinkFile(change, path));
    if (linked) return absl::OkStatus();
  }
  KILN_RETURN_IF_ERROR(CopyBody(change.host_path, change.st, path));
  KILN_RETURN_IF_ERROR(CopyMetadata(change.host_path, change.st, path));
  return CopyTimes(change.st, path);
}

// False: copy it.
absl::StatusOr<bool> TreeApplier::LinkFile(const Change& change, const std::string& path) {
  if (change.st.st_nlink == 1) {
    return options_.hardlink ? Hardlink(change.host_path, path) : absl::StatusOr<bool>(false);
  }
  const auto [it, first] = taken_.try_emplace(std::make_pair(change.st.st_dev, change.st.st_ino),
                                              Taken{source_, change.layer, path});
  if (first)
    return options_.hardlink ? Hardlink(change.host_path, path) : absl::StatusOr<bool>(false);
  if (it->second.source != source_ || it->second.layer != change.layer) {
    it->second = Taken{source_, change.layer, path};
    return false;
  }
  // Another name of a file that is here already. A later change may have taken that away.
  absl::StatusOr<bool> linked = Hardlink(it->second.path, path);
  if (absl::IsNotFound(linked.status())) {
    it->second.path = path;
    return false;
  }
  return linked;
}

absl::Status TreeApplier::Delete(const Change& change, const std::string& path) {
  KILN_ASSIGN_OR_RETURN(const std::optional<struct stat> old, LstatIfThere(path));
  if (old.has_value()) KILN_RETURN_IF_ERROR(RemoveEntry(path, *old));
  if (options_.keep_all_whiteouts) return MakeWhiteout(path);
  KILN_ASSIGN_OR_RETURN(const bool shows, ShowsThrough(change.path));
  return shows ? MakeWhiteout(path) : absl::OkStatus();
}

absl::Status TreeApplier::Finish() {
  for (const auto& [tree_path, st] : directories_) {
    const std::string path = tree_path == "/" ? target_ : target_ + tree_path;
    KILN_ASSIGN_OR_RETURN(const std::optional<struct stat> now, LstatIfThere(path));
    // A later change may have removed it.
    if (now.has_value() && S_ISDIR(now->st_mode)) KILN_RETURN_IF_ERROR(CopyTimes(st, path));
  }
  return absl::OkStatus();
}

}  // namespace kiln::store
