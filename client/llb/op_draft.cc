#include "client/llb/op_draft.h"

#include <string>

#include "store/base/check.h"
#include "store/base/status_macros.h"

namespace kiln::client::llb {
namespace {

constexpr size_t kKeptBytes = 64 << 10;

// Where ops are written, one after the other: each then gets a string of just its length.
WireWriter& Scratch() {
  static thread_local WireWriter scratch;
  if (scratch.text().capacity() > kKeptBytes) scratch = WireWriter();
  scratch.Clear();
  return scratch;
}

void WritePlatform(const Platform& platform, WireWriter& op) {
  op.Message(10, [&] {
    op.Text(1, platform.architecture).Text(2, platform.os).Text(3, platform.variant);
    op.Text(4, platform.os_version);
    for (const std::string& feature : platform.os_features) op.Item(5, feature);
  });
}

MarshalledOp Done(const WireWriter& op, OpMetadata metadata) {
  MarshalledOp done;
  done.bytes = op.text();
  done.digest = Digest::Of(done.bytes);
  done.metadata = std::move(metadata);
  return done;
}

}  // namespace

absl::StatusOr<OpDraft::Input> OpDraft::Resolve(const Output& output) const {
  const Digest* digest = context_.Find(output.vertex.get());
  KILN_CHECK(digest != nullptr);
  KILN_ASSIGN_OR_RETURN(const int64_t index, output.vertex->OutputIndex(output.slot));
  return Input{*digest, index};
}

absl::StatusOr<int64_t> OpDraft::AddInput(const Output& output) {
  KILN_ASSIGN_OR_RETURN(const Input input, Resolve(output));
  for (size_t i = 0; i < inputs_.size(); ++i) {
    if (inputs_[i].digest == input.digest && inputs_[i].index == input.index)
      return static_cast<int64_t>(i);
  }
  inputs_.push_back(input);
  return inputs() - 1;
}

absl::StatusOr<int64_t> OpDraft::AppendInput(const Output& output) {
  KILN_ASSIGN_OR_RETURN(const Input input, Resolve(output));
  inputs_.push_back(input);
  return inputs() - 1;
}

void OpDraft::WriteInputs(WireWriter& op) const {
  for (const Input& input : inputs_)
    op.Message(1, [&] { op.Text(1, input.digest.ToString()).Number(2, input.index); });
}

MarshalledOp OpDraft::Finish(OpKind kind, OnPlatform on_platform, Constraints own,
                             absl::FunctionRef<void(WireWriter&)> body) const {
  const Constraints& defaults = context_.defaults();
  WireWriter& op = Scratch();
  WriteInputs(op);
  if (on_platform == OnPlatform::kYes) {
    WritePlatform(own.platform        ? *own.platform
                  : defaults.platform ? *defaults.platform
                                      : HostPlatform(),
                  op);
  }
  op.Message(11, [&] {
    for (const std::string& filter : defaults.worker_filters) op.Item(1, filter);
    for (const std::string& filter : own.worker_filters) op.Item(1, filter);
  });
  op.Message(static_cast<int>(kind), [&] { body(op); });
  OpMetadata metadata = defaults.metadata;
  metadata.Merge(std::move(own.metadata));
  return Done(op, std::move(metadata));
}

MarshalledOp OpDraft::FinishRoot(OpMetadata metadata) const {
  WireWriter& op = Scratch();
  WriteInputs(op);
  return Done(op, std::move(metadata));
}

}  // namespace kiln::client::llb
