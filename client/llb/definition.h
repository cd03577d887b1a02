#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/llb/constraints.h"
#include "proto/digest.h"

namespace kiln::client::llb {

// A finished graph, as a daemon takes it. The empty definition stands for an empty file system.
struct Definition {
  struct Op {
    Digest digest;
    std::string bytes;  // serialized pb.Op
  };

  // Inputs come before the ops that use them; the last op has one input, the result.
  std::vector<Op> ops;
  std::map<Digest, OpMetadata> metadata;

  bool empty() const { return ops.empty(); }

  // The serialized pb.Definition: what `kiln build` and `buildctl build` read on stdin.
  std::string Serialize() const;
};

}  // namespace kiln::client::llb
