#pragma once

#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/base/cancel.h"
#include "store/tree.h"
#include "store/tree_writer.h"

namespace pb {
class FileAction;
}

namespace kiln::daemon {

// The tree of an op input, for looking users up.
using InputTree = std::function<absl::StatusOr<store::TreeReader>(int input)>;

// Does what one action of a file op asks for (BuildKit FileOp, actions) in the tree of `to`.
// `secondary` is where a copy takes from.
absl::Status RunFileAction(const pb::FileAction& action, store::TreeWriter& to,
                           const store::TreeReader& secondary, const InputTree& input_tree,
                           const CancelToken& cancel);

}  // namespace kiln::daemon
