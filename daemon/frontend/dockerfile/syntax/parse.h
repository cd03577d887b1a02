#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/frontend/dockerfile/syntax/document.h"
#include "daemon/frontend/dockerfile/syntax/instruction.h"
#include "daemon/frontend/dockerfile/syntax/location.h"

namespace kiln::daemon::dockerfile {

// Reads a Dockerfile: physical lines, directives, continuations and here-documents first, over the
// whole file, then the instructions. Its errors are those of both steps in this order, of code
// kInvalidArgument and with locations (location.h):
//   - `file with no instructions`, and what makes a line unreadable
//   - `dockerfile parse error on line N: …` for an instruction that is not valid
//   - `no build stage in current context`
// No stage at all is no error here: such a file cannot be built, but its targets can be listed.
//
// On an error of the second step `document` holds the instructions before the faulty one, and of a
// faulty FROM or MAINTAINER what linting needs, so that findings can still be told; on one of the
// first step nothing.
// Linear time; any bytes are safe input. Thread-safe.
absl::Status Parse(absl::string_view data, Document* document);

// The instruction of an ONBUILD trigger (Onbuild::trigger). `from` is the FROM that pulls it in:
// where errors are shown. Always the backslash as escape character.
absl::StatusOr<Instruction> ParseTrigger(absl::string_view trigger, const LineRange& from);

}  // namespace kiln::daemon::dockerfile
