#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/llb/state.h"

namespace kiln::client::llb {

// The result of a serialized pb.Definition, to build upon. Its ops keep their bytes, and so their
// digests. An empty definition is the empty file system. kInvalidArgument names what is wrong.
absl::StatusOr<State> FromDefinition(absl::string_view definition);

}  // namespace kiln::client::llb
