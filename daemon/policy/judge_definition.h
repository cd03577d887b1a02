#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/policy/source_judge.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// A serialized pb.Definition whose sources are as `judge` wants them. Ops that stand on a changed
// one get new digests, and metadata and source locations move along. Unchanged, it keeps its bytes;
// what is malformed is left for the one who loads it. Errors are those of the judge. Linear;
// blocks.
absl::StatusOr<std::string> JudgeDefinition(absl::string_view definition, const SourceJudge& judge,
                                            const CancelToken& cancel);

}  // namespace kiln::daemon
