#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/ops/owner.h"
#include "daemon/ops/symbolic_mode.h"
#include "store/base/cancel.h"
#include "store/tree.h"
#include "store/tree_writer.h"

namespace kiln::daemon {

// A pb.FileActionCopy as plain values, the owner looked up.
struct CopyRequest {
  std::string src, dest;
  std::optional<Owner> owner;
  std::optional<uint32_t> mode;               // 07777 bits
  std::optional<SymbolicMode> symbolic_mode;  // wins over `mode`
  std::optional<absl::Time> time;
  bool follow_symlink = false;
  bool contents_only = false;  // dirCopyContents
  bool unpack = false;         // attemptUnpackDockerCompatibility
  bool create_dest = false;
  bool wildcard = false, allow_empty_wildcard = false;
  bool replace_existing = false;  // alwaysReplaceExistingDestPaths
  std::vector<std::string> include_patterns, exclude_patterns;
};

// Copies with the placement rules of `cp -a` (BuildKit FileActionCopy). Both paths are resolved
// inside their trees and never leave them. Errors name paths inside the trees.
absl::Status CopyTree(const store::TreeReader& from, store::TreeWriter& to,
                      const CopyRequest& request, const CancelToken& cancel);

// Paths matching `pattern`, its parts before the first wildcard resolved, in lexical order by
// directory; a directory that matches is not searched. Without wildcards: the clean path itself.
absl::StatusOr<std::vector<std::string>> ResolveWildcards(const store::TreeReader& tree,
                                                          absl::string_view pattern);

// Makes the missing directories of `path` (resolved) with these attributes; existing ones stay as
// they are. kFailedPrecondition "P: not a directory" when something else is in the way. Returns
// what was made, parents first.
absl::StatusOr<std::vector<std::string>> MakeDirs(store::TreeWriter& to, absl::string_view path,
                                                  const store::Attributes& attributes);

}  // namespace kiln::daemon
