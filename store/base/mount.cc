#include "store/base/mount.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln {
namespace {

// Directories are never renamed across layers and inodes need no index: a layer must stay readable
// without a mount. Kernel defaults may differ, so they are spelt out.
constexpr struct {
  const char* key;
  const char* value;
} kFixedOptions[] = {{"redirect_dir", "nofollow"}, {"index", "off"}, {"metacopy", "off"}};

// The kernel explains a refused option on the file system context's own log.
std::string ContextLog(int context) {
  char buffer[512];
  std::string out;
  for (;;) {
    const ssize_t n = ::read(context, buffer, sizeof buffer);
    if (n <= 0) return out;
    absl::string_view line(buffer, static_cast<size_t>(n));
    if (absl::StartsWith(line, "e "))
      absl::StrAppend(&out, out.empty() ? "" : "; ", line.substr(2));
    while (!out.empty() && out.back() == '\n') out.pop_back();
  }
}

absl::Status ContextError(int error, int context, absl::string_view doing) {
  const std::string log = ContextLog(context);
  return ErrnoStatus(error, log.empty() ? std::string(doing) : absl::StrCat(doing, " (", log, ")"));
}

absl::Status SetString(int context, const char* key, const std::string& value) {
  if (::fsconfig(context, FSCONFIG_SET_STRING, key, value.c_str(), 0) == 0) return absl::OkStatus();
  return ContextError(errno, context, absl::StrCat("overlay option ", key, "=", value));
}

absl::StatusOr<Fd> OpenContext(const char* file_system) {
  Fd context(::fsopen(file_system, FSOPEN_CLOEXEC));
  if (!context.valid()) return ErrnoStatus(errno, absl::StrCat("fsopen ", file_system));
  return context;
}

absl::Status AppendingOverlayMount(const OverlayOptions& options, const std::string& target) {
  KILN_ASSIGN_OR_RETURN(Fd context, OpenContext("overlay"));
  for (const auto& fixed : kFixedOptions)
    KILN_RETURN_IF_ERROR(SetString(context.get(), fixed.key, fixed.value));
  for (auto it = options.lower.rbegin(); it != options.lower.rend(); ++it)
    KILN_RETURN_IF_ERROR(SetString(context.get(), "lowerdir+", *it));
  if (!options.upper.empty()) {
    KILN_RETURN_IF_ERROR(SetString(context.get(), "upperdir", options.upper));
    KILN_RETURN_IF_ERROR(SetString(context.get(), "workdir", options.work));
    if (options.without_sync &&
        ::fsconfig(context.get(), FSCONFIG_SET_FLAG, "volatile", nullptr, 0) != 0)
      return ContextError(errno, context.get(), "overlay option volatile");
  }
  if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
    return ContextError(errno, context.get(), absl::StrCat("mount overlay on ", target));
  Fd mount(
      ::fsmount(context.get(), FSMOUNT_CLOEXEC, options.upper.empty() ? MOUNT_ATTR_RDONLY : 0));
  if (!mount.valid())
    return ContextError(errno, context.get(), absl::StrCat("fsmount overlay on ", target));
  if (::move_mount(mount.get(), "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0)
    return ErrnoStatus(errno, absl::StrCat("move overlay mount to ", target));
  return absl::OkStatus();
}

// A comma or colon in a path would end an option of mount(2), a backslash escapes it.
std::string EscapeOption(absl::string_view path) {
  std::string out;
  for (const char c : path) {
    if (c == '\\' || c == ',' || c == ':') out.push_back('\\');
    out.push_back(c);
  }
  return out;
}

// The longest directory that all paths share, with its slash.
std::string CommonParent(const std::vector<std::string>& paths) {
  std::string common = paths.empty() ? "" : paths.front();
  for (const std::string& path : paths) {
    size_t n = 0;
    while (n < common.size() && n < path.size() && common[n] == path[n]) ++n;
    common.resize(n);
  }
  common.resize(common.rfind('/') + 1);  // npos + 1 is 0
  return common;
}

std::string ClassicOptions(const OverlayOptions& options, const std::string& common) {
  auto relative = [&](absl::string_view path) {
    path.remove_prefix(common.size());
    return EscapeOption(path);
  };
  std::string out;
  for (const auto& fixed : kFixedOptions) absl::StrAppend(&out, fixed.key, "=", fixed.value, ",");
  absl::StrAppend(&out, "lowerdir=");
  for (auto it = options.lower.rbegin(); it != options.lower.rend(); ++it)
    absl::StrAppend(&out, it == options.lower.rbegin() ? "" : ":", relative(*it));
  if (!options.upper.empty()) {
    absl::StrAppend(&out, ",upperdir=", relative(options.upper),
                    ",workdir=", relative(options.work));
    if (options.without_sync) absl::StrAppend(&out, ",volatile");
  }
  return out;
}

std::string CommonParentOf(const OverlayOptions& options) {
  std::vector<std::string> paths = options.lower;
  if (!options.upper.empty()) {
    paths.push_back(options.upper);
    paths.push_back(options.work);
  }
  return CommonParent(paths);
}

// mountinfo writes space, tab, newline and backslash as three octal digits.
std::string UnescapeMountinfo(absl::string_view field) {
  std::string out;
  for (size_t i = 0; i < field.size(); ++i) {
    if (field[i] == '\\' && i + 3 < field.size()) {
      out.push_back(static_cast<char>((field[i + 1] - '0') * 64 + (field[i + 2] - '0') * 8 +
                                      (field[i + 3] - '0')));
      i += 3;
    } else {
      out.push_back(field[i]);
    }
  }
  return out;
}

bool IsAtOrBelow(absl::string_view path, absl::string_view root) {
  return path == root ||
         (absl::StartsWith(path, root) && (root.back() == '/' || path[root.size()] == '/'));
}

}  // namespace

namespace internal {

absl::StatusOr<std::string> ClassicOverlayMount(const OverlayOptions& options,
                                                const std::string& target) {
  const std::string common = CommonParentOf(options);
  const std::string data = ClassicOptions(options, common);
  if (!FitsClassicMount(options))
    return absl::InvalidArgumentError(absl::StrCat("mount overlay on ", target, ": ",
                                                   options.lower.size(),
                                                   " lower directories do not fit into a page"));
  int error = 0;
  // Only a thread with a working directory of its own may change it.
  std::thread mounter([&] {
    if (::unshare(CLONE_FS) != 0 || (!common.empty() && ::chdir(common.c_str()) != 0) ||
        ::mount("overlay", target.c_str(), "overlay", options.upper.empty() ? MS_RDONLY : 0,
                data.c_str()) != 0)
      error = errno;
  });
  mounter.join();
  if (error != 0) return ErrnoStatus(error, absl::StrCat("mount overlay on ", target));
  return target;
}

}  // namespace internal

bool KernelAppendsLowers() {
  static const bool supported = [] {
    Fd context(::fsopen("overlay", FSOPEN_CLOEXEC));
    // A parser that does not know the key says EINVAL; a known one is taken without a look-up of
    // the path only by kernels that check later, so an existing directory is given.
    return context.valid() &&
           ::fsconfig(context.get(), FSCONFIG_SET_STRING, "lowerdir+", "/", 0) == 0;
  }();
  return supported;
}

bool FitsClassicMount(const OverlayOptions& options) {
  return ClassicOptions(options, CommonParentOf(options)).size() <
         static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

Mount& Mount::operator=(Mount&& other) noexcept {
  if (this != &other) {
    Mount old(std::exchange(target_, std::exchange(other.target_, {})));
  }
  return *this;
}

Mount::~Mount() {
  // A busy mount must not outlive its owner in the tree.
  if (!Close().ok()) {
    if (absl::Status status = Detach(); !status.ok())
      std::fprintf(stderr, "leaked a mount: %s\n", status.ToString().c_str());
  }
}

absl::StatusOr<Mount> Mount::Bind(const std::string& source, std::string target,
                                  const BindOptions& options) {
  const std::string doing = absl::StrCat("bind ", source, " on ", target);
  const unsigned recursive = options.recursive ? AT_RECURSIVE : 0;
  Fd tree(::open_tree(AT_FDCWD, source.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | recursive));
  if (!tree.valid()) return ErrnoStatus(errno, doing);
  if (options.read_only) {
    mount_attr attributes = {};
    attributes.attr_set = MOUNT_ATTR_RDONLY;
    if (::mount_setattr(tree.get(), "", AT_EMPTY_PATH | recursive, &attributes,
                        sizeof attributes) != 0)
      return ErrnoStatus(errno, absl::StrCat(doing, ": read-only"));
  }
  if (::move_mount(tree.get(), "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0)
    return ErrnoStatus(errno, doing);
  return Mount(std::move(target));
}

absl::StatusOr<Mount> Mount::Overlay(const OverlayOptions& options, std::string target) {
  if (KernelAppendsLowers())
    KILN_RETURN_IF_ERROR(AppendingOverlayMount(options, target));
  else
    KILN_RETURN_IF_ERROR(internal::ClassicOverlayMount(options, target).status());
  return Mount(std::move(target));
}

absl::StatusOr<Mount> Mount::Tmpfs(std::string target, absl::string_view options) {
  if (::mount("tmpfs", target.c_str(), "tmpfs", MS_NOSUID | MS_NODEV,
              std::string(options).c_str()) != 0)
    return ErrnoStatus(errno, absl::StrCat("mount tmpfs on ", target));
  return Mount(std::move(target));
}

absl::Status Mount::Close() {
  if (target_.empty()) return absl::OkStatus();
  // A process that another thread is starting holds copies of our descriptors until its exec, also
  // of those below this mount: busy is final only when it stays so.
  constexpr int kTries = 100;
  for (int tries = 1; ::umount2(target_.c_str(), UMOUNT_NOFOLLOW) != 0; ++tries) {
    const int error = errno;
    if (error != EBUSY || tries == kTries)
      return ErrnoStatus(error, absl::StrCat("unmount ", target_));
    ::usleep(2000);
  }
  target_.clear();
  return absl::OkStatus();
}

absl::Status Mount::Detach() {
  if (target_.empty()) return absl::OkStatus();
  if (::umount2(target_.c_str(), UMOUNT_NOFOLLOW | MNT_DETACH) != 0)
    return ErrnoStatus(errno, absl::StrCat("detach ", target_));
  target_.clear();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> MountsBelow(absl::string_view root) {
  KILN_ASSIGN_OR_RETURN(std::string text, ReadFileToString("/proc/self/mountinfo"));
  std::vector<std::string> found;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ' ');
    if (fields.size() < 5) continue;
    std::string path = UnescapeMountinfo(fields[4]);
    if (IsAtOrBelow(path, root)) found.push_back(std::move(path));
  }
  std::reverse(found.begin(), found.end());  // later mounts cover earlier ones
  return found;
}

absl::Status DetachMountsBelow(absl::string_view root) {
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> mounts, MountsBelow(root));
  absl::Status status;
  for (const std::string& path : mounts) {
    // EINVAL: it went with one that it was mounted on.
    if (::umount2(path.c_str(), UMOUNT_NOFOLLOW | MNT_DETACH) != 0 && errno != EINVAL &&
        status.ok())
      status = ErrnoStatus(errno, absl::StrCat("detach ", path));
  }
  return status;
}

}  // namespace kiln
