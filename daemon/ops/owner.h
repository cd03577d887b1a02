#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/tree.h"

namespace kiln::daemon {

struct Owner {
  uint32_t uid = 0, gid = 0;
};

// Looks a name up in /etc/passwd, or /etc/group, of a tree. nullopt when the name or the file is
// not there (BuildKit takes 0 then). kFailedPrecondition when the file is not a regular one,
// kResourceExhausted above 10 MiB.
absl::StatusOr<std::optional<Owner>> FindUser(const store::TreeReader& tree,
                                              absl::string_view name);
absl::StatusOr<std::optional<uint32_t>> FindGroup(const store::TreeReader& tree,
                                                  absl::string_view name);

}  // namespace kiln::daemon
