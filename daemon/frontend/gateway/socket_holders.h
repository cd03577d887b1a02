#pragma once

#include <sys/types.h>

#include <optional>

namespace kiln::daemon {

// Whether one of the descendants of the process behind `pidfd` has the socket open, by its inode.
// nullopt: it has none, or /proc does not tell. Reads a few files of /proc for each of them.
std::optional<bool> DescendantHolds(int pidfd, ino_t socket);

}  // namespace kiln::daemon
