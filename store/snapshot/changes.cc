#include "store/snapshot/changes.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"
#include "store/snapshot/copy_entry.h"

namespace kiln::store {
namespace {

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

absl::StatusOr<std::vector<std::string>> ListNames(const std::string& path) {
  std::unique_ptr<DIR, CloseDir> dir(::opendir(path.c_str()));
  if (dir == nullptr) return ErrnoStatus(errno, absl::StrCat("list ", path));
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const struct dirent* entry = ::readdir(dir.get());
    if (entry == nullptr) {
      if (errno != 0) return ErrnoStatus(errno, absl::StrCat("list ", path));
      break;
    }
    if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0)
      names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string ChildOf(const std::string& dir, const std::string& name) {
  return dir == "/" ? absl::StrCat("/", name) : absl::StrCat(dir, "/", name);
}

// Two files whose times were cut to seconds differ only if their bytes do.
absl::StatusOr<bool> SameBytes(const std::string& a, const std::string& b) {
  KILN_ASSIGN_OR_RETURN(Fd fa, OpenFile(a, O_RDONLY | O_NOFOLLOW));
  KILN_ASSIGN_OR_RETURN(Fd fb, OpenFile(b, O_RDONLY | O_NOFOLLOW));
  constexpr size_t kPiece = 64 << 10;
  std::vector<char> one(kPiece), two(kPiece);
  for (off_t at = 0;;) {
    const ssize_t n = ::pread(fa.get(), one.data(), kPiece, at);
    const ssize_t m = ::pread(fb.get(), two.data(), kPiece, at);
    if (n < 0 || m < 0) return ErrnoStatus(errno, absl::StrCat("read ", n < 0 ? a : b));
    if (n != m || std::memcmp(one.data(), two.data(), static_cast<size_t>(n)) != 0) return false;
    if (n == 0) return true;
    at += n;
  }
}

// Walks two trees side by side.
class TreeDiffer {
 public:
  TreeDiffer(const TreeReader& lower, const TreeReader& upper, const DiffOptions& options,
             const ChangeSink& sink, const CancelToken& cancel)
      : lower_(lower), upper_(upper), options_(options), sink_(sink), cancel_(cancel) {}

  absl::Status Run() {
    if (upper_.layers().empty() && lower_.layers().empty()) return absl::OkStatus();
    Entry root;
    if (!upper_.layers().empty()) {
      KILN_ASSIGN_OR_RETURN(root, upper_.Lstat("/"));
    } else {
      KILN_ASSIGN_OR_RETURN(root, lower_.Lstat("/"));  // its children's deletions need a parent
    }
    const TreeReader& owner = upper_.layers().empty() ? lower_ : upper_;
    pending_.push_back(
        {Change::Kind::kPut, "/", owner.HostPath(root, "/"), root.st, false, root.layer});
    return options_.top_layer.empty() ? Compare("/") : CompareListed("/");
  }

 private:
  // As Compare, for the names that the top layer has.
  absl::Status CompareListed(const std::string& path) {
    KILN_RETURN_IF_ERROR(cancel_.status());
    KILN_ASSIGN_OR_RETURN(const DirView before, lower_.OpenDir(path));
    KILN_ASSIGN_OR_RETURN(const DirView after, upper_.OpenDir(path));
    KILN_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                          ListNames(path == "/" ? options_.top_layer : options_.top_layer + path));
    for (const std::string& name : names) {
      const absl::StatusOr<Entry> b = lower_.Child(before, name), a = upper_.Child(after, name);
      if (!b.ok() && !absl::IsNotFound(b.status())) return b.status();
      if (!a.ok() && !absl::IsNotFound(a.status())) return a.status();
      const std::string child = ChildOf(path, name);
      if (a.ok() && b.ok()) {
        KILN_RETURN_IF_ERROR(CompareEntry(child, *b, *a));
      } else if (a.ok()) {
        KILN_RETURN_IF_ERROR(PutAll(child, *a));
      } else if (b.ok()) {
        KILN_RETURN_IF_ERROR(Emit({Change::Kind::kDelete, child, "", {}, false, 0}));
      }
    }
    return absl::OkStatus();
  }

  // Below an opaque directory nothing of the lower tree shows, whether the layer names it or not.
  bool ListedOnly(const std::string& path) const {
    return !options_.top_layer.empty() && !in_opaque_ && !IsOpaque(options_.top_layer + path);
  }

  // Both trees have the directory; its own change is the last one pending.
  absl::Status Compare(const std::string& path) {
    KILN_RETURN_IF_ERROR(cancel_.status());
    KILN_ASSIGN_OR_RETURN(const std::vector<Entry> before, Children(lower_, path));
    KILN_ASSIGN_OR_RETURN(const std::vector<Entry> after, Children(upper_, path));
    auto b = before.begin();
    auto a = after.begin();
    while (b != before.end() || a != after.end()) {
      if (a == after.end() || (b != before.end() && b->name < a->name)) {
        KILN_RETURN_IF_ERROR(
            Emit({Change::Kind::kDelete, ChildOf(path, b->name), "", {}, false, 0}));
        ++b;
      } else if (b == before.end() || a->name < b->name) {
        KILN_RETURN_IF_ERROR(PutAll(ChildOf(path, a->name), *a));
        ++a;
      } else {
        KILN_RETURN_IF_ERROR(CompareEntry(ChildOf(path, a->name), *b, *a));
        ++a;
        ++b;
      }
    }
    return absl::OkStatus();
  }

  static absl::StatusOr<std::vector<Entry>> Children(const TreeReader& tree,
                                                     const std::string& path) {
    if (tree.layers().empty()) return std::vector<Entry>();
    return tree.List(path);
  }

  absl::Status CompareEntry(const std::string& path, const Entry& before, const Entry& after) {
    const bool both_directories = S_ISDIR(before.st.st_mode) && S_ISDIR(after.st.st_mode);
    if (!both_directories) {
      KILN_ASSIGN_OR_RETURN(const bool same, Same(path, before, after));
      if (!same) return PutAll(path, after);
      if (!options_.report_links || after.st.st_nlink < 2) return absl::OkStatus();
      Change change = Put(path, after);
      change.kind = Change::Kind::kSame;
      return sink_(change);
    }
    KILN_ASSIGN_OR_RETURN(const bool same, Same(path, before, after));
    pending_.push_back(Put(path, after));
    if (!same) KILN_RETURN_IF_ERROR(Flush());
    if (ListedOnly(path)) {
      KILN_RETURN_IF_ERROR(CompareListed(path));
    } else {
      const bool outermost = !std::exchange(in_opaque_, true);
      KILN_RETURN_IF_ERROR(Compare(path));
      if (outermost) in_opaque_ = false;
    }
    if (flushed_ == pending_.size()) --flushed_;
    pending_.pop_back();
    return absl::OkStatus();
  }

  absl::StatusOr<bool> Same(const std::string& path, const Entry& before, const Entry& after) {
    const struct stat &b = before.st, &a = after.st;
    if (b.st_dev == a.st_dev && b.st_ino == a.st_ino) return true;
    if (b.st_mode != a.st_mode || b.st_uid != a.st_uid || b.st_gid != a.st_gid ||
        b.st_rdev != a.st_rdev)
      return false;
    const std::string old_path = lower_.HostPath(before, path);
    const std::string new_path = upper_.HostPath(after, path);
    if (!S_ISLNK(a.st_mode)) {
      KILN_ASSIGN_OR_RETURN(const std::string old_caps, ReadXattr(old_path, "security.capability"));
      KILN_ASSIGN_OR_RETURN(const std::string new_caps, ReadXattr(new_path, "security.capability"));
      if (old_caps != new_caps) return false;
    }
    if (S_ISDIR(a.st_mode)) return true;
    if (b.st_size != a.st_size || b.st_mtim.tv_sec != a.st_mtim.tv_sec ||
        b.st_mtim.tv_nsec != a.st_mtim.tv_nsec)
      return false;
    if (a.st_mtim.tv_nsec != 0) return true;
    if (S_ISLNK(a.st_mode)) return before.link == after.link;
    if (!S_ISREG(a.st_mode) || a.st_size == 0) return true;
    return SameBytes(old_path, new_path);
  }

  Change Put(const std::string& path, const Entry& entry) const {
    return {Change::Kind::kPut, path, upper_.HostPath(entry, path), entry.st, false, entry.layer};
  }

  // An entry that the lower tree does not have like this, with all below it.
  absl::Status PutAll(const std::string& path, const Entry& entry) {
    KILN_RETURN_IF_ERROR(Emit(Put(path, entry)));
    if (!S_ISDIR(entry.st.st_mode)) return absl::OkStatus();
    return upper_.Walk(path,
                       [&](const std::string& below, const Entry& child) -> absl::StatusOr<bool> {
                         KILN_RETURN_IF_ERROR(cancel_.status());
                         KILN_RETURN_IF_ERROR(sink_(Put(below, child)));
                         return true;
                       });
  }

  absl::Status Emit(const Change& change) {
    KILN_RETURN_IF_ERROR(Flush());
    return sink_(change);
  }

  absl::Status Flush() {
    for (; flushed_ < pending_.size(); ++flushed_) KILN_RETURN_IF_ERROR(sink_(pending_[flushed_]));
    return absl::OkStatus();
  }

  const TreeReader& lower_;
  const TreeReader& upper_;
  const DiffOptions& options_;
  const ChangeSink& sink_;
  const CancelToken& cancel_;
  std::vector<Change> pending_;  // directories from the root to the current one
  size_t flushed_ = 0;           // how many of them were handed out
  bool in_opaque_ = false;       // everything is compared, down from here
};

}  // namespace

absl::Status LayerChanges(const std::string& layer, const ChangeSink& sink,
                          const CancelToken& cancel) {
  std::vector<Change> stack(1);
  stack.back().path.assign(1, '/');  // GCC 12 sees an overlap in assigning a literal
  stack.back().host_path = layer;
  if (::lstat(layer.c_str(), &stack.back().st) != 0)
    return ErrnoStatus(errno, absl::StrCat("stat ", layer));
  while (!stack.empty()) {
    KILN_RETURN_IF_ERROR(cancel.status());
    Change directory = std::move(stack.back());
    stack.pop_back();
    directory.opaque = IsOpaque(directory.host_path);
    KILN_RETURN_IF_ERROR(sink(directory));
    KILN_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListNames(directory.host_path));
    for (const std::string& name : names) {
      Change child;
      child.path = ChildOf(directory.path, name);
      child.host_path = absl::StrCat(directory.host_path, "/", name);
      if (::lstat(child.host_path.c_str(), &child.st) != 0)
        return ErrnoStatus(errno, absl::StrCat("stat ", child.host_path));
      if (S_ISDIR(child.st.st_mode)) {
        stack.push_back(std::move(child));
        continue;
      }
      if (IsWhiteout(child.st)) child.kind = Change::Kind::kDelete;
      KILN_RETURN_IF_ERROR(sink(child));
    }
  }
  return absl::OkStatus();
}

absl::Status TreeChanges(const TreeReader& lower, const TreeReader& upper, const ChangeSink& sink,
                         const CancelToken& cancel) {
  return TreeDiffer(lower, upper, DiffOptions(), sink, cancel).Run();
}

absl::Status TreeChanges(const TreeReader& lower, const TreeReader& upper,
                         const DiffOptions& options, const ChangeSink& sink,
                         const CancelToken& cancel) {
  return TreeDiffer(lower, upper, options, sink, cancel).Run();
}

}  // namespace kiln::store
