#include "store/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>

#include "absl/cleanup/cleanup.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "store/base/status_macros.h"

namespace kiln::store {

namespace {

constexpr int kMaxLinks = 255;

absl::Status NotFound(absl::string_view path) {
  return absl::NotFoundError(absl::StrCat(path, ": no such file or directory"));
}
absl::Status NotADirectory(absl::string_view path) {
  return absl::FailedPreconditionError(absl::StrCat(path, ": not a directory"));
}

bool IsWhiteout(const struct stat& st) { return S_ISCHR(st.st_mode) && st.st_rdev == 0; }

// overlayfs.rst, whiteouts and opaque directories. The user.* form is that of unprivileged mounts.
bool IsOpaque(const std::string& host_path) {
  char value = 0;
  for (const char* name : {"trusted.overlay.opaque", "user.overlay.opaque"}) {
    if (::lgetxattr(host_path.c_str(), name, &value, 1) == 1 && value == 'y') return true;
  }
  return false;
}

uint32_t TypeFromDirent(unsigned char d_type) { return static_cast<uint32_t>(DTTOIF(d_type)); }

// Opens `path` below `root` without crossing a symlink.
absl::StatusOr<Fd> OpenBeneath(const std::string& root, absl::string_view path, int flags) {
  KILN_ASSIGN_OR_RETURN(Fd root_fd, OpenFile(root, O_PATH | O_DIRECTORY));
  struct open_how how = {};
  how.flags = static_cast<uint64_t>(flags) | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
  const std::string relative = path == "/" ? "." : std::string(path.substr(1));
  for (;;) {
    const long fd = ::syscall(SYS_openat2, root_fd.get(), relative.c_str(), &how, sizeof how);
    if (fd >= 0) return Fd(static_cast<int>(fd));
    // EAGAIN: a rename elsewhere raced with the check; openat2(2) says to try again.
    if (errno != EINTR && errno != EAGAIN) return ErrnoStatus(errno, absl::StrCat("open ", path));
  }
}

absl::Status CheckPath(absl::string_view path) {
  if (absl::StrContains(path, '\0'))
    return absl::InvalidArgumentError("a path contains a NUL byte");
  return absl::OkStatus();
}

}  // namespace

struct TreeReader::Found {
  Entry entry;
  DirView view;  // of the child, when it is a directory
};

std::string CleanPath(absl::string_view path) {
  std::vector<absl::string_view> parts;
  for (absl::string_view part : absl::StrSplit(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      parts.push_back(part);
    } else if (!parts.empty()) {
      parts.pop_back();
    }
  }
  if (parts.empty()) return "/";
  std::string out;
  for (absl::string_view part : parts) absl::StrAppend(&out, "/", part);
  return out;
}

std::string JoinPath(absl::string_view dir, absl::string_view rel) {
  return CleanPath(absl::StrCat(dir, "/", rel));
}

std::pair<std::string, std::string> SplitPath(absl::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash == absl::string_view::npos) return {"/", std::string(path)};
  return {slash == 0 ? "/" : std::string(path.substr(0, slash)),
          std::string(path.substr(slash + 1))};
}

bool PathIsWithin(absl::string_view path, absl::string_view dir) {
  if (dir == "/" || path == dir) return true;
  return absl::StartsWith(path, dir) && path[dir.size()] == '/';
}

absl::StatusOr<std::map<std::string, std::string>> HostXattrs(const std::string& host_path) {
  std::map<std::string, std::string> out;
  std::string names(256, '\0');
  ssize_t size = 0;
  while ((size = ::llistxattr(host_path.c_str(), names.data(), names.size())) < 0) {
    if (errno == ENOTSUP || errno == EPERM) return out;
    if (errno != ERANGE) return ErrnoStatus(errno, absl::StrCat("listxattr ", host_path));
    names.resize(names.size() * 4);
  }
  names.resize(static_cast<size_t>(size));
  for (absl::string_view name : absl::StrSplit(names, '\0', absl::SkipEmpty())) {
    if (absl::StartsWith(name, "trusted.overlay.") || absl::StartsWith(name, "user.overlay."))
      continue;
    const std::string key(name);
    std::string value(256, '\0');
    ssize_t n = 0;
    while ((n = ::lgetxattr(host_path.c_str(), key.c_str(), value.data(), value.size())) < 0 &&
           errno == ERANGE) {
      value.resize(value.size() * 4);
    }
    if (n < 0) {
      if (errno == ENODATA || errno == ENOTSUP) continue;
      return ErrnoStatus(errno, absl::StrCat("getxattr ", key, " of ", host_path));
    }
    value.resize(static_cast<size_t>(n));
    out.emplace(key, std::move(value));
  }
  return out;
}

namespace {

absl::StatusOr<std::string> ReadLinkAt(int dir, const char* path, int64_t size_hint) {
  std::string target(static_cast<size_t>(std::max<int64_t>(size_hint, 63)) + 1, '\0');
  for (;;) {
    const ssize_t n = ::readlinkat(dir, path, target.data(), target.size());
    if (n < 0) return ErrnoStatus(errno, absl::StrCat("readlink ", path));
    if (static_cast<size_t>(n) < target.size()) {
      target.resize(static_cast<size_t>(n));
      return target;
    }
    target.resize(target.size() * 2);
  }
}

}  // namespace

absl::StatusOr<std::string> ReadHostLink(const std::string& host_path, int64_t size_hint) {
  return ReadLinkAt(AT_FDCWD, host_path.c_str(), size_hint);
}

TreeReader::TreeReader(Layers layers) : layers_(std::move(layers)) {}

std::string TreeReader::Host(int layer, absl::string_view path) const {
  return absl::StrCat(layers_[static_cast<size_t>(layer)], path == "/" ? "" : path);
}

DirView TreeReader::Root() const {
  DirView root{std::string(1, '/'), {}};
  for (int i = static_cast<int>(layers_.size()) - 1; i >= 0; --i) root.layers.push_back(i);
  return root;
}

absl::StatusOr<TreeReader::Found> TreeReader::LookUp(const DirView& dir,
                                                     absl::string_view name) const {
  Found found;
  found.view.path = dir.path == "/" ? absl::StrCat("/", name) : absl::StrCat(dir.path, "/", name);
  const std::string& path = found.view.path;
  for (size_t i = 0; i < dir.layers.size(); ++i) {
    const int layer = dir.layers[i];
    const std::string host = Host(layer, path);
    struct stat st;
    if (::fstatat(AT_FDCWD, host.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;
      return ErrnoStatus(errno, absl::StrCat("stat ", path));
    }
    const bool first = found.view.layers.empty();
    if (IsWhiteout(st) || (!first && !S_ISDIR(st.st_mode))) break;
    if (first) {
      found.entry.name = std::string(name);
      found.entry.st = st;
      found.entry.layer = layer;
      if (S_ISLNK(st.st_mode)) {
        KILN_ASSIGN_OR_RETURN(found.entry.link, ReadHostLink(host, st.st_size));
      }
    }
    if (!S_ISDIR(st.st_mode)) break;
    found.view.layers.push_back(layer);
    if (i + 1 < dir.layers.size() && IsOpaque(host)) break;
  }
  if (found.entry.layer < 0) return NotFound(path);
  return found;
}

absl::StatusOr<TreeReader::Found> TreeReader::LookUpPath(absl::string_view path) const {
  KILN_RETURN_IF_ERROR(CheckPath(path));
  Found found;
  found.view = Root();
  if (path == "/") {
    if (layers_.empty()) {
      found.entry.st.st_mode = S_IFDIR | 0755;
      return found;
    }
    found.entry.layer = static_cast<int>(layers_.size()) - 1;
    if (::lstat(layers_.back().c_str(), &found.entry.st) != 0)
      return ErrnoStatus(errno, "stat the root of a layer");
    return found;
  }
  found.entry.st.st_mode = S_IFDIR;
  for (absl::string_view name : absl::StrSplit(path.substr(1), '/')) {
    if (!S_ISDIR(found.entry.st.st_mode)) return NotFound(path);
    auto next = LookUp(found.view, name);
    if (absl::IsNotFound(next.status())) return NotFound(path);
    KILN_RETURN_IF_ERROR(next.status());
    found = *std::move(next);
  }
  return found;
}

absl::StatusOr<Entry> TreeReader::Lstat(absl::string_view path) const {
  KILN_ASSIGN_OR_RETURN(Found found, LookUpPath(path));
  return std::move(found.entry);
}

absl::StatusOr<DirView> TreeReader::OpenDir(absl::string_view path) const {
  if (path == "/") return Root();
  KILN_ASSIGN_OR_RETURN(Found found, LookUpPath(path));
  if (!S_ISDIR(found.entry.st.st_mode)) return NotADirectory(path);
  return std::move(found.view);
}

absl::StatusOr<DirView> TreeReader::OpenChild(const DirView& dir, absl::string_view name) const {
  KILN_ASSIGN_OR_RETURN(Found found, LookUp(dir, name));
  if (!S_ISDIR(found.entry.st.st_mode)) return NotADirectory(found.view.path);
  return std::move(found.view);
}

absl::StatusOr<Entry> TreeReader::Child(const DirView& dir, absl::string_view name) const {
  KILN_ASSIGN_OR_RETURN(Found found, LookUp(dir, name));
  return std::move(found.entry);
}

absl::Status TreeReader::ForEachChild(const DirView& dir, ChildVisit visit) const {
  // Names settled by a higher layer, whiteouts among them. Needed only when layers are merged.
  absl::flat_hash_set<std::string> settled;
  const bool merged = dir.layers.size() > 1;
  for (const int layer : dir.layers) {
    const std::string host = Host(layer, dir.path);
    DIR* stream = ::opendir(host.c_str());
    if (stream == nullptr) return ErrnoStatus(errno, absl::StrCat("open ", dir.path));
    const absl::Cleanup close = [stream] { ::closedir(stream); };
    errno = 0;
    while (const struct dirent* item = ::readdir(stream)) {
      const absl::string_view name(item->d_name);
      if (name == "." || name == "..") continue;
      uint32_t type = TypeFromDirent(item->d_type);
      bool hidden = false;
      if (item->d_type == DT_UNKNOWN || item->d_type == DT_CHR) {
        struct stat st;
        if (::fstatat(::dirfd(stream), item->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
          return ErrnoStatus(errno, absl::StrCat("stat ", dir.path, "/", name));
        type = st.st_mode & S_IFMT;
        hidden = IsWhiteout(st);
      }
      if (merged && !settled.emplace(name).second) continue;
      if (!hidden) KILN_RETURN_IF_ERROR(visit(::dirfd(stream), item->d_name, layer, type));
      errno = 0;
    }
    if (errno != 0) return ErrnoStatus(errno, absl::StrCat("read ", dir.path));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<NamedChild>> TreeReader::Names(const DirView& dir) const {
  std::vector<NamedChild> out;
  KILN_RETURN_IF_ERROR(
      ForEachChild(dir, [&](int /*fd*/, const char* name, int layer, uint32_t type) {
        out.push_back({name, layer, type});
        return absl::OkStatus();
      }));
  std::sort(out.begin(), out.end(),
            [](const NamedChild& a, const NamedChild& b) { return a.name < b.name; });
  return out;
}

absl::StatusOr<std::vector<Entry>> TreeReader::Entries(const DirView& dir) const {
  std::vector<Entry> out;
  KILN_RETURN_IF_ERROR(ForEachChild(
      dir, [&](int fd, const char* name, int layer, uint32_t /*type*/) -> absl::Status {
        Entry& entry = out.emplace_back();
        entry.name = name;
        entry.layer = layer;
        if (::fstatat(fd, name, &entry.st, AT_SYMLINK_NOFOLLOW) != 0)
          return ErrnoStatus(errno, absl::StrCat("stat ", dir.path, "/", name));
        if (!S_ISLNK(entry.st.st_mode)) return absl::OkStatus();
        KILN_ASSIGN_OR_RETURN(entry.link,
                              Annotate(ReadLinkAt(fd, name, entry.st.st_size), dir.path));
        return absl::OkStatus();
      }));
  std::sort(out.begin(), out.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
  return out;
}

absl::StatusOr<std::vector<Entry>> TreeReader::List(absl::string_view path) const {
  KILN_ASSIGN_OR_RETURN(const DirView dir, OpenDir(path));
  return Entries(dir);
}

absl::StatusOr<Fd> TreeReader::Open(absl::string_view path) const {
  KILN_ASSIGN_OR_RETURN(const Entry entry, Lstat(path));
  if (!S_ISREG(entry.st.st_mode))
    return absl::FailedPreconditionError(absl::StrCat(path, ": not a regular file"));
  return OpenBeneath(layers_[static_cast<size_t>(entry.layer)], path, O_RDONLY | O_NOFOLLOW);
}

std::string TreeReader::HostPath(const Entry& entry, absl::string_view path) const {
  return entry.layer < 0 ? std::string() : Host(entry.layer, path);
}

absl::StatusOr<std::map<std::string, std::string>> TreeReader::Xattrs(
    const Entry& entry, absl::string_view path) const {
  if (entry.layer < 0) return std::map<std::string, std::string>();
  return HostXattrs(Host(entry.layer, path));
}

namespace {

// The way down to the place reached so far, so that ".." costs nothing.
struct ResolveState {
  std::vector<DirView> dirs;
  std::deque<std::string> todo;  // components still to go

  const std::string& here() const { return dirs.back().path; }
  void Prepend(absl::string_view path) {
    std::vector<std::string> parts = absl::StrSplit(path, '/', absl::SkipEmpty());
    todo.insert(todo.begin(), parts.begin(), parts.end());
  }
  std::string Rest() const {
    std::string out = here();
    for (const std::string& part : todo) out = JoinPath(out, part);
    return out;
  }
};

}  // namespace

absl::StatusOr<std::string> TreeReader::Resolve(absl::string_view path, bool follow,
                                                bool allow_missing_last) const {
  return ResolveWith(path, follow, allow_missing_last ? Missing::kLast : Missing::kRefuse);
}

absl::StatusOr<std::string> TreeReader::ResolveMissing(absl::string_view path) const {
  return ResolveWith(path, true, Missing::kAny);
}

absl::StatusOr<std::string> TreeReader::ResolveWith(absl::string_view path, bool follow,
                                                    Missing missing) const {
  KILN_RETURN_IF_ERROR(CheckPath(path));
  ResolveState state;
  state.dirs.push_back(Root());
  state.Prepend(CleanPath(path));
  int links = 0;
  while (!state.todo.empty()) {
    const std::string part = state.todo.front();
    state.todo.pop_front();
    if (part == ".") continue;
    if (part == "..") {
      if (state.dirs.size() > 1) state.dirs.pop_back();
      continue;
    }
    const bool last = state.todo.empty();
    auto found = LookUp(state.dirs.back(), part);
    if (absl::IsNotFound(found.status())) {
      state.todo.push_front(part);
      if (missing == Missing::kAny || (missing == Missing::kLast && last)) return state.Rest();
      return NotFound(CleanPath(path));
    }
    KILN_RETURN_IF_ERROR(found.status());
    if (S_ISLNK(found->entry.st.st_mode) && (follow || !last)) {
      if (++links > kMaxLinks)
        return absl::InvalidArgumentError(absl::StrCat(CleanPath(path), ": too many links"));
      if (absl::StartsWith(found->entry.link, "/")) state.dirs.resize(1);
      state.Prepend(found->entry.link);
      continue;
    }
    if (last) return found->view.path;
    if (!S_ISDIR(found->entry.st.st_mode)) {
      state.todo.push_front(part);
      if (missing == Missing::kAny) return state.Rest();
      return NotFound(CleanPath(path));
    }
    state.dirs.push_back(std::move(found->view));
  }
  return state.here();
}

absl::Status TreeReader::Walk(
    absl::string_view from,
    const std::function<absl::StatusOr<bool>(const std::string& path, const Entry& entry)>& visit)
    const {
  struct Level {
    DirView dir;
    std::vector<NamedChild> names;
    size_t next = 0;
  };
  std::vector<Level> levels(1);
  KILN_ASSIGN_OR_RETURN(levels[0].dir, OpenDir(from));
  KILN_ASSIGN_OR_RETURN(levels[0].names, Names(levels[0].dir));
  while (!levels.empty()) {
    Level& level = levels.back();
    if (level.next == level.names.size()) {
      levels.pop_back();
      continue;
    }
    const NamedChild& child = level.names[level.next++];
    KILN_ASSIGN_OR_RETURN(Found found, LookUp(level.dir, child.name));
    KILN_ASSIGN_OR_RETURN(const bool descend, visit(found.view.path, found.entry));
    if (!descend || !S_ISDIR(found.entry.st.st_mode)) continue;
    Level below;
    below.dir = std::move(found.view);
    KILN_ASSIGN_OR_RETURN(below.names, Names(below.dir));
    levels.push_back(std::move(below));
  }
  return absl::OkStatus();
}

}  // namespace kiln::store
