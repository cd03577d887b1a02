#pragma once

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace pb {
class FileOp;
}

namespace kiln::daemon {

// How the actions of a file op hang together (BuildKit FileOp). Indices count the op's inputs
// first, then the actions; -1 is the empty tree.
struct FilePlan {
  int inputs = 0;
  std::vector<int> outputs;  // by output slot: the action that makes it
  std::vector<int> order;    // needed actions, each after those it takes results of
  std::vector<int> uses;     // by action: how many times others take its result
  std::vector<bool> is_output;

  // The result of `action` must be made immutable: it is an output, or several build on it.
  bool RequiresCommit(int action) const {
    return is_output[static_cast<size_t>(action)] || uses[static_cast<size_t>(action)] > 1;
  }
};

// kInvalidArgument with BuildKit's texts for bad indices, missing and duplicate outputs, loops and
// actions without content.
absl::StatusOr<FilePlan> PlanFileOp(const pb::FileOp& op, int inputs);

}  // namespace kiln::daemon
