#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/executor/rootfs.h"

namespace kiln::daemon {

struct ProcessUser {
  uint32_t uid = 0, gid = 0;
  std::vector<uint32_t> groups;  // the primary one first
  std::string home = "/";        // of the uid in /etc/passwd
};

// Who "user", "uid", "user:group", "uid:gid" or "" is in a tree (llb.md 2.2.4): names come from its
// /etc/passwd and /etc/group (regular files of at most 10 MiB, else as if absent). "root" and pairs
// of numbers need no file; the home directory then is "/". kNotFound names an unknown user or
// group.
absl::StatusOr<ProcessUser> ResolveUser(const Rootfs& rootfs, absl::string_view user);

}  // namespace kiln::daemon
