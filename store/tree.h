#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

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

// One entry of a tree.
struct Entry {
  std::string name;     // last component, "" for the root
  struct stat st = {};  // lstat of the topmost layer that has it
  std::string link;     // symlink target
  int layer = -1;       // index into Layers of the topmost layer that has it
};

// TreeReader reads a stacked tree without mounting it. All paths are absolute inside the tree
// ("/a/b"), cleaned; symlinks resolve inside the root: absolute targets re-rooted, ".." clamped, at
// most 255 links (else kInvalidArgument "too many links").
// kNotFound for an absent path. Immutable; thread-safe when the layers do not change. May block.
class TreeReader {
 public:
  explicit TreeReader(Layers layers);

  const Layers& layers() const { return layers_; }

  // Resolves every symlink on the way; the last component only when `follow`. Returns the clean
  // path inside the tree. The last component need not exist when `allow_missing_last`.
  absl::StatusOr<std::string> Resolve(absl::string_view path, bool follow,
                                      bool allow_missing_last = false) const;

  // lstat semantics; `path` must be resolved up to its parent.
  absl::StatusOr<Entry> Lstat(absl::string_view path) const;

  // Merged children in byte order of their names; whiteouts and hidden entries left out.
  absl::StatusOr<std::vector<Entry>> List(absl::string_view path) const;

  // Opens a regular file for reading.
  absl::StatusOr<Fd> Open(absl::string_view path) const;

  // The path of the entry in its topmost layer, for *at calls, hardlinks and xattrs.
  std::string HostPath(const Entry& entry, absl::string_view path) const;

  // Depth-first, children in byte order, parents first; the root is not visited. Return false from
  // `visit` to leave out what is below a directory.
  absl::Status Walk(absl::string_view from,
                    const std::function<absl::StatusOr<bool>(const std::string& path,
                                                             const Entry& entry)>& visit) const;

 private:
  Layers layers_;
};

// Path helpers shared by everything that names files inside a tree.
std::string CleanPath(absl::string_view path);                          // "/a/../b/" -> "/b"
std::string JoinPath(absl::string_view dir, absl::string_view rel);     // cleaned
std::pair<std::string, std::string> SplitPath(absl::string_view path);  // parent, base

}  // namespace kiln::store
