#pragma once

#include <sys/stat.h>
#include <time.h>

#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/base/fd.h"
#include "store/tree.h"

namespace kiln::store {

// LayerDirectory is the directory that an untrusted archive is unpacked into. Paths are clean and
// start at its root; symlinks on the way are followed inside it only ("/" and ".." end at its
// root), so nothing outside can be reached. Nobody else may write below it meanwhile.
//
// It notes the times of the directories it was asked for, as every change in one disturbs them;
// SetTimes puts them back. Not thread-safe.
class LayerDirectory {
 public:
  // `overlay_form`: removed names of lower layers are whiteouts here, see tree.h.
  static absl::StatusOr<LayerDirectory> Open(const std::string& path, bool overlay_form);

  // The directory around an entry, with symlinks resolved.
  struct Parent {
    int fd = -1;       // for *at calls; valid until the next call of this object
    std::string path;  // real path inside
  };
  // Makes missing directories (0755, of us); they are "implied". What is no directory and lies in
  // the way is removed if `gives_way` says so of its real path. Else kInvalidArgument, as when
  // links form a loop.
  using GivesWay = absl::FunctionRef<bool(const std::string& path)>;
  absl::StatusOr<Parent> MakeParent(absl::string_view path, GivesWay gives_way);
  // kNotFound when it does not exist.
  absl::StatusOr<Parent> FindParent(absl::string_view path);

  // Removes the entry `name` of `parent`, the one got last, with everything below it; false when
  // there is none.
  absl::StatusOr<bool> Remove(const Parent& parent, const std::string& name);

  // The path of an entry on the host; no component of it is a symlink, except the last.
  std::string Host(absl::string_view path) const;
  std::string Host(const Parent& parent, const std::string& name) const;

  // A directory of the archive: it is not implied (any more), and gets this time at the end.
  void Listed(const std::string& path, const struct timespec times[2]);
  bool IsListed(const std::string& path) const;
  // Takes the attributes that a directory has from before this layer, unless it is listed: it
  // becomes an implied one.
  absl::Status Renew(const std::string& path);

  // Whether there is a directory, and no symlink leads to it. A path that was real once need not be
  // for the rest of the archive: what uses it later asks first, or a link leads it outside.
  absl::StatusOr<bool> IsDirectory(const std::string& path) const;

  // Gives implied directories the attributes that `lower` has for them and this layer does not
  // hide, all but the root itself when `root_opaque`; others get the time 0.
  absl::Status AdoptAttributes(const TreeReader& lower, bool root_opaque);
  absl::Status SetTimes();

  const std::string& path() const { return path_; }

 private:
  struct Directory {
    struct timespec times[2] = {};
    bool implied = false;
    bool listed = false;
  };

  LayerDirectory(std::string path, Fd root, bool overlay_form)
      : path_(std::move(path)), root_(std::move(root)), overlay_form_(overlay_form) {}
  absl::StatusOr<Fd> OpenDirectory(const std::string& path, int* error) const;
  absl::StatusOr<Fd> MakeDirectories(const std::string& path, GivesWay gives_way);
  absl::Status Note(const std::string& path, int fd, bool implied);
  // Whether a directory around `path` hides what the layers below have there. `known`: answers.
  bool IsHidden(absl::string_view path, absl::flat_hash_map<std::string, bool>* known) const;
  absl::StatusOr<Parent> Keep(std::string asked, std::string real, Fd fd, bool implied);

  std::string path_;
  Fd root_;
  bool overlay_form_;
  absl::flat_hash_map<std::string, Directory> directories_;  // by real path
  // The last parent that was found: entries of a directory mostly follow each other.
  std::string asked_;
  Parent last_;
  Fd last_fd_;
};

}  // namespace kiln::store
