#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/fsutil/directory_cursor.h"
#include "store/fsutil/packet.h"
#include "store/fsutil/receive_target.h"
#include "store/fsutil/receiver.h"

namespace kiln::fsutil {

// Brings a target in line with a listing: walks what is there beside what is announced, both in
// protocol order, removes what is not announced, makes what is new, and says whose content is
// needed. Hard links and directory metadata wait until all content is there. Not thread-safe.
class TreeUpdater {
 public:
  TreeUpdater(ReceiveTarget& target, const ReceiveOptions& options)
      : target_(target), options_(options) {}

  absl::Status Open();

  // The next entry, already checked by ListingValidator; `stat` is mapped in place. True when its
  // content must be asked for.
  absl::StatusOr<bool> Entry(Stat* stat);

  // No more entries: removes what is left of the old tree.
  absl::Status EndListing();

  // All content is written: makes links, completes directories.
  absl::Status Finish();

 private:
  // Steps the old tree on; old_ is its next entry, nullopt at its end.
  absl::Status Advance();
  // Removes old entries that come before `path`. True when old_ has just that path.
  absl::StatusOr<bool> CatchUp(const std::string& path);
  bool Same(const Stat& now) const;
  absl::StatusOr<bool> Make(const Stat& stat);
  absl::Status Remove(const std::string& path);
  // The directory that holds `path` needs its time set again.
  void Touch(const std::string& path);

  ReceiveTarget& target_;
  const ReceiveOptions& options_;
  std::unique_ptr<DirectoryCursor> cursor_;  // null: nothing to compare with
  bool fresh_ = false;                       // old_ is valid
  std::optional<Stat> old_;
  std::vector<Stat> links_;
  // Files of the old tree whose content is replaced: links to them must be made anew even where
  // their own metadata agree.
  absl::flat_hash_set<std::string> replaced_;

  struct Directory {
    Stat stat;
    bool dirty;  // to be completed in Finish
  };
  std::vector<Directory> directories_;                        // in listing order
  absl::flat_hash_map<std::string, size_t> directory_index_;  // by path; empty without an old tree
};

}  // namespace kiln::fsutil
