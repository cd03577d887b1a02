#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/fsutil/packet.h"
#include "store/tree.h"

namespace kiln::daemon {

// Reading files of a tree for a frontend (wire.md 4.2). Links never lead out of the tree. Errors
// end in "no such file or directory" for what is missing. All block.

// The bytes of a regular file; `length` -1 = to the end. kResourceExhausted above 16 MiB.
absl::StatusOr<std::string> ReadTreeFile(const store::Layers& layers, absl::string_view path,
                                         int64_t offset, int64_t length);

// One level, in byte order; `path` of each is its name. `include_pattern` as in .dockerignore
// files, "" = all.
absl::StatusOr<std::vector<fsutil::Stat>> ReadTreeDir(const store::Layers& layers,
                                                      absl::string_view path,
                                                      const std::string& include_pattern);

// Follows links; `path` of the answer is the base name.
absl::StatusOr<fsutil::Stat> StatTreeFile(const store::Layers& layers, absl::string_view path);

// The same for one mount of a container: a link that is absolute or leads out of the mount is told
// as itself, since what it means depends on the other mounts. `path` is the base name asked for.
absl::StatusOr<fsutil::Stat> StatMountFile(const store::Layers& layers, absl::string_view path);

}  // namespace kiln::daemon
