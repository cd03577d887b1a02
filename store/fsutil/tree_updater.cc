#include "store/fsutil/tree_updater.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"
#include "store/fsutil/listing_validator.h"

namespace kiln::fsutil {

absl::Status TreeUpdater::Open() {
  if (options_.existing_root.empty()) return absl::OkStatus();
  KILN_ASSIGN_OR_RETURN(cursor_, DirectoryCursor::Open(options_.existing_root));
  return absl::OkStatus();
}

absl::Status TreeUpdater::Advance() {
  fresh_ = true;
  if (!old_.has_value()) old_.emplace();
  for (;;) {
    KILN_ASSIGN_OR_RETURN(const bool more, cursor_->Next());
    if (!more) {
      old_.reset();
      return absl::OkStatus();
    }
    KILN_ASSIGN_OR_RETURN(const bool loaded, cursor_->Load(&*old_));
    if (loaded) return absl::OkStatus();
  }
}

absl::StatusOr<bool> TreeUpdater::CatchUp(const std::string& path) {
  if (cursor_ == nullptr) return false;
  // Stepping is lazy: a directory is listed only when the announcement has got past it.
  if (!fresh_) KILN_RETURN_IF_ERROR(Advance());
  while (old_.has_value()) {
    const int order = ComparePath(old_->path, path);
    if (order == 0) return true;
    if (order > 0) return false;
    KILN_RETURN_IF_ERROR(Remove(old_->path));
    cursor_->SkipChildren();
    KILN_RETURN_IF_ERROR(Advance());
  }
  return false;
}

bool TreeUpdater::Same(const Stat& now) const {
  if (options_.differ == ReceiveOptions::Differ::kNone && IsRegular(now.mode)) return false;
  if (!IsDir(now.mode) && (old_->size != now.size || old_->mod_time_ns != now.mod_time_ns))
    return false;
  return old_->mode == now.mode && old_->uid == now.uid && old_->gid == now.gid &&
         old_->devmajor == now.devmajor && old_->devminor == now.devminor &&
         old_->linkname == now.linkname;
}

absl::StatusOr<bool> TreeUpdater::Entry(Stat* stat) {
  if ((stat->mode & kModeDevice) != 0 && !target_.AllowsDevices())
    return absl::InvalidArgumentError(
        absl::StrCat("device node is not allowed: \"", absl::Utf8SafeCHexEscape(stat->path), "\""));
  if ((stat->mode & (kModeIrregular | kModeSocket)) != 0)
    return absl::InvalidArgumentError(
        absl::StrCat("file of unknown type: \"", absl::Utf8SafeCHexEscape(stat->path), "\""));
  if (options_.map) options_.map(stat);
  KILN_ASSIGN_OR_RETURN(const bool exists, CatchUp(stat->path));
  if (!exists) return Make(*stat);
  fresh_ = false;
  bool same = Same(*stat);
  if (IsHardlink(*stat) && replaced_.contains(stat->linkname)) same = false;
  if (IsDir(old_->mode) != IsDir(stat->mode)) {
    cursor_->SkipChildren();
    KILN_RETURN_IF_ERROR(Remove(stat->path));
  }
  if (!same) {
    if (IsRegular(stat->mode)) replaced_.insert(stat->path);
    return Make(*stat);
  }
  if (IsDir(stat->mode)) {
    directory_index_.emplace(stat->path, directories_.size());
    directories_.push_back(Directory{*stat, old_->mod_time_ns != stat->mod_time_ns});
  }
  return false;
}

absl::StatusOr<bool> TreeUpdater::Make(const Stat& stat) {
  Touch(stat.path);
  if (IsDir(stat.mode)) {
    if (cursor_ != nullptr) directory_index_.emplace(stat.path, directories_.size());
    directories_.push_back(Directory{stat, true});
    KILN_RETURN_IF_ERROR(target_.MakeDir(stat));
    return false;
  }
  if (IsSymlink(stat.mode)) {
    KILN_RETURN_IF_ERROR(target_.MakeSymlink(stat));
    return false;
  }
  if (!stat.linkname.empty()) {
    links_.push_back(stat);
    return false;
  }
  if (IsRegular(stat.mode)) return true;
  KILN_RETURN_IF_ERROR(target_.MakeNode(stat));
  return false;
}

absl::Status TreeUpdater::Remove(const std::string& path) {
  Touch(path);
  return target_.Remove(path);
}

void TreeUpdater::Touch(const std::string& path) {
  if (directory_index_.empty()) return;
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return;
  auto it = directory_index_.find(absl::string_view(path).substr(0, slash));
  if (it != directory_index_.end()) directories_[it->second].dirty = true;
}

absl::Status TreeUpdater::EndListing() {
  if (cursor_ == nullptr) return absl::OkStatus();
  if (!fresh_) KILN_RETURN_IF_ERROR(Advance());
  while (old_.has_value()) {
    KILN_RETURN_IF_ERROR(Remove(old_->path));
    cursor_->SkipChildren();
    KILN_RETURN_IF_ERROR(Advance());
  }
  return absl::OkStatus();
}

absl::Status TreeUpdater::Finish() {
  KILN_RETURN_IF_ERROR(target_.Flush());
  for (const Stat& link : links_) KILN_RETURN_IF_ERROR(target_.MakeHardlink(link));
  for (auto it = directories_.rbegin(); it != directories_.rend(); ++it) {
    if (it->dirty) KILN_RETURN_IF_ERROR(target_.FinishDir(it->stat));
  }
  return absl::OkStatus();
}

}  // namespace kiln::fsutil
