#include "client/llb/vertex.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/op_bytes.h"
#include "store/base/check.h"
#include "store/base/status_macros.h"

namespace kiln::client::llb {

const Digest* MarshalContext::Find(const Vertex* vertex) const {
  auto found = done_.find(vertex);
  return found == done_.end() ? nullptr : &found->second;
}

absl::Status MarshalContext::FillInput(const Output& output, pb::Input* input) const {
  const Digest* digest = Find(output.vertex.get());
  KILN_CHECK(digest != nullptr);
  KILN_ASSIGN_OR_RETURN(const int64_t index, output.vertex->OutputIndex(output.slot));
  input->set_digest(digest->ToString());
  input->set_index(index);
  return absl::OkStatus();
}

absl::StatusOr<int64_t> MarshalContext::AddInput(const Output& output, pb::Op* op) const {
  pb::Input input;
  KILN_RETURN_IF_ERROR(FillInput(output, &input));
  for (int i = 0; i < op->inputs_size(); ++i) {
    if (op->inputs(i).digest() == input.digest() && op->inputs(i).index() == input.index()) {
      return i;
    }
  }
  *op->add_inputs() = std::move(input);
  return op->inputs_size() - 1;
}

Vertex::~Vertex() = default;

absl::StatusOr<int64_t> Vertex::OutputIndex(int slot) const { return slot; }

void Vertex::Release(std::vector<Output> inputs) {
  // The outermost call drains; calls from destructors inside it only queue.
  static thread_local std::vector<Output>* pending = nullptr;
  if (pending != nullptr) {
    for (Output& input : inputs) pending->push_back(std::move(input));
    return;
  }
  pending = &inputs;
  while (!inputs.empty()) {
    Output last = std::move(inputs.back());
    inputs.pop_back();
  }
  pending = nullptr;
}

OpMetadata FillConstraints(const MarshalContext& context, Constraints own, pb::Op* op) {
  const Constraints& defaults = context.defaults();
  const Platform platform = own.platform        ? *own.platform
                            : defaults.platform ? *defaults.platform
                                                : HostPlatform();
  pb::Platform* out = op->mutable_platform();
  out->set_os(platform.os);
  out->set_architecture(platform.architecture);
  out->set_variant(platform.variant);
  out->set_osversion(platform.os_version);
  for (const std::string& feature : platform.os_features) out->add_osfeatures(feature);
  pb::WorkerConstraints* workers = op->mutable_constraints();
  for (const std::string& filter : defaults.worker_filters) workers->add_filter(filter);
  for (const std::string& filter : own.worker_filters) workers->add_filter(filter);
  OpMetadata metadata = defaults.metadata;
  metadata.Merge(std::move(own.metadata));
  return metadata;
}

MarshalledOp FinishOp(pb::Op op, OpMetadata metadata) {
  MarshalledOp done;
  done.bytes = CanonicalOpBytes(std::move(op));
  done.digest = Digest::Of(done.bytes);
  done.metadata = std::move(metadata);
  return done;
}

}  // namespace kiln::client::llb
