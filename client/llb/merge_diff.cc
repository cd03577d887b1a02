#include <utility>
#include <vector>

#include "client/llb/op_draft.h"
#include "client/llb/state.h"
#include "client/llb/vertex.h"
#include "store/base/status_macros.h"

namespace kiln::client::llb {
namespace {

class MergeVertex : public Vertex {
 public:
  MergeVertex(std::vector<Output> inputs, Constraints constraints)
      : inputs_(std::move(inputs)), traits_(std::move(constraints)) {}
  ~MergeVertex() override { Release(inputs_); }

  Inputs inputs() const override { return VerticesOf(inputs_); }

  absl::StatusOr<Digest> Write(GraphWriter& graph) const override {
    OpDraft op(graph);
    for (const Output& input : inputs_)  // one op input each, equal ones too
      KILN_RETURN_IF_ERROR(op.AppendInput(input).status());
    return op.Finish(OpKind::kMerge, OnPlatform::kNo, traits_, {"mergeop"}, [&](WireWriter& merge) {
      for (int64_t i = 0; i < op.inputs(); ++i) merge.Message(1, [&] { merge.Number(1, i); });
    });
  }

 private:
  std::vector<Output> inputs_;
  const OpTraits traits_;
};

class DiffVertex : public Vertex {
 public:
  DiffVertex(Output lower, Output upper, Constraints constraints)
      : lower_(std::move(lower)), upper_(std::move(upper)), traits_(std::move(constraints)) {}
  ~DiffVertex() override {
    Release(std::move(lower_));
    Release(std::move(upper_));
  }

  Inputs inputs() const override {
    Inputs inputs;
    if (lower_) inputs.push_back(lower_.vertex.get());
    if (upper_) inputs.push_back(upper_.vertex.get());
    return inputs;
  }

  absl::StatusOr<Digest> Write(GraphWriter& graph) const override {
    OpDraft op(graph);
    KILN_ASSIGN_OR_RETURN(const int64_t lower, Add(lower_, op));
    KILN_ASSIGN_OR_RETURN(const int64_t upper, Add(upper_, op));
    return op.Finish(OpKind::kDiff, OnPlatform::kNo, traits_, {"diffop"}, [&](WireWriter& diff) {
      diff.Message(1, [&] { diff.Number(1, lower); });
      diff.Message(2, [&] { diff.Number(1, upper); });
    });
  }

 private:
  // The op input's index, or -1 for scratch.
  static absl::StatusOr<int64_t> Add(const Output& from, OpDraft& op) {
    if (!from) return -1;
    return op.AppendInput(from);
  }

  Output lower_, upper_;
  const OpTraits traits_;
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
  return first->WithOutput(
      {std::make_shared<MergeVertex>(std::move(outputs), std::move(constraints)), 0, {}});
}

State Diff(const State& lower, const State& upper, Constraints constraints) {
  if (lower.scratch()) return upper;
  return lower.WithOutput(
      {std::make_shared<DiffVertex>(lower.output(), upper.output(), std::move(constraints)),
       0,
       {}});
}

}  // namespace kiln::client::llb
