#include "store/layer/layer_unpacker.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"
#include "store/file_digest.h"
#include "store/snapshot/copy_entry.h"

namespace kiln::store {
namespace {

constexpr char kWhiteoutPrefix[] = ".wh.";
constexpr char kMetaPrefix[] = ".wh..wh.";  // of aufs; only the opaque mark means something
constexpr char kOpaqueName[] = ".wh..wh..opq";

// Without all privileges some metadata cannot be set, and that is no fault of the archive.
bool Privileged() {
  static const bool all = [] {
    if (::geteuid() != 0) return false;
    // The initial user namespace maps everything to itself (user_namespaces(7)).
    absl::StatusOr<std::string> map = ReadFileToString("/proc/self/uid_map");
    return !map.ok() || absl::StrContains(*map, "4294967295");
  }();
  return all;
}

bool IsOverlayXattr(absl::string_view name) {
  return absl::StartsWith(name, "trusted.overlay.") || absl::StartsWith(name, "user.overlay.");
}

void TimesOf(const TarEntry& entry, struct timespec times[2]) {
  times[0] = entry.atime;
  times[1] = entry.mtime;
}

uint32_t FileType(TarType type) {
  switch (type) {
    case TarType::kCharDevice:
      return S_IFCHR;
    case TarType::kBlockDevice:
      return S_IFBLK;
    case TarType::kFifo:
      return S_IFIFO;
    default:
      return S_IFREG;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<LayerUnpacker>> LayerUnpacker::Create(const std::string& directory,
                                                                     UnpackOptions options) {
  KILN_ASSIGN_OR_RETURN(LayerDirectory opened,
                        LayerDirectory::Open(directory, options.overlay_form));
  return std::unique_ptr<LayerUnpacker>(new LayerUnpacker(std::move(opened), std::move(options)));
}

absl::Status LayerUnpacker::Unpack(ByteStream& stream) {
  TarReader tar(&stream);
  TarEntry entry;
  for (;;) {
    KILN_RETURN_IF_ERROR(options_.cancel.status());
    KILN_ASSIGN_OR_RETURN(const bool more, tar.Next(&entry));
    if (!more) break;
    KILN_RETURN_IF_ERROR(
        Annotate(UnpackEntry(entry, tar), absl::StrCat("unpack ", ShownName(entry.name))));
  }
  return tar.Drain();
}

absl::Status LayerUnpacker::Count(const TarEntry& entry, const std::string& path) {
  const UnpackLimits& limits = options_.limits;
  if (path.size() > limits.max_path_bytes)
    return absl::InvalidArgumentError(
        absl::StrCat("the path has ", path.size(), " bytes, the limit is ", limits.max_path_bytes));
  if (++entries_ > limits.max_entries)
    return absl::ResourceExhaustedError(
        absl::StrCat("the layer has more than ", limits.max_entries, " entries"));
  if (entry.size > limits.max_bytes - bytes_)
    return absl::ResourceExhaustedError(
        absl::StrCat("the layer unpacks to more than the ", limits.max_bytes, " bytes allowed"));
  bytes_ += entry.size;
  return absl::OkStatus();
}

absl::Status LayerUnpacker::UnpackEntry(const TarEntry& entry, TarReader& tar) {
  const std::string path = CleanPath(entry.name);
  KILN_RETURN_IF_ERROR(Count(entry, path));
  if (path == "/") return UnpackRoot(entry);
  const std::string name = SplitPath(path).second;

  if (absl::StartsWith(name, kWhiteoutPrefix)) {
    if (name != kOpaqueName && absl::StartsWith(name, kMetaPrefix)) return absl::OkStatus();
    KILN_ASSIGN_OR_RETURN(const Parent parent, MakeParent(path));
    NoteUnpacked(parent.path);
    if (name == kOpaqueName) return MakeOpaque(parent);
    const std::string removed(absl::StripPrefix(name, kWhiteoutPrefix));
    if (removed.empty() || removed == "." || removed == "..")
      return absl::InvalidArgumentError("a whiteout names no entry of its directory");
    return RemoveLower(parent, removed);
  }
  if (entry.type == TarType::kHardlink) return MakeHardlink(entry, path);
  KILN_ASSIGN_OR_RETURN(const Parent parent, MakeParent(path));
  NoteUnpacked(JoinPath(parent.path, name));
  switch (entry.type) {
    case TarType::kFile:
      return MakeFile(entry, parent, name, tar);
    case TarType::kDirectory:
      return MakeDirectory(entry, parent, name);
    case TarType::kCharDevice:
      // Under overlayfs such a device is a whiteout, and nothing else.
      if (options_.overlay_form && entry.device == 0) return RemoveLower(parent, name);
      return MakeNode(entry, parent, name);
    default:
      return MakeNode(entry, parent, name);
  }
}

// A layer hides a file of those below where it has a directory: a whole tree loses it.
absl::StatusOr<LayerDirectory::Parent> LayerUnpacker::MakeParent(const std::string& path) {
  return directory_.MakeParent(path, [this](const std::string& in_the_way) {
    if (options_.overlay_form || unpacked_.contains(in_the_way)) return false;
    if (options_.recorder != nullptr) options_.recorder->Removed(in_the_way);
    return true;
  });
}

// A directory around it belongs to this layer, too, whether the archive lists it or not.
void LayerUnpacker::NoteUnpacked(std::string path) {
  if (options_.overlay_form) return;
  while (path != "/" && unpacked_.insert(path).second) path = SplitPath(path).first;
}

absl::Status LayerUnpacker::UnpackRoot(const TarEntry& entry) {
  if (entry.type != TarType::kDirectory)
    return absl::InvalidArgumentError("the root of the tree is no directory");
  KILN_ASSIGN_OR_RETURN(const Fd root, OpenFile(directory_.path(), O_PATH | O_DIRECTORY));
  bool exact = true;
  KILN_RETURN_IF_ERROR(SetMetadata(entry, {root.get(), "/"}, ".", &exact));
  struct timespec times[2];
  TimesOf(entry, times);
  directory_.Listed("/", times);
  return absl::OkStatus();
}

absl::StatusOr<bool> LayerUnpacker::Clear(const Parent& parent, const std::string& name) {
  KILN_ASSIGN_OR_RETURN(const bool removed, directory_.Remove(parent, name));
  if (removed && options_.recorder != nullptr)
    options_.recorder->Removed(JoinPath(parent.path, name));
  return removed;
}

// A whiteout of `name`.
absl::Status LayerUnpacker::RemoveLower(const Parent& parent, const std::string& name) {
  KILN_RETURN_IF_ERROR(Clear(parent, name).status());
  if (!options_.overlay_form) return absl::OkStatus();
  whiteouts_.insert(JoinPath(parent.path, name));
  return MakeWhiteout(directory_.Host(parent, name));
}

absl::Status LayerUnpacker::MakeOpaque(const Parent& parent) {
  if (!options_.overlay_form) return RemoveOlder(parent.path);
  // overlayfs does not look at the mark on a layer's root.
  if (parent.path == "/") {
    root_opaque_ = true;
    return absl::OkStatus();
  }
  return SetOpaque(directory_.Host(parent.path));
}

// Removes what was in a directory before this layer.
absl::Status LayerUnpacker::RemoveOlder(const std::string& path) {
  std::vector<std::string> todo = {path};
  while (!todo.empty()) {
    const std::string dir = std::move(todo.back());
    todo.pop_back();
    // Clear wants the parent that was got last.
    KILN_ASSIGN_OR_RETURN(const Parent parent, directory_.FindParent(JoinPath(dir, "x")));
    std::vector<std::string> old;
    {
      DIR* stream = ::opendir(directory_.Host(dir).c_str());
      if (stream == nullptr) return ErrnoStatus(errno, absl::StrCat("list ", dir));
      const absl::Cleanup close = [stream] { ::closedir(stream); };
      while (const struct dirent* item = ::readdir(stream)) {
        const std::string name = item->d_name;
        if (name == "." || name == "..") continue;
        const std::string child = JoinPath(dir, name);
        if (!unpacked_.contains(child)) {
          old.push_back(name);
        } else if (item->d_type == DT_DIR) {
          todo.push_back(child);
          KILN_RETURN_IF_ERROR(directory_.Renew(child));
        }
      }
    }
    for (const std::string& name : old) KILN_RETURN_IF_ERROR(Clear(parent, name).status());
  }
  return absl::OkStatus();
}

absl::Status LayerUnpacker::WriteContent(const TarEntry& entry, int fd, TarReader& tar,
                                         const std::function<void(absl::string_view)>& seen) {
  if (!entry.sparse) {
    for (;;) {
      KILN_RETURN_IF_ERROR(options_.cancel.status());
      KILN_ASSIGN_OR_RETURN(const absl::string_view piece, tar.Data());
      if (piece.empty()) return absl::OkStatus();
      if (seen) seen(piece);
      KILN_RETURN_IF_ERROR(WriteAll(fd, piece));
    }
  }
  if (::ftruncate(fd, entry.size) != 0) return ErrnoStatus(errno, "set the size");
  for (const TarEntry::Extent& extent : entry.extents) {
    if (::lseek(fd, extent.offset, SEEK_SET) < 0) return ErrnoStatus(errno, "seek");
    for (int64_t left = extent.size; left > 0;) {
      KILN_RETURN_IF_ERROR(options_.cancel.status());
      KILN_ASSIGN_OR_RETURN(const absl::string_view piece, tar.Data(left));
      KILN_RETURN_IF_ERROR(WriteAll(fd, piece));
      left -= static_cast<int64_t>(piece.size());
    }
  }
  return absl::OkStatus();
}

absl::Status LayerUnpacker::MakeFile(const TarEntry& entry, const Parent& parent,
                                     const std::string& name, TarReader& tar) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
  absl::StatusOr<Fd> file = OpenFileAt(parent.fd, name, kFlags);
  if (absl::IsAlreadyExists(file.status())) {
    KILN_RETURN_IF_ERROR(Clear(parent, name).status());
    file = OpenFileAt(parent.fd, name, kFlags);
  }
  KILN_RETURN_IF_ERROR(file.status());
  Sha256 hash;
  bool record = options_.recorder != nullptr && !entry.sparse;
  if (record) {
    DigestedMetadata metadata;
    metadata.st.st_mode = S_IFREG | entry.mode;
    metadata.st.st_uid = entry.uid;
    metadata.st.st_gid = entry.gid;
    metadata.st.st_size = entry.size;
    for (const auto& [key, value] : entry.xattrs)
      if (!IsOverlayXattr(key)) metadata.xattrs[key] = value;
    hash.Update(DigestHeader(metadata));
  }
  std::function<void(absl::string_view)> seen;
  if (record) seen = [&hash](absl::string_view piece) { hash.Update(piece); };
  KILN_RETURN_IF_ERROR(WriteContent(entry, file->get(), tar, seen));

  // The owner first: a change of owner takes the suid bits away.
  if (::fchown(file->get(), entry.uid, entry.gid) != 0) {
    if (errno != EPERM || Privileged()) return ErrnoStatus(errno, "chown");
    record = false;
  }
  if (::fchmod(file->get(), entry.mode) != 0) return ErrnoStatus(errno, "chmod");
  if (!entry.xattrs.empty())
    KILN_RETURN_IF_ERROR(SetXattrsOf(entry, directory_.Host(parent, name), &record));
  struct timespec times[2];
  TimesOf(entry, times);
  if (::futimens(file->get(), times) != 0) return ErrnoStatus(errno, "set times");
  KILN_RETURN_IF_ERROR(file->Close());
  if (record) options_.recorder->Recorded(JoinPath(parent.path, name), hash.Finish());
  return absl::OkStatus();
}

absl::Status LayerUnpacker::MakeDirectory(const TarEntry& entry, const Parent& parent,
                                          const std::string& name) {
  const std::string path = JoinPath(parent.path, name);
  if (::mkdirat(parent.fd, name.c_str(), 0700) != 0) {
    if (errno != EEXIST) return ErrnoStatus(errno, "create");
    struct stat st;
    if (::fstatat(parent.fd, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0)
      return ErrnoStatus(errno, "stat");
    if (S_ISDIR(st.st_mode)) {
      // Those of a directory from before this layer do not show through an overlay.
      if (!options_.overlay_form && !directory_.IsListed(path))
        KILN_RETURN_IF_ERROR(RemoveXattrs(directory_.Host(path)));
    } else {
      KILN_RETURN_IF_ERROR(Clear(parent, name).status());
      if (::mkdirat(parent.fd, name.c_str(), 0700) != 0) return ErrnoStatus(errno, "create");
      // What was here hid a directory below, which must stay hidden.
      if (options_.overlay_form) KILN_RETURN_IF_ERROR(SetOpaque(directory_.Host(path)));
    }
  }
  bool exact = true;
  KILN_RETURN_IF_ERROR(SetMetadata(entry, parent, name, &exact));
  struct timespec times[2];
  TimesOf(entry, times);
  directory_.Listed(path, times);
  return absl::OkStatus();
}

// Symlinks, devices and fifos.
absl::Status LayerUnpacker::MakeNode(const TarEntry& entry, const Parent& parent,
                                     const std::string& name) {
  const bool link = entry.type == TarType::kSymlink;
  auto make = [&] {
    return link ? ::symlinkat(entry.link.c_str(), parent.fd, name.c_str())
                : ::mknodat(parent.fd, name.c_str(), FileType(entry.type) | 0600, entry.device);
  };
  if (make() != 0) {
    int error = errno;
    if (error == EEXIST) {
      KILN_RETURN_IF_ERROR(Clear(parent, name).status());
      error = make() == 0 ? 0 : errno;
    }
    const bool device = entry.type == TarType::kCharDevice || entry.type == TarType::kBlockDevice;
    // In a user namespace nobody may make devices; images do not need them.
    if (error == EPERM && device && !Privileged()) return absl::OkStatus();
    if (error != 0) return ErrnoStatus(error, "create");
  }
  bool exact = true;
  KILN_RETURN_IF_ERROR(SetMetadata(entry, parent, name, &exact));
  struct timespec times[2];
  TimesOf(entry, times);
  if (::utimensat(parent.fd, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
    return ErrnoStatus(errno, "set times");
  return absl::OkStatus();
}

// Owner, mode and xattrs of what is there. `exact` turns false when some could not be set.
absl::Status LayerUnpacker::SetMetadata(const TarEntry& entry, const Parent& parent,
                                        const std::string& name, bool* exact) {
  if (::fchownat(parent.fd, name.c_str(), entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno != EPERM || Privileged()) return ErrnoStatus(errno, "chown");
    *exact = false;
  }
  struct stat st;
  if (::fstatat(parent.fd, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0)
    return ErrnoStatus(errno, "stat");
  if (!S_ISLNK(st.st_mode) && ::fchmodat(parent.fd, name.c_str(), entry.mode, 0) != 0)
    return ErrnoStatus(errno, "chmod");
  if (entry.xattrs.empty()) return absl::OkStatus();
  const std::string host =
      name == "." ? directory_.Host(parent.path) : directory_.Host(parent, name);
  return SetXattrsOf(entry, host, exact);
}

absl::Status LayerUnpacker::SetXattrsOf(const TarEntry& entry, const std::string& path,
                                        bool* exact) {
  for (const auto& [name, value] : entry.xattrs) {
    // They would change what overlayfs makes of the layer; a redirect reaches into others.
    if (IsOverlayXattr(name)) continue;
    if (::lsetxattr(path.c_str(), name.c_str(), value.data(), value.size(), 0) == 0) continue;
    const int error = errno;
    *exact = false;
    if (error == ENOTSUP) continue;
    const bool file = entry.type == TarType::kFile || entry.type == TarType::kDirectory;
    if (error == EPERM && (!Privileged() || (absl::StartsWith(name, "user.") && !file))) continue;
    return ErrnoStatus(error, absl::StrCat("set extended attribute ", name));
  }
  return absl::OkStatus();
}

absl::Status LayerUnpacker::MakeHardlink(const TarEntry& entry, const std::string& path) {
  const std::string target = CleanPath(entry.link), name = SplitPath(path).second;
  const auto missing = [&] {
    return absl::InvalidArgumentError(
        absl::StrCat("hard link to ", ShownName(entry.link), ", which does not exist"));
  };
  if (target == "/") return missing();
  const std::string target_name = SplitPath(target).second;
  std::string existing;  // the target's real path
  {
    absl::StatusOr<Parent> found = directory_.FindParent(target);
    struct stat st;
    const bool here =
        found.ok() && ::fstatat(found->fd, target_name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (here && options_.overlay_form && IsWhiteout(st)) return missing();
    if (here) {
      existing = JoinPath(found->path, target_name);
    } else {
      if (!found.ok() && !absl::IsNotFound(found.status())) return found.status();
      absl::StatusOr<std::string> copied = CopyUp(target);
      if (absl::IsNotFound(copied.status())) return missing();
      KILN_ASSIGN_OR_RETURN(existing, std::move(copied));
    }
  }
  NoteUnpacked(existing);  // brought up by the link, if it was not
  KILN_ASSIGN_OR_RETURN(const Parent parent, MakeParent(path));
  const std::string real = JoinPath(parent.path, name), host = directory_.Host(existing);
  if (real == existing) return absl::InvalidArgumentError("hard link to itself");
  NoteUnpacked(real);
  auto link = [&] { return ::linkat(AT_FDCWD, host.c_str(), parent.fd, name.c_str(), 0); };
  if (link() != 0) {
    int error = errno;
    if (error == EEXIST) {
      KILN_RETURN_IF_ERROR(Clear(parent, name).status());
      error = link() == 0 ? 0 : errno;
    }
    if (error == ENOENT) return missing();
    if (error != 0) return ErrnoStatus(error, absl::StrCat("link to ", ShownName(entry.link)));
  }
  // The entry carries metadata of its own, which go to the file.
  struct stat before, after;
  if (::fstatat(parent.fd, name.c_str(), &before, AT_SYMLINK_NOFOLLOW) != 0)
    return ErrnoStatus(errno, "stat");
  bool exact = true;
  KILN_RETURN_IF_ERROR(SetMetadata(entry, parent, name, &exact));
  struct timespec times[2];
  TimesOf(entry, times);
  if (::utimensat(parent.fd, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
    return ErrnoStatus(errno, "set times");
  if (options_.recorder == nullptr) return absl::OkStatus();
  if (::fstatat(parent.fd, name.c_str(), &after, AT_SYMLINK_NOFOLLOW) != 0)
    return ErrnoStatus(errno, "stat");
  checksums_doubtful_ |= before.st_mode != after.st_mode || before.st_uid != after.st_uid ||
                         before.st_gid != after.st_gid || !entry.xattrs.empty();
  if (auto known = options_.recorder->Known(directory_.path(), existing); known.has_value())
    options_.recorder->Recorded(real, *known);
  return absl::OkStatus();
}

// Brings a file of the layers below into this one, as overlayfs does before it links one.
absl::StatusOr<std::string> LayerUnpacker::CopyUp(const std::string& path) {
  const absl::Status missing = absl::NotFoundError(path);
  if (!options_.overlay_form || !options_.lower || root_opaque_) return missing;
  KILN_ASSIGN_OR_RETURN(Layers layers, options_.lower());
  layers.push_back(directory_.path());
  const TreeReader tree(std::move(layers));
  KILN_ASSIGN_OR_RETURN(const std::string dir, tree.Resolve(SplitPath(path).first, true));
  const std::string real = JoinPath(dir, SplitPath(path).second);
  KILN_ASSIGN_OR_RETURN(const Entry entry, tree.Lstat(real));
  if (S_ISDIR(entry.st.st_mode)) return missing;
  const std::string source = tree.HostPath(entry, real);
  KILN_ASSIGN_OR_RETURN(const Parent parent, MakeParent(real));
  const std::string copy = directory_.Host(parent, SplitPath(path).second);
  KILN_RETURN_IF_ERROR(CopyBody(source, entry.st, copy));
  KILN_RETURN_IF_ERROR(CopyMetadata(source, entry.st, copy));
  KILN_RETURN_IF_ERROR(CopyTimes(entry.st, copy));
  return JoinPath(parent.path, SplitPath(path).second);
}

absl::Status LayerUnpacker::Settle(const Layers& lower) {
  const TreeReader below(lower);
  if (options_.overlay_form) {
    Layers all = lower;
    all.push_back(directory_.path());
    const TreeReader whole(std::move(all));
    if (root_opaque_ && !lower.empty()) {
      KILN_ASSIGN_OR_RETURN(const std::vector<Entry> hidden, below.List("/"));
      for (const Entry& entry : hidden) {
        const std::string host = absl::StrCat(directory_.path(), "/", entry.name);
        struct stat st;
        if (::lstat(host.c_str(), &st) != 0) {
          KILN_RETURN_IF_ERROR(MakeWhiteout(host));
        } else if (S_ISDIR(st.st_mode)) {
          KILN_RETURN_IF_ERROR(SetOpaque(host));
        }
      }
    }
    // overlayfs would list the name of a whiteout with nothing below it.
    for (const std::string& path : whiteouts_) {
      KILN_ASSIGN_OR_RETURN(const bool there, directory_.IsDirectory(SplitPath(path).first));
      if (!there) continue;
      const std::string host = directory_.Host(path);
      struct stat st;
      if (::lstat(host.c_str(), &st) != 0 || !IsWhiteout(st)) continue;  // replaced since
      if (::unlink(host.c_str()) != 0) return ErrnoStatus(errno, absl::StrCat("remove ", path));
      const absl::Status shows = whole.Lstat(path).status();
      if (absl::IsNotFound(shows)) continue;
      KILN_RETURN_IF_ERROR(shows);
      KILN_RETURN_IF_ERROR(MakeWhiteout(host));
    }
    KILN_RETURN_IF_ERROR(directory_.AdoptAttributes(below, root_opaque_));
  }
  return directory_.SetTimes();
}

}  // namespace kiln::store
