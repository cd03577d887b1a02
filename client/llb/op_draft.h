#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "client/llb/caps.h"
#include "client/llb/constraints.h"
#include "client/llb/graph_writer.h"
#include "client/llb/vertex.h"
#include "client/llb/wire_writer.h"
#include "proto/digest.h"

namespace kiln::client::llb {

// The fields of pb.Op that say what an op does.
enum class OpKind { kExec = 2, kSource = 3, kFile = 4, kMerge = 6, kDiff = 7 };
enum class OnPlatform { kNo, kYes };  // whether the op depends on it

// The constraints of a vertex as it keeps them: the definitions it is written into share its
// metadata.
struct OpTraits {
  explicit OpTraits(Constraints&& from);

  std::shared_ptr<const Platform> platform;  // null: the default
  std::vector<std::string> worker_filters;
  CapSet caps;
  std::shared_ptr<const OpMetadata> metadata;
};

// An op on its way to its canonical bytes: what it reads is said first, then what it does. Those
// are the bytes of Go's marshaller, which writes members of a oneof after all plain fields.
class OpDraft {
 public:
  explicit OpDraft(GraphWriter& graph) : graph_(graph) {}

  // Returns the index of the input; AddInput that of an equal one where there is one.
  absl::StatusOr<int64_t> AddInput(const Output& output);
  absl::StatusOr<int64_t> AppendInput(const Output& output);
  int64_t inputs() const { return static_cast<int64_t>(inputs_.size()); }

  // Writes the op. Platform, worker constraints and metadata of `own` go over the defaults, `caps`
  // beside its own; `body` writes the message of its kind.
  Digest Finish(OpKind kind, OnPlatform on_platform, const OpTraits& own, CapSet caps,
                absl::FunctionRef<void(WireWriter&)> body) const;
  // Writes the last op of a definition, which just has an input.
  void FinishRoot(const CapSet& caps) const;

 private:
  struct Input {
    Digest digest;
    int64_t index;
  };
  absl::StatusOr<Input> Resolve(const Output& output) const;
  void WriteInputs(WireWriter& op) const;

  GraphWriter& graph_;
  absl::InlinedVector<Input, 4> inputs_;
};

}  // namespace kiln::client::llb
