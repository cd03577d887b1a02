#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "proto/solve_detail.h"
#include "store/ref_store.h"

namespace kiln::daemon {

// The trees of a step that failed, as a debugging client may mount them (proto/solve_detail.h).
// nullptr: none, or the empty tree.
struct FailedStep {
  std::vector<store::RefPtr> inputs = {}, mounts = {};
  std::optional<int64_t> file_index = {}, cache_index = {};
};

// Hangs the trees on the error, which keeps them: they go with its last copy. Nothing of it leaves
// the daemon by itself. No effect on OK and on cancellation.
void AttachFailedStep(FailedStep step, absl::Status* status);

// What was attached, its ids those of refs; nothing by default.
std::optional<SolveDetail> FailedStepOf(const absl::Status& status);

// Says what the failed step was, for errors of every kind of op, with or without trees.
void DescribeFailedStep(std::string op, std::map<std::string, std::string> description,
                        absl::Status* status);

// Without what was attached.
absl::Status WithoutFailedStep(absl::Status status);

}  // namespace kiln::daemon
