#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/llb/caps.h"
#include "client/llb/constraints.h"
#include "proto/digest.h"

namespace kiln::client::llb {

// A finished graph, as a daemon takes it. The empty definition stands for an empty file system.
class Definition {
 public:
  struct Op {
    Digest digest;
    CapSet caps;
    std::shared_ptr<const OpMetadata> metadata;  // never null
    size_t begin = 0, size = 0;                  // where in `text`: see Bytes
  };

  // Inputs come before the ops that use them; the last op has one input, the result. Each once.
  const std::vector<Op>& ops() const { return ops_; }
  bool empty() const { return ops_.empty(); }
  // The serialized pb.Op.
  absl::string_view Bytes(const Op& op) const {
    return absl::string_view(text_).substr(op.begin, op.size);
  }

  // The serialized pb.Definition: what `kiln build` and `buildctl build` read on stdin.
  std::string Serialize() const&;
  std::string Serialize() &&;

 private:
  friend class GraphWriter;

  std::string text_;  // the ops, each as an element of pb.Definition.def
  std::vector<Op> ops_;
};

}  // namespace kiln::client::llb
