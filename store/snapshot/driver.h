#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/base/mount.h"
#include "store/tree.h"

namespace kiln::store {

// A tree that can be seen at `path`. `mount` owns nothing where no mount was needed.
struct TreeMount {
  std::string path;
  Mount mount;
};

// SnapshotDriver keeps file trees as numbered folders below one directory. It knows no records and
// does no counting; RefStore does.
//
// overlay: folder N holds what N changes against its parents, in overlayfs form; a tree is a stack.
// native:  folder N holds the whole tree, copied from its parent.
//
// Thread-safe for different numbers; calls for one number must not overlap. Blocks on disk.
class SnapshotDriver {
 public:
  explicit SnapshotDriver(std::string root) : root_(std::move(root)) {}
  virtual ~SnapshotDriver() = default;

  virtual absl::string_view name() const = 0;
  // True: a tree is a list of layers. False: it is exactly one directory.
  virtual bool stacks() const = 0;
  // The most layers a tree may have and still be mounted with one more on top.
  virtual size_t max_layers() const = 0;

  const std::string& root() const { return root_; }
  std::string Folder(uint64_t number) const;
  std::string FilesDir(uint64_t number) const;
  absl::StatusOr<bool> Exists(uint64_t number) const;

  // Makes folder `number`, to be changed as a child of `parent`. The root directory gets the
  // parent's metadata (0755 root without one). kAlreadyExists when the folder is there; on any
  // other error nothing is left. overlay: O(1); native: O(size of the parent).
  virtual absl::Status Create(uint64_t number, const Layers& parent) = 0;

  // Shows `lower` with `number` on top, writable. `target` is an empty directory to mount on; it
  // stays unused when the files can be used where they are.
  virtual absl::StatusOr<TreeMount> MountWritable(const Layers& lower, uint64_t number,
                                                  const std::string& target) = 0;
  // Shows `layers` read-only.
  virtual absl::StatusOr<TreeMount> MountReadOnly(const Layers& layers,
                                                  const std::string& target) = 0;

  // Removes the folder; OK when absent. O(entries).
  absl::Status Remove(uint64_t number);

 protected:
  // The folder with an empty root directory.
  absl::Status CreateFolder(uint64_t number, const Layers& parent);

 private:
  const std::string root_;
};

enum class DriverKind { kAuto, kOverlay, kNative };

// kAuto tries a real overlay mount below `scratch` and takes the native driver when the kernel, the
// file system or missing privileges refuse it.
// kFailedPrecondition: overlay was asked for and does not work here; the message says why.
absl::StatusOr<std::unique_ptr<SnapshotDriver>> OpenSnapshotDriver(DriverKind kind,
                                                                   const std::string& root,
                                                                   const std::string& scratch);

// Removes a directory tree, also one whose owner left directories without permissions. OK when
// absent. Never crosses into what a symlink points at.
absl::Status RemoveTree(const std::string& path);

}  // namespace kiln::store
