#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "daemon/executor/rootfs.h"

namespace kiln::daemon {

// The mount targets that do not exist in a step's root and are made for it (llb.md 2.2.4, stub
// removal). Making them gives the parents back their times, so that the step does not see them as
// changed; Remove takes away what is still empty, again without a trace in the parents, so that
// the layer of a step that did nothing is empty. Not thread-safe.
class MountStubs {
 public:
  // `recursive`: missing parents made on the way are removed, too.
  MountStubs(const Rootfs& rootfs, bool recursive) : rootfs_(rootfs), recursive_(recursive) {}

  // A target of type directory or file, given as the step names it. Does nothing when it exists or
  // when an earlier target covers it. What the tree's content makes impossible is left to the OCI
  // runtime, which then reports it.
  absl::Status Add(absl::string_view target, bool directory);

  // A directory where the OCI runtime mounts something of its own. It stays in the tree, and what
  // it is must not depend on the runtime: crun would make it sticky.
  absl::Status AddLasting(absl::string_view target);

  void Remove();

 private:
  absl::Status Make(const std::string& path, bool directory);

  const Rootfs& rootfs_;
  const bool recursive_;
  std::vector<std::string> targets_;  // resolved, in order
  std::vector<std::string> made_;     // resolved, parents first
};

}  // namespace kiln::daemon
