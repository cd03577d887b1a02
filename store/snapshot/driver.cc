#include "store/snapshot/driver.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"
#include "store/snapshot/copy_entry.h"
#include "store/snapshot/native.h"
#include "store/snapshot/overlay.h"

namespace kiln::store {
namespace {

namespace fs = std::filesystem;

// Gives every directory below `path` to us; for removal only.
void OpenUpDirectories(const std::string& path) {
  std::error_code ignored;  // what stays closed is reported by the removal that follows
  ::chmod(path.c_str(), 0700);
  for (fs::recursive_directory_iterator it(path, ignored), end; it != end; it.increment(ignored)) {
    if (ignored) return;
    if (it->is_directory(ignored) && !it->is_symlink(ignored)) ::chmod(it->path().c_str(), 0700);
  }
}

absl::Status ProbeOverlay(const std::string& scratch) {
  const std::string base = scratch + "/overlay-probe";
  KILN_RETURN_IF_ERROR(RemoveTree(base));
  absl::Status status = [&]() -> absl::Status {
    for (const char* name : {"", "/lower", "/upper", "/work", "/merged"}) {
      if (::mkdir((base + name).c_str(), 0700) != 0)
        return ErrnoStatus(errno, absl::StrCat("create ", base, name));
    }
    OverlayOptions options{.lower = {base + "/lower"},
                           .upper = base + "/upper",
                           .work = base + "/work",
                           .without_sync = true};
    KILN_ASSIGN_OR_RETURN(Mount mount, Mount::Overlay(options, base + "/merged"));
    // Whiteouts and opaque marks are written without a mount as well.
    if (::mknod((base + "/upper/whiteout").c_str(), S_IFCHR, 0) != 0)
      return ErrnoStatus(errno, "make a whiteout");
    KILN_RETURN_IF_ERROR(SetOpaque(base + "/upper"));
    return mount.Close();
  }();
  KILN_RETURN_IF_ERROR(RemoveTree(base));
  return status;
}

}  // namespace

std::string SnapshotDriver::Folder(uint64_t number) const {
  return absl::StrCat(root_, "/", number);
}

std::string SnapshotDriver::FilesDir(uint64_t number) const {
  return absl::StrCat(root_, "/", number, "/fs");
}

absl::StatusOr<bool> SnapshotDriver::Exists(uint64_t number) const {
  if (::access(FilesDir(number).c_str(), F_OK) == 0) return true;
  if (errno == ENOENT) return false;
  return ErrnoStatus(errno, absl::StrCat("look for ", FilesDir(number)));
}

absl::Status SnapshotDriver::CreateFolder(uint64_t number, const Layers& parent) {
  const std::string folder = Folder(number), files = FilesDir(number);
  if (::mkdir(folder.c_str(), 0711) != 0)
    return ErrnoStatus(errno, absl::StrCat("create ", folder));
  absl::Status status = [&]() -> absl::Status {
    if (::mkdir(files.c_str(), 0755) != 0)
      return ErrnoStatus(errno, absl::StrCat("create ", files));
    if (!parent.empty()) {
      struct stat st = {};
      if (::stat(parent.back().c_str(), &st) != 0)
        return ErrnoStatus(errno, absl::StrCat("stat ", parent.back()));
      KILN_RETURN_IF_ERROR(CopyMetadata(parent.back(), st, files));
      return CopyTimes(st, files);
    }
    // The umask must not show in a tree.
    if (::chmod(files.c_str(), 0755) != 0) return ErrnoStatus(errno, absl::StrCat("chmod ", files));
    return absl::OkStatus();
  }();
  if (!status.ok()) RemoveTree(folder).IgnoreError();  // the first error is what matters
  return status;
}

absl::Status SnapshotDriver::Remove(uint64_t number) { return RemoveTree(Folder(number)); }

absl::Status RemoveTree(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error == std::errc::permission_denied) {
    OpenUpDirectories(path);
    fs::remove_all(path, error);
  }
  if (error && error != std::errc::no_such_file_or_directory)
    return ErrnoStatus(error.value(), absl::StrCat("remove ", path));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<SnapshotDriver>> OpenSnapshotDriver(DriverKind kind,
                                                                   const std::string& root,
                                                                   const std::string& scratch) {
  if (kind != DriverKind::kNative) {
    const absl::Status probe = ProbeOverlay(scratch);
    if (probe.ok()) return std::make_unique<OverlayDriver>(root);
    // A full disk says nothing about overlayfs, and the choice is for good.
    if (absl::IsResourceExhausted(probe)) return probe;
    if (kind == DriverKind::kOverlay)
      return absl::FailedPreconditionError(absl::StrCat(
          "overlay snapshots do not work below ", root,
          " (run as root on ext4 or xfs, or choose the native driver): ", probe.message()));
  }
  return std::make_unique<NativeDriver>(root);
}

}  // namespace kiln::store
