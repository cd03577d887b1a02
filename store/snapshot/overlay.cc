#include "store/snapshot/overlay.h"

#include <sys/stat.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::store {
namespace {

// Some room below the kernel's limit for whoever stacks more on top (build mounts).
constexpr size_t kLayersByAppending = kMaxOverlayLowers - 20;
// One page of options holds this many numbers of ten digits.
constexpr size_t kLayersByClassicMount = 250;

}  // namespace

OverlayDriver::OverlayDriver(std::string root)
    : SnapshotDriver(std::move(root)),
      max_layers_(KernelAppendsLowers() ? kLayersByAppending : kLayersByClassicMount) {}

absl::Status OverlayDriver::Create(uint64_t number, const Layers& parent) {
  return CreateFolder(number, parent);
}

absl::StatusOr<TreeMount> OverlayDriver::MountWritable(const Layers& lower, uint64_t number,
                                                       const std::string& target) {
  // Nothing below: the upper directory is the tree, and no whiteout can arise in it.
  if (lower.empty()) return TreeMount{FilesDir(number), Mount()};
  const std::string work = Folder(number) + "/work";
  // The mark that a volatile mount leaves in the work directory would refuse this one.
  KILN_RETURN_IF_ERROR(RemoveTree(work));
  if (::mkdir(work.c_str(), 0700) != 0) return ErrnoStatus(errno, absl::StrCat("create ", work));
  // Without sync: fsync and unmount would flush the whole file system for each step. Durability
  // comes from the store's barrier (DESIGN.md, Crash rule).
  OverlayOptions options{
      .lower = lower, .upper = FilesDir(number), .work = work, .without_sync = true};
  KILN_ASSIGN_OR_RETURN(Mount mount, Mount::Overlay(options, target));
  return TreeMount{target, std::move(mount)};
}

absl::StatusOr<TreeMount> OverlayDriver::MountReadOnly(const Layers& layers,
                                                       const std::string& target) {
  // overlayfs wants two lower directories when there is no upper one.
  if (layers.size() < 2) {
    KILN_ASSIGN_OR_RETURN(Mount mount, Mount::Bind(layers.empty() ? target : layers.front(), target,
                                                   {.read_only = true}));
    return TreeMount{target, std::move(mount)};
  }
  KILN_ASSIGN_OR_RETURN(Mount mount, Mount::Overlay({.lower = layers}, target));
  return TreeMount{target, std::move(mount)};
}

}  // namespace kiln::store
