#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/source/source.h"
#include "solver/op.h"
#include "store/ref_store.h"

namespace pb {
class Op;
}

namespace kiln::daemon {

// Makers of the ops that work on trees alone. `op` is consumed; `refs` outlives the op.
// kInvalidArgument names what is malformed.
absl::StatusOr<std::shared_ptr<solver::Op>> MakeFileOp(store::RefStore* refs, pb::Op&& op);
absl::StatusOr<std::shared_ptr<solver::Op>> MakeMergeOp(store::RefStore* refs, pb::Op&& op);
absl::StatusOr<std::shared_ptr<solver::Op>> MakeDiffOp(store::RefStore* refs, pb::Op&& op);
absl::StatusOr<std::shared_ptr<solver::Op>> MakePassthroughOp(pb::Op&& op);
// Yields the definition in its input as ExecResult::nested_definition.
absl::StatusOr<std::shared_ptr<solver::Op>> MakeBuildOp(pb::Op&& op);

// `on_pin` is told what the source resolved to; may be null.
std::shared_ptr<solver::Op> MakeSourceOp(
    std::shared_ptr<SourceInstance> source,
    std::function<void(const Digest& vertex, const std::string& pin)> on_pin = nullptr);

// An op that loads but cannot be solved: `why` is the answer to everything.
std::shared_ptr<solver::Op> MakeFailingOp(absl::Status why);

}  // namespace kiln::daemon
