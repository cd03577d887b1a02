#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace pb {
class Op;
}

namespace kiln::daemon {

struct ExecPlatform {
  std::string os, architecture, variant, os_version;
  std::vector<std::string> os_features;
};

// The op's platform with the names that Go uses (x86_64 is amd64, …), or the machine's.
ExecPlatform PlatformOf(const pb::Op& op);

// How one input takes part in the cache key (llb.md 3.2).
struct ExecInputKey {
  // "/"-rooted, one for each mount of the input in mount order; empty: no mount uses it.
  std::vector<std::string> selectors;
  // The files decide: no mount of the input lets unselected files into an output.
  bool by_content = false;

  // Dependency selector: binds the selectors to their mounts. "" without selectors.
  std::string SelectorDigest() const;
};

struct ExecKeys {
  std::string op_digest;
  std::vector<ExecInputKey> inputs;
};

// The cache map of an exec: digest of Go's JSON text of the op after the edits of llb.md 2.9, and
// the inputs' part. kInvalidArgument "invalid mount cache content …" where the op asks for content
// keys that would be wrong.
absl::StatusOr<ExecKeys> MakeExecKeys(const pb::Op& op);

}  // namespace kiln::daemon
