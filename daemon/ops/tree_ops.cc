// The ops that only combine trees: merge, diff, passthrough; and those that hand over to something
// else: source, build.
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/ops/op_digest.h"
#include "daemon/ops/ops.h"
#include "daemon/ops/ref_result.h"
#include "proto/buildkit/ops.pb.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"
#include "store/tree.h"

namespace kiln::daemon {

namespace {

using solver::CacheMap;
using solver::ExecResult;
using solver::OpContext;
using solver::ResultPtr;

constexpr char kDefinitionInput[] = "buildkit.llb.definition";
constexpr char kDefinitionFile[] = "buildkit.llb.definition";
constexpr char kDefinitionFileAttr[] = "llbbuild.filename";
constexpr int64_t kLlbBuilder = -1;
constexpr int64_t kEmpty = -1;

// What these ops have in common: inputs count by definition only, and no slot is taken.
class PlainOp : public solver::Op {
 public:
  PlainOp(std::string digest, int inputs) : digest_(std::move(digest)), inputs_(inputs) {}

  absl::StatusOr<CacheMap> MakeCacheMap(OpContext&, int) override {
    CacheMap map;
    map.op_digest = digest_;
    map.inputs.resize(static_cast<size_t>(inputs_));
    return map;
  }
  bool CheapCacheMap() const override { return true; }
  absl::StatusOr<std::string> ContentDigest(OpContext&, int, const ResultPtr&) override {
    return absl::InternalError("this op has no content keys");
  }
  bool TakesSlot() const override { return false; }

 private:
  const std::string digest_;
  const int inputs_;
};

store::RefOptions OptionsFor(OpContext& context) {
  store::RefOptions options;
  options.description = context.vertex().name;
  return options;
}

class MergeOp final : public PlainOp {
 public:
  MergeOp(store::RefStore* refs, const pb::Op& op)
      : PlainOp(MergeOpDigest(op.merge()), op.inputs_size()), refs_(refs) {
    for (const pb::MergeInput& input : op.merge().inputs())
      order_.push_back(static_cast<size_t>(input.input()));
  }

  absl::StatusOr<ExecResult> Execute(OpContext& context,
                                     absl::Span<const ResultPtr> inputs) override {
    std::vector<store::RefPtr> trees;
    for (const size_t input : order_) {
      store::RefPtr ref = RefOf(inputs[input]);
      if (ref != nullptr) trees.push_back(std::move(ref));
    }
    ExecResult result;
    if (trees.size() < 2) {
      result.outputs.push_back(MakeResult(trees.empty() ? nullptr : trees[0]));
      return result;
    }
    KILN_ASSIGN_OR_RETURN(store::RefPtr merged, refs_->Merge(trees, OptionsFor(context)));
    result.outputs.push_back(MakeResult(std::move(merged)));
    return result;
  }

 private:
  store::RefStore* const refs_;
  std::vector<size_t> order_;
};

class DiffOp final : public PlainOp {
 public:
  DiffOp(store::RefStore* refs, const pb::Op& op)
      : PlainOp(DiffOpDigest(op.diff()), op.inputs_size()),
        refs_(refs),
        lower_(op.diff().lower().input()),
        upper_(op.diff().upper().input()) {}

  absl::StatusOr<ExecResult> Execute(OpContext& context,
                                     absl::Span<const ResultPtr> inputs) override {
    // The sides that are there take the inputs in order.
    size_t next = 0;
    const store::RefPtr lower = lower_ == kEmpty ? nullptr : RefOf(inputs[next++]);
    const store::RefPtr upper = upper_ == kEmpty ? nullptr : RefOf(inputs[next++]);
    ExecResult result;
    if (lower == nullptr) {
      result.outputs.push_back(MakeResult(upper));
    } else if (upper != nullptr && lower->id() == upper->id()) {
      result.outputs.push_back(MakeResult(nullptr));
    } else {
      KILN_ASSIGN_OR_RETURN(store::RefPtr diff, refs_->Diff(lower, upper, OptionsFor(context)));
      result.outputs.push_back(MakeResult(std::move(diff)));
    }
    return result;
  }

 private:
  store::RefStore* const refs_;
  const int64_t lower_, upper_;
};

class PassthroughOp final : public PlainOp {
 public:
  explicit PassthroughOp(const pb::Op& op)
      : PlainOp(PassthroughOpDigest(op.passthrough()), op.inputs_size()),
        outputs_(op.passthrough().outputs().begin(), op.passthrough().outputs().end()) {}

  absl::StatusOr<ExecResult> Execute(OpContext&, absl::Span<const ResultPtr> inputs) override {
    ExecResult result;
    for (const int64_t input : outputs_)
      result.outputs.push_back(inputs[static_cast<size_t>(input)]);
    return result;
  }

 private:
  const std::vector<int64_t> outputs_;
};

class BuildOp final : public PlainOp {
 public:
  BuildOp(const pb::Op& op, size_t input, std::string file)
      : PlainOp(BuildOpDigest(op.build()), op.inputs_size()),
        input_(input),
        file_(std::move(file)) {}

  absl::StatusOr<ExecResult> Execute(OpContext& context,
                                     absl::Span<const ResultPtr> inputs) override {
    const store::RefPtr ref = RefOf(inputs[input_]);
    store::Layers layers;
    if (ref != nullptr) {
      KILN_ASSIGN_OR_RETURN(layers, ref->Materialize(context.cancel()));
    }
    const store::TreeReader tree(layers);
    const std::string doing = absl::StrCat("failed to open ", file_);
    KILN_ASSIGN_OR_RETURN(const std::string path, Annotate(tree.Resolve(file_, true), doing));
    KILN_ASSIGN_OR_RETURN(const store::Entry entry, Annotate(tree.Lstat(path), doing));
    if (!S_ISREG(entry.st.st_mode))
      return absl::FailedPreconditionError(absl::StrCat(file_, " is not a regular file"));
    KILN_ASSIGN_OR_RETURN(const Fd fd, Annotate(tree.Open(path), doing));
    KILN_ASSIGN_OR_RETURN(std::string bytes, Annotate(ReadAll(fd.get()), file_));
    pb::Definition definition;
    if (!definition.ParseFromString(bytes))
      return absl::InvalidArgumentError(absl::StrCat(file_, " is not an LLB definition"));
    ExecResult result;
    result.nested_definition = std::move(bytes);
    return result;
  }

 private:
  const size_t input_;
  const std::string file_;
};

class SourceOp final : public solver::Op {
 public:
  using PinListener = std::function<void(const Digest& vertex, const std::string& pin)>;
  SourceOp(std::shared_ptr<SourceInstance> source, PinListener on_pin)
      : source_(std::move(source)), on_pin_(std::move(on_pin)) {}

  absl::StatusOr<CacheMap> MakeCacheMap(OpContext& context, int index) override {
    KILN_ASSIGN_OR_RETURN(const SourceKey key, source_->Key(context, index));
    if (on_pin_ != nullptr && !key.pin.empty()) on_pin_(context.vertex().digest, key.pin);
    CacheMap map;
    map.op_digest = SourceOpDigest(key.key);
    map.final = key.done;
    return map;
  }
  absl::StatusOr<std::string> ContentDigest(OpContext&, int, const ResultPtr&) override {
    return absl::InternalError("a source has no inputs");
  }
  absl::StatusOr<ExecResult> Execute(OpContext& context, absl::Span<const ResultPtr>) override {
    KILN_ASSIGN_OR_RETURN(store::RefPtr ref, source_->Snapshot(context));
    ExecResult result;
    result.outputs.push_back(MakeResult(std::move(ref)));
    return result;
  }
  bool TakesSlot() const override { return true; }
  bool CheapCacheMap() const override { return source_->CheapKey(); }
  bool PerSession() const override { return source_->PerSession(); }
  bool RunsEarly() const override { return source_->RunsEarly(); }

 private:
  const std::shared_ptr<SourceInstance> source_;
  const PinListener on_pin_;
};

class FailingOp final : public solver::Op {
 public:
  explicit FailingOp(absl::Status why) : why_(std::move(why)) {}
  absl::StatusOr<CacheMap> MakeCacheMap(OpContext&, int) override { return why_; }
  absl::StatusOr<std::string> ContentDigest(OpContext&, int, const ResultPtr&) override {
    return why_;
  }
  absl::StatusOr<ExecResult> Execute(OpContext&, absl::Span<const ResultPtr>) override {
    return why_;
  }
  bool TakesSlot() const override { return false; }

 private:
  const absl::Status why_;
};

bool InRange(int64_t index, int count) { return index >= 0 && index < count; }

}  // namespace

absl::StatusOr<std::shared_ptr<solver::Op>> MakeMergeOp(store::RefStore* refs, pb::Op&& op) {
  if (op.merge().inputs_size() != op.inputs_size())
    return absl::InvalidArgumentError(absl::StrCat("invalid merge op: ", op.merge().inputs_size(),
                                                   " merge inputs for ", op.inputs_size(),
                                                   " inputs"));
  for (const pb::MergeInput& input : op.merge().inputs()) {
    if (!InRange(input.input(), op.inputs_size()))
      return absl::InvalidArgumentError(absl::StrCat("invalid merge input index ", input.input()));
  }
  return std::make_shared<MergeOp>(refs, op);
}

absl::StatusOr<std::shared_ptr<solver::Op>> MakeDiffOp(store::RefStore* refs, pb::Op&& op) {
  if (!op.diff().has_lower() || !op.diff().has_upper())
    return absl::InvalidArgumentError("invalid diff op with nil lower or upper input");
  int sides = 0;
  for (const int64_t input : {op.diff().lower().input(), op.diff().upper().input()}) {
    if (input == kEmpty) continue;
    ++sides;
    if (!InRange(input, op.inputs_size()))
      return absl::InvalidArgumentError(absl::StrCat("invalid diff input index ", input));
  }
  if (sides != op.inputs_size())
    return absl::InvalidArgumentError(
        absl::StrCat("invalid diff op: ", sides, " sides for ", op.inputs_size(), " inputs"));
  return std::make_shared<DiffOp>(refs, op);
}

absl::StatusOr<std::shared_ptr<solver::Op>> MakePassthroughOp(pb::Op&& op) {
  if (op.passthrough().id().empty())
    return absl::InvalidArgumentError("invalid passthrough op with no id");
  if (op.passthrough().outputs_size() == 0)
    return absl::InvalidArgumentError("invalid passthrough op with no outputs");
  for (const int64_t output : op.passthrough().outputs()) {
    if (!InRange(output, op.inputs_size()))
      return absl::InvalidArgumentError(
          absl::StrCat("invalid passthrough output input index ", output));
  }
  return std::make_shared<PassthroughOp>(op);
}

absl::StatusOr<std::shared_ptr<solver::Op>> MakeBuildOp(pb::Op&& op) {
  const pb::BuildOp& build = op.build();
  // Both are found when the op runs in BuildKit; here the definition is refused.
  if (build.builder() != kLlbBuilder)
    return absl::InvalidArgumentError("only LLB builder is currently allowed");
  const auto input = build.inputs().find(kDefinitionInput);
  if (input == build.inputs().end())
    return absl::InvalidArgumentError(
        absl::StrCat("no llb definition input ", kDefinitionInput, " found"));
  for (const auto& [name, value] : build.inputs()) {
    if (!InRange(value.input(), op.inputs_size()))
      return absl::InvalidArgumentError(
          absl::StrCat("invalid index ", value.input(), " of build input ", name));
  }
  const auto file = build.attrs().find(kDefinitionFileAttr);
  return std::make_shared<BuildOp>(
      op, static_cast<size_t>(input->second.input()),
      file == build.attrs().end() ? std::string(kDefinitionFile) : file->second);
}

std::shared_ptr<solver::Op> MakeSourceOp(
    std::shared_ptr<SourceInstance> source,
    std::function<void(const Digest& vertex, const std::string& pin)> on_pin) {
  return std::make_shared<SourceOp>(std::move(source), std::move(on_pin));
}

std::shared_ptr<solver::Op> MakeFailingOp(absl::Status why) {
  return std::make_shared<FailingOp>(std::move(why));
}

}  // namespace kiln::daemon
