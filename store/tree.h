#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "store/base/fd.h"

namespace kiln::store {

// The directories that stacked give a file tree, lowest first, in overlayfs form: whiteouts are
// character devices 0:0, opaque directories carry trusted.overlay.opaque=y (overlayfs.rst).
// Empty means the empty tree. A native-driver tree has exactly one.
using Layers = std::vector<std::string>;

// One entry of a tree. Two files are names of one file (hard links) only if layer and inode agree:
// across layers equal inodes just share storage.
struct Entry {
  std::string name;     // last component, "" for the root
  struct stat st = {};  // lstat of the topmost layer that has it
  std::string link;     // symlink target
  int layer = -1;       // index into Layers of the topmost layer that has it
};

// A directory of a stacked tree: the layers it is merged from. Valid while the layers do not
// change.
struct DirView {
  std::string path;         // clean
  std::vector<int> layers;  // indices into Layers, topmost first; empty for an empty tree's root
};

// One name of a directory, as cheap as the file system gives it.
struct NamedChild {
  std::string name;
  int layer = -1;     // topmost layer that has it
  uint32_t type = 0;  // S_IFDIR, S_IFREG, …
};

// TreeReader reads a stacked tree without mounting it. All paths are absolute inside the tree
// ("/a/b"), cleaned; symlinks resolve inside the root: absolute targets re-rooted, ".." clamped, at
// most 255 links (else kInvalidArgument "too many links").
// kNotFound "P: no such file or directory" for an absent path. Immutable; thread-safe when the
// layers do not change. May block. A look-up costs O(components x layers) system calls.
//
// No symlink of a layer is ever followed by the kernel: host paths are built only through
// directories that were seen to be directories in that layer.
class TreeReader {
 public:
  explicit TreeReader(Layers layers);

  const Layers& layers() const { return layers_; }

  // Resolves every symlink on the way; the last component only when `follow`. Returns the clean
  // path inside the tree. The last component need not exist when `allow_missing_last`.
  absl::StatusOr<std::string> Resolve(absl::string_view path, bool follow,
                                      bool allow_missing_last = false) const;

  // The same for a path that may not exist: what is missing is taken as it is written.
  absl::StatusOr<std::string> ResolveMissing(absl::string_view path) const;

  // lstat semantics; `path` must be resolved up to its parent. The root of an empty tree is a
  // directory with mode 0755 of root and layer -1.
  absl::StatusOr<Entry> Lstat(absl::string_view path) const;

  // Merged children in byte order of their names; whiteouts and hidden entries left out.
  absl::StatusOr<std::vector<Entry>> List(absl::string_view path) const;

  // The pieces List and Walk are made of, for callers that go down a tree themselves. OpenDir and
  // OpenChild: kNotFound, or kFailedPrecondition "P: not a directory".
  absl::StatusOr<DirView> OpenDir(absl::string_view path) const;
  absl::StatusOr<DirView> OpenChild(const DirView& dir, absl::string_view name) const;
  absl::StatusOr<Entry> Child(const DirView& dir, absl::string_view name) const;
  // In byte order; no stat call for each name where the file system tells types.
  absl::StatusOr<std::vector<NamedChild>> Names(const DirView& dir) const;
  // The same children as entries: one stat call for each, relative to its directory.
  absl::StatusOr<std::vector<Entry>> Entries(const DirView& dir) const;

  // Extended attributes by name, without the overlay's own. Empty where unsupported.
  absl::StatusOr<std::map<std::string, std::string>> Xattrs(const Entry& entry,
                                                            absl::string_view path) const;

  // Opens a regular file for reading; kFailedPrecondition "P: not a regular file" for others.
  absl::StatusOr<Fd> Open(absl::string_view path) const;

  // The path of the entry in its topmost layer, for *at calls, hardlinks and xattrs.
  std::string HostPath(const Entry& entry, absl::string_view path) const;

  // Depth-first, children in byte order, parents first; the root is not visited. Return false from
  // `visit` to leave out what is below a directory.
  absl::Status Walk(absl::string_view from,
                    const std::function<absl::StatusOr<bool>(const std::string& path,
                                                             const Entry& entry)>& visit) const;

 private:
  struct Found;
  enum class Missing { kRefuse, kLast, kAny };  // which components need not exist
  absl::StatusOr<std::string> ResolveWith(absl::string_view path, bool follow,
                                          Missing missing) const;
  // Looks `name` up in the layers of `dir`; the layers of the child when it is a directory.
  absl::StatusOr<Found> LookUp(const DirView& dir, absl::string_view name) const;
  absl::StatusOr<Found> LookUpPath(absl::string_view path) const;
  // Calls `visit` for each child that is not hidden, in the order of the disk, with a descriptor of
  // its directory in `layer` and its type.
  using ChildVisit =
      absl::FunctionRef<absl::Status(int fd, const char* name, int layer, uint32_t type)>;
  absl::Status ForEachChild(const DirView& dir, ChildVisit visit) const;
  DirView Root() const;
  std::string Host(int layer, absl::string_view path) const;

  Layers layers_;
};

// Extended attributes of a file by host path, the overlay's own left out. Never follows a symlink.
absl::StatusOr<std::map<std::string, std::string>> HostXattrs(const std::string& host_path);

// The target of a symlink by host path; `size_hint` is its st_size.
absl::StatusOr<std::string> ReadHostLink(const std::string& host_path, int64_t size_hint);

// Path helpers shared by everything that names files inside a tree.
std::string CleanPath(absl::string_view path);                          // "/a/../b/" -> "/b"
std::string JoinPath(absl::string_view dir, absl::string_view rel);     // cleaned
std::pair<std::string, std::string> SplitPath(absl::string_view path);  // parent, base
// True for `dir` itself and everything below; both clean.
bool PathIsWithin(absl::string_view path, absl::string_view dir);

}  // namespace kiln::store
