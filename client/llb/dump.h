#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::client::llb {

// The ops of a serialized pb.Definition as `buildctl debug dump-llb` prints them: a JSON object per
// line, in order, with digest and metadata. kInvalidArgument when the bytes are no definition.
absl::StatusOr<std::string> DumpDefinition(absl::string_view definition);

}  // namespace kiln::client::llb
