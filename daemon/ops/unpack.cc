#include "daemon/ops/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "daemon/ops/copy_tree.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

using store::Attributes;
using store::CleanPath;
using store::Entry;
using store::JoinPath;
using store::SplitPath;
using store::TreeReader;
using store::TreeWriter;

constexpr size_t kBlockSize = 256 << 10;
constexpr int kMaxLinks = 255;

struct ArchiveFree {
  void operator()(struct archive* a) const { archive_read_free(a); }
};
// An archive being read, with the file under it.
struct OpenArchive {
  Fd fd;
  std::unique_ptr<struct archive, ArchiveFree> archive;
};

std::string ErrorOf(struct archive* a) {
  const char* text = archive_error_string(a);
  return text == nullptr ? "unreadable" : text;
}

absl::StatusOr<OpenArchive> Open(const TreeReader& tree, absl::string_view path) {
  OpenArchive out;
  KILN_ASSIGN_OR_RETURN(out.fd, tree.Open(path));
  out.archive.reset(archive_read_new());
  struct archive* const a = out.archive.get();
  archive_read_support_filter_gzip(a);
  archive_read_support_filter_bzip2(a);
  archive_read_support_filter_xz(a);
  archive_read_support_filter_zstd(a);
  archive_read_support_format_tar(a);
  if (archive_read_open_fd(a, out.fd.get(), 64 << 10) != ARCHIVE_OK)
    return absl::DataLossError(absl::StrCat("archive ", path, ": ", ErrorOf(a)));
  return out;
}

// Names that the locale cannot show come as UTF-8 only.
std::string NameOf(struct archive_entry* entry) {
  const char* name = archive_entry_pathname(entry);
  if (name == nullptr) name = archive_entry_pathname_utf8(entry);
  return name == nullptr ? "" : name;
}
std::string HardlinkOf(struct archive_entry* entry) {
  const char* name = archive_entry_hardlink(entry);
  if (name == nullptr) name = archive_entry_hardlink_utf8(entry);
  return name == nullptr ? "" : name;
}
std::string SymlinkOf(struct archive_entry* entry) {
  const char* name = archive_entry_symlink(entry);
  if (name == nullptr) name = archive_entry_symlink_utf8(entry);
  return name == nullptr ? "" : name;
}

// Whether `path`, taken relative to a directory `depth` levels below the root, climbs out of it.
bool Climbs(absl::string_view path, int depth) {
  for (const absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (part == "..") {
      if (--depth < 0) return true;
    } else if (part != ".") {
      ++depth;
    }
  }
  return false;
}

int DepthOf(absl::string_view clean) {
  return clean == "/" ? 0 : static_cast<int>(std::count(clean.begin(), clean.end(), '/'));
}

class Extraction {
 public:
  Extraction(struct archive* a, TreeWriter& to, const std::string& dest,
             const std::optional<Owner>& owner, const CancelToken& cancel)
      : archive_(a), to_(to), dest_(dest), owner_(owner), cancel_(cancel) {}

  absl::Status Run() {
    for (;;) {
      if (cancel_.Cancelled()) return cancel_.status();
      struct archive_entry* entry = nullptr;
      const int result = archive_read_next_header(archive_, &entry);
      if (result == ARCHIVE_EOF) break;
      // A warning is about how a name can be shown; the entry itself is sound.
      if (result < ARCHIVE_WARN) return absl::DataLossError(ErrorOf(archive_));
      KILN_RETURN_IF_ERROR(Extract(entry));
    }
    // What was put into a directory changed its time.
    for (const auto& [path, time] : dirs_) {
      Attributes attributes;
      attributes.mtime = time;
      const absl::Status status = to_.SetAttributes(path, attributes);
      if (!status.ok() && !absl::IsNotFound(status)) return status;
    }
    return absl::OkStatus();
  }

 private:
  // Where `path` of the archive lies in the tree, links followed below the destination only.
  absl::StatusOr<std::string> Confine(absl::string_view path) const {
    std::string here(1, '/');  // below the destination
    const std::vector<std::string> parts = absl::StrSplit(path, '/', absl::SkipEmpty());
    std::deque<std::string> todo(parts.begin(), parts.end());
    for (int links = 0; !todo.empty();) {
      const std::string part = std::move(todo.front());
      todo.pop_front();
      const std::string next = JoinPath(here, part);
      const auto entry = to_.reader().Lstat(JoinPath(dest_, next));
      if (!entry.ok() && !absl::IsNotFound(entry.status())) return entry.status();
      if (!entry.ok() || !S_ISLNK(entry->st.st_mode)) {
        here = next;
        continue;
      }
      if (++links > kMaxLinks)
        return absl::InvalidArgumentError(absl::StrCat(path, ": too many links"));
      if (absl::StartsWith(entry->link, "/")) here.assign(1, '/');
      const std::vector<std::string> target = absl::StrSplit(entry->link, '/', absl::SkipEmpty());
      todo.insert(todo.begin(), target.begin(), target.end());
    }
    return JoinPath(dest_, here);
  }

  Attributes AttributesOf(struct archive_entry* entry) const {
    Attributes out;
    out.uid = owner_ ? owner_->uid : static_cast<uint32_t>(archive_entry_uid(entry));
    out.gid = owner_ ? owner_->gid : static_cast<uint32_t>(archive_entry_gid(entry));
    out.mode = archive_entry_perm(entry) & 07777;
    out.mtime = absl::FromUnixSeconds(archive_entry_mtime(entry)) +
                absl::Nanoseconds(archive_entry_mtime_nsec(entry));
    return out;
  }

  absl::Status Extract(struct archive_entry* entry) {
    const std::string raw = NameOf(entry);
    if (raw.empty() || Climbs(raw, 0))
      return absl::InvalidArgumentError(
          absl::StrCat("archive entry \"", raw, "\" is outside of \"", dest_, "\""));
    const std::string name = CleanPath(raw);
    if (name == "/") return absl::OkStatus();
    const auto [parent_name, base] = SplitPath(name);
    KILN_ASSIGN_OR_RETURN(const std::string parent, Confine(parent_name));
    Attributes implied;
    implied.mode = 0755;
    KILN_RETURN_IF_ERROR(MakeDirs(to_, parent, implied).status());
    const std::string path = JoinPath(parent, base);
    // Looked at before anything is removed: a link may name what it would replace.
    const std::string hardlink = HardlinkOf(entry);
    if (!hardlink.empty()) return Link(raw, hardlink, path);
    const bool is_dir = archive_entry_filetype(entry) == AE_IFDIR;
    const auto existing = to_.reader().Lstat(path);
    const bool merge = existing.ok() && is_dir && S_ISDIR(existing->st.st_mode);
    if (existing.ok() && !merge) KILN_RETURN_IF_ERROR(to_.Remove(path));
    const Attributes attributes = AttributesOf(entry);
    if (is_dir) {
      KILN_RETURN_IF_ERROR(merge ? to_.SetAttributes(path, attributes)
                                 : to_.MakeDir(path, attributes));
      dirs_.emplace_back(path, *attributes.mtime);
    } else {
      KILN_RETURN_IF_ERROR(MakeLeaf(entry, name, path, attributes));
    }
    return SetXattrs(entry, path);
  }

  absl::Status Link(const std::string& name, const std::string& target, const std::string& path) {
    if (Climbs(target, 0))
      return absl::InvalidArgumentError(
          absl::StrCat("invalid hardlink \"", name, "\" -> \"", target, "\""));
    const auto [parent, base] = SplitPath(CleanPath(target));
    KILN_ASSIGN_OR_RETURN(const std::string dir, Confine(parent));
    const std::string existing = JoinPath(dir, base);
    if (existing == path) return absl::OkStatus();
    if (to_.reader().Lstat(path).ok()) KILN_RETURN_IF_ERROR(to_.Remove(path));
    return to_.MakeHardlink(path, existing);
  }

  absl::Status MakeLeaf(struct archive_entry* entry, const std::string& name,
                        const std::string& path, const Attributes& attributes) {
    switch (archive_entry_filetype(entry)) {
      case AE_IFREG:
        return MakeFile(entry, path, attributes);
      case AE_IFLNK: {
        const std::string target = SymlinkOf(entry);
        // An absolute target counts from the link's directory, too: inside a chroot it is harmless.
        if (Climbs(target, DepthOf(SplitPath(name).first)))
          return absl::InvalidArgumentError(
              absl::StrCat("invalid symlink \"", name, "\" -> \"", target, "\""));
        Attributes link = attributes;
        link.mode.reset();
        return to_.MakeSymlink(path, target, link);
      }
      case AE_IFCHR:
      case AE_IFBLK:
      case AE_IFIFO:
        return to_.MakeNode(path, archive_entry_mode(entry), archive_entry_rdev(entry), attributes);
      default:
        return absl::InvalidArgumentError(
            absl::StrCat("archive entry \"", name, "\" has an unknown type"));
    }
  }

  absl::Status MakeFile(struct archive_entry* entry, const std::string& path,
                        const Attributes& attributes) {
    const int64_t size = archive_entry_size_is_set(entry) ? archive_entry_size(entry) : -1;
    KILN_ASSIGN_OR_RETURN(const auto file, to_.CreateFile(path, size, attributes));
    if (buffer_.empty()) buffer_.resize(kBlockSize);
    for (;;) {
      if (cancel_.Cancelled()) return cancel_.status();
      const la_ssize_t n = archive_read_data(archive_, buffer_.data(), buffer_.size());
      if (n < 0) return absl::DataLossError(absl::StrCat(path, ": ", ErrorOf(archive_)));
      if (n == 0) break;
      KILN_RETURN_IF_ERROR(file->Append(absl::string_view(buffer_.data(), static_cast<size_t>(n))));
    }
    return file->Close();
  }

  absl::Status SetXattrs(struct archive_entry* entry, const std::string& path) {
    const char* name = nullptr;
    const void* value = nullptr;
    size_t size = 0;
    archive_entry_xattr_reset(entry);
    while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
      const absl::Status status =
          to_.SetXattr(path, name, absl::string_view(static_cast<const char*>(value), size));
      // Best effort: what the file system cannot store is left out.
      if (absl::IsResourceExhausted(status)) return status;
    }
    return absl::OkStatus();
  }

  struct archive* const archive_;
  TreeWriter& to_;
  const std::string dest_;
  const std::optional<Owner> owner_;
  const CancelToken cancel_;
  std::string buffer_;
  std::vector<std::pair<std::string, absl::Time>> dirs_;
};

}  // namespace

absl::StatusOr<bool> IsArchive(const TreeReader& tree, absl::string_view path) {
  KILN_ASSIGN_OR_RETURN(const Entry entry, tree.Lstat(path));
  if (!S_ISREG(entry.st.st_mode) || entry.st.st_size == 0) return false;
  const auto open = Open(tree, path);
  if (absl::IsDataLoss(open.status())) return false;
  KILN_RETURN_IF_ERROR(open.status());
  struct archive_entry* first = nullptr;
  const int result = archive_read_next_header(open->archive.get(), &first);
  return result == ARCHIVE_OK || result == ARCHIVE_WARN;
}

absl::Status Unpack(const TreeReader& tree, absl::string_view path, TreeWriter& to,
                    const std::string& dest, const std::optional<Owner>& owner,
                    const CancelToken& cancel) {
  KILN_ASSIGN_OR_RETURN(const OpenArchive open, Open(tree, path));
  return Annotate(Extraction(open.archive.get(), to, dest, owner, cancel).Run(),
                  absl::StrCat("unpack ", path));
}

}  // namespace kiln::daemon
