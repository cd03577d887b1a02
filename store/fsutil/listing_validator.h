#pragma once

#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "store/fsutil/packet.h"

namespace kiln::fsutil {

// Compares whole paths so that the order is that of a depth-first walk with siblings in byte order:
// '/' sorts below every other byte. Negative, zero, positive.
int ComparePath(absl::string_view a, absl::string_view b);

// Holds a listing to the rules of the protocol: clean relative paths, depth-first order, a
// directory before its content, hard links only to what the listing named before.
// Not thread-safe.
class ListingValidator {
 public:
  // kInvalidArgument names the path and the rule it breaks.
  absl::Status Check(const Stat& stat);

 private:
  // An open directory and the name of its child that came last.
  struct Level {
    std::string dir;  // "" for the root
    std::string last;
  };

  absl::Status CheckOrder(absl::string_view dir, absl::string_view base, const Stat& stat);

  std::vector<Level> levels_ = {Level{}};
  absl::flat_hash_set<std::string> link_targets_;
};

}  // namespace kiln::fsutil
