#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/frontend/dockerfile/syntax/instruction.h"
#include "daemon/frontend/dockerfile/syntax/lines.h"

// The second step of reading a Dockerfile: what one instruction says. `line` gives up its strings.
// Errors are kInvalidArgument without location or prefix. Within an instruction the first error
// wins in the order that BuildKit checks: usually flags before arguments, but not always.
namespace kiln::daemon::dockerfile {

// Any instruction but FROM. The unknown ones fail here, with a suggestion.
absl::StatusOr<InstructionBody> ParseBody(LogicalLine* line);

absl::StatusOr<Run> ParseRun(LogicalLine* line);
absl::StatusOr<Copy> ParseCopy(LogicalLine* line);
absl::StatusOr<Add> ParseAdd(LogicalLine* line);
absl::StatusOr<Healthcheck> ParseHealthcheck(LogicalLine* line);

// The arguments of RUN, CMD and ENTRYPOINT.
CommandLine TakeCommand(SplitInstruction* split);

// The remainder of the first comment "<name> remainder"; "" when there is none.
std::string DescriptionOf(absl::string_view name, const std::vector<std::string>& comments);

// "X requires …"
absl::Status NeedsOneArgument(absl::string_view instruction);
absl::Status NeedsArguments(absl::string_view instruction);

}  // namespace kiln::daemon::dockerfile
