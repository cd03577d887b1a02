#include <utility>
#include <vector>

#include "client/llb/state.h"
#include "client/llb/vertex.h"
#include "proto/buildkit/ops.pb.h"
#include "store/base/status_macros.h"

namespace kiln::client::llb {
namespace {

class MergeVertex : public Vertex {
 public:
  MergeVertex(std::vector<Output> inputs, Constraints constraints)
      : inputs_(std::move(inputs)), constraints_(std::move(constraints)) {}
  ~MergeVertex() override { Release(std::move(inputs_)); }

  std::vector<Output> Inputs() const override { return inputs_; }

  absl::StatusOr<MarshalledOp> Marshal(const MarshalContext& context) const override {
    pb::Op op;
    OpMetadata metadata = FillConstraints(context, constraints_, &op);
    op.clear_platform();
    pb::MergeOp* merge = op.mutable_merge();
    for (const Output& input : inputs_) {  // one op input each, equal ones too
      merge->add_inputs()->set_input(op.inputs_size());
      KILN_RETURN_IF_ERROR(context.FillInput(input, op.add_inputs()));
    }
    return FinishOp(std::move(op), std::move(metadata));
  }

 private:
  std::vector<Output> inputs_;
  const Constraints constraints_;
};

class DiffVertex : public Vertex {
 public:
  DiffVertex(Output lower, Output upper, Constraints constraints)
      : lower_(std::move(lower)), upper_(std::move(upper)), constraints_(std::move(constraints)) {}
  ~DiffVertex() override {
    std::vector<Output> inputs = {std::move(lower_), std::move(upper_)};
    Release(std::move(inputs));
  }

  std::vector<Output> Inputs() const override {
    std::vector<Output> inputs;
    if (lower_) inputs.push_back(lower_);
    if (upper_) inputs.push_back(upper_);
    return inputs;
  }

  absl::StatusOr<MarshalledOp> Marshal(const MarshalContext& context) const override {
    pb::Op op;
    OpMetadata metadata = FillConstraints(context, constraints_, &op);
    op.clear_platform();
    pb::DiffOp* diff = op.mutable_diff();
    KILN_ASSIGN_OR_RETURN(const int64_t lower, Add(context, lower_, &op));
    KILN_ASSIGN_OR_RETURN(const int64_t upper, Add(context, upper_, &op));
    diff->mutable_lower()->set_input(lower);
    diff->mutable_upper()->set_input(upper);
    return FinishOp(std::move(op), std::move(metadata));
  }

 private:
  // The op input's index, or -1 for scratch.
  static absl::StatusOr<int64_t> Add(const MarshalContext& context, const Output& from,
                                     pb::Op* op) {
    if (!from) return -1;
    KILN_RETURN_IF_ERROR(context.FillInput(from, op->add_inputs()));
    return op->inputs_size() - 1;
  }

  Output lower_, upper_;
  const Constraints constraints_;
};

}  // namespace

State Merge(const std::vector<State>& inputs, Constraints constraints) {
  std::vector<Output> outputs;
  const State* first = nullptr;
  for (const State& input : inputs) {
    if (input.scratch()) continue;
    if (first == nullptr) first = &input;
    outputs.push_back(input.output());
  }
  if (first == nullptr) return State();
  if (outputs.size() == 1) return *first;
  constraints.metadata.caps.insert("mergeop");
  return first->WithOutput(
      {std::make_shared<MergeVertex>(std::move(outputs), std::move(constraints)), 0, {}});
}

State Diff(const State& lower, const State& upper, Constraints constraints) {
  if (lower.scratch()) return upper;
  constraints.metadata.caps.insert("diffop");
  return lower.WithOutput(
      {std::make_shared<DiffVertex>(lower.output(), upper.output(), std::move(constraints)),
       0,
       {}});
}

}  // namespace kiln::client::llb
