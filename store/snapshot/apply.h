#pragma once

#include <sys/stat.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "store/snapshot/changes.h"
#include "store/tree.h"

namespace kiln::store {

struct ApplyOptions {
  // Regular files and symlinks become second names of their source where the file system allows.
  // Only for a target that is never written in place.
  bool hardlink = true;
  // What lies below the target in overlayfs. Deletions leave whiteouts exactly where something
  // would show through otherwise.
  Layers lower = {};
  // Leave a whiteout for every deletion: for a layer whose base is not known yet.
  bool keep_all_whiteouts = false;
};

// TreeApplier carries out changes in one directory (llb.md 5.4 rule 2): later ones win; a directory
// over a directory merges, anything else replaces. Changes must come parents first. Not
// thread-safe. Cost: O(1) system calls for each change, and for each deletion O(what it removes).
class TreeApplier {
 public:
  TreeApplier(std::string target, ApplyOptions options);

  absl::Status Apply(const Change& change);
  // What follows comes from another tree: equal inodes no longer mean one file.
  void NextSource() { ++source_; }
  // Sets the times of the directories, which every change in them disturbed. Call once, at the end.
  absl::Status Finish();

 private:
  absl::Status PutDirectory(const Change& change, const std::string& path);
  absl::Status PutFile(const Change& change, const std::string& path);
  absl::StatusOr<bool> LinkFile(const Change& change, const std::string& path);
  absl::Status Delete(const Change& change, const std::string& path);
  // True when the stack still has something at `tree_path`, after the target lost it.
  absl::StatusOr<bool> ShowsThrough(const std::string& tree_path) const;

  const std::string target_;
  const ApplyOptions options_;
  const TreeReader whole_;  // lower and target
  absl::flat_hash_map<std::string, struct stat> directories_;
  // Where files with several names came from and where they are now, by device and inode. Two
  // names of an inode in a layer mean hard links, so an inode that trees merely share is taken
  // over by a link only once.
  struct Taken {
    int source = 0, layer = 0;
    std::string path;
  };
  absl::flat_hash_map<std::pair<dev_t, ino_t>, Taken> taken_;
  int source_ = 0;
};

}  // namespace kiln::store
