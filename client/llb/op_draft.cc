#include "client/llb/op_draft.h"

#include <string>

#include "proto/digest_text.h"
#include "store/base/check.h"
#include "store/base/status_macros.h"

namespace kiln::client::llb {
namespace {

void WritePlatform(const Platform& platform, WireWriter& op) {
  op.Message(10, [&] {
    op.Text(1, platform.architecture).Text(2, platform.os).Text(3, platform.variant);
    op.Text(4, platform.os_version);
    for (const std::string& feature : platform.os_features) op.Item(5, feature);
  });
}

}  // namespace

OpTraits::OpTraits(Constraints&& from)
    : worker_filters(std::move(from.worker_filters)),
      caps(std::move(from.caps)),
      metadata(std::make_shared<const OpMetadata>(std::move(from.metadata))) {
  if (from.platform) platform = std::make_shared<const Platform>(*std::move(from.platform));
}

absl::StatusOr<OpDraft::Input> OpDraft::Resolve(const Output& output) const {
  const Digest* digest = graph_.Find(output.vertex.get());
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
  for (const Input& input : inputs_) {
    const DigestText digest(input.digest);
    op.Message(1, [&] { op.Item(1, digest.view()).Number(2, input.index); });
  }
}

Digest OpDraft::Finish(OpKind kind, OnPlatform on_platform, const OpTraits& own, CapSet caps,
                       absl::FunctionRef<void(WireWriter&)> body) const {
  const Constraints& defaults = graph_.defaults();
  caps.AddAll(own.caps);
  caps.AddAll(defaults.caps);
  std::shared_ptr<const OpMetadata> metadata = own.metadata;
  if (!defaults.metadata.empty()) {
    auto merged = std::make_shared<OpMetadata>(defaults.metadata);
    merged->Merge(*own.metadata);
    metadata = std::move(merged);
  }
  return graph_.AddOp(caps, metadata, [&](WireWriter& op) {
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
    if (kind == OpKind::kExec) {
      op.LargeMessage(static_cast<int>(kind), [&] { body(op); });
    } else {
      op.Message(static_cast<int>(kind), [&] { body(op); });
    }
  });
}

void OpDraft::FinishRoot(const CapSet& caps) const {
  static const auto& none = *new std::shared_ptr<const OpMetadata>(std::make_shared<OpMetadata>());
  graph_.AddOp(caps, none, [&](WireWriter& op) { WriteInputs(op); });
}

}  // namespace kiln::client::llb
