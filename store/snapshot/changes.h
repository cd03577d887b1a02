#pragma once

#include <sys/stat.h>

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "store/base/cancel.h"
#include "store/tree.h"

namespace kiln::store {

// One step from a tree to another (llb.md 5.4 rule 1).
struct Change {
  enum class Kind {
    kPut,     // the entry is there now, with this content and metadata
    kDelete,  // the entry, with all below it, is gone
    kSame,    // a name of a file with several that did not change (DiffOptions)
  };
  Kind kind = Kind::kPut;
  std::string path;       // in the tree: "/", "/a/b"
  std::string host_path;  // kPut, kSame: where the entry can be read
  struct stat st = {};    // kPut, kSame
  bool opaque = false;    // kPut of a directory: nothing of what was there before shows through
  int layer = 0;  // kPut, kSame: equal inodes are one file only within a layer (tree.h, Entry)
};

// Takes changes as they come; an error ends the walk and is its result.
using ChangeSink = std::function<absl::Status(const Change&)>;

// The changes that one layer in overlayfs form makes. A directory comes before what is in it, the
// root first. O(entries of the layer).
absl::Status LayerChanges(const std::string& layer, const ChangeSink& sink,
                          const CancelToken& cancel = {});

// The changes from `lower` to `upper`, found by walking both. Parents of a change come along with
// upper's metadata; of two equal trees nothing comes. Compared are mode, owner, device,
// security.capability, and of what is no directory size and modification time; where the times
// carry no nanoseconds, the content too (as containerd's continuity does). O(entries of both).
absl::Status TreeChanges(const TreeReader& lower, const TreeReader& upper, const ChangeSink& sink,
                         const CancelToken& cancel = {});

struct DiffOptions {
  // The directory in overlayfs form that, laid upon `lower`, gives `upper`. Then only what it lists
  // is looked at: O(its entries), and O(entries of both) below its opaque directories. "": all.
  std::string top_layer = {};
  // Also tell the unchanged names of files that have several, as kSame.
  bool report_links = false;
};

// TreeChanges in the order of a walk, names sorted in each directory.
absl::Status TreeChanges(const TreeReader& lower, const TreeReader& upper,
                         const DiffOptions& options, const ChangeSink& sink,
                         const CancelToken& cancel);

}  // namespace kiln::store
