#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln {

struct BindOptions {
  bool read_only = false;
  bool recursive = false;  // with the mounts below the source
};

// One overlayfs mount (overlayfs.rst).
struct OverlayOptions {
  std::vector<std::string> lower = {};  // lowest first; two at least when `upper` is empty
  std::string upper = {}, work = {};    // both empty: read-only
  // No sync of the upper file system on fsync and unmount. The work directory must be emptied
  // before the next mount ("volatile" leaves a mark there).
  bool without_sync = false;
};

// Owns one mount point; unmounts on destruction. Move-only; not thread-safe. Blocks on the kernel.
class Mount {
 public:
  Mount() = default;
  Mount(Mount&& other) noexcept : target_(std::exchange(other.target_, {})) {}
  Mount& operator=(Mount&& other) noexcept;
  ~Mount();

  // `target` must exist and be of the source's type. kPermissionDenied without CAP_SYS_ADMIN.
  static absl::StatusOr<Mount> Bind(const std::string& source, std::string target,
                                    const BindOptions& options);

  // Uses the new mount API, where every lower directory is an argument of its own, so that 500
  // layers fit. Kernels before 6.7 get mount(2), whose options must fit into one page: paths
  // are then given relative to their common parent. kInvalidArgument when even that is too long.
  static absl::StatusOr<Mount> Overlay(const OverlayOptions& options, std::string target);

  static absl::StatusOr<Mount> Tmpfs(std::string target, absl::string_view options);

  const std::string& target() const { return target_; }

  // Unmounts now, where the caller can still react. Idempotent. kFailedPrecondition when busy.
  absl::Status Close();
  // Takes the mount out of the tree at once; the kernel ends it with its last user. Idempotent.
  absl::Status Detach();
  // Gives the mount point up without unmounting.
  std::string Release() { return std::exchange(target_, {}); }

 private:
  explicit Mount(std::string target) : target_(std::move(target)) {}
  std::string target_;  // empty means nothing is owned
};

// Lower directories that one overlay mount takes, as far as the kernel's own limit goes.
inline constexpr size_t kMaxOverlayLowers = 500;  // OVL_MAX_STACK

// True when the running kernel takes lower directories one by one.
bool KernelAppendsLowers();

// True when mount(2) can take these options; the limit that counts without KernelAppendsLowers.
bool FitsClassicMount(const OverlayOptions& options);

// Mount points at or below `root`, deepest first, as /proc/self/mountinfo has them.
absl::StatusOr<std::vector<std::string>> MountsBelow(absl::string_view root);

// Detaches every mount below `root`, which a killed process may have left. The error names the
// first one that stayed.
absl::Status DetachMountsBelow(absl::string_view root);

namespace internal {
// The mount(2) way, for tests on kernels that have the other one.
absl::StatusOr<std::string> ClassicOverlayMount(const OverlayOptions& options,
                                                const std::string& target);
}  // namespace internal

}  // namespace kiln
