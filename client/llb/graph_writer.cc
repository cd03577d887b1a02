#include "client/llb/graph_writer.h"

#include <utility>

namespace kiln::client::llb {

GraphWriter::GraphWriter(Constraints defaults, Numbers vertices)
    : defaults_(std::move(defaults)), numbers_(std::move(vertices)), done_(numbers_.size()) {
  // Of a usual op with what comes beside it. Memory that is never touched costs nothing, but a text
  // that grows touches, and copies, twice what it needs.
  constexpr size_t kOpBytes = 1280;
  const size_t ops = done_.size() + 1;
  text_.Reserve(ops * kOpBytes);
  definition_.ops_.reserve(ops);
  by_digest_.reserve(ops);
}

const Digest* GraphWriter::Find(const Vertex* vertex) const {
  const auto found = numbers_.find(vertex);
  if (found == numbers_.end() || done_[found->second].empty()) return nullptr;
  return &done_[found->second];
}

Digest GraphWriter::AddOp(const CapSet& caps, const std::shared_ptr<const OpMetadata>& metadata,
                          absl::FunctionRef<void(WireWriter&)> fill) {
  constexpr int kDef = 1;  // of pb.Definition
  const size_t before = text_.size();
  const size_t size = text_.LargeMessageSize(kDef, [&] { fill(text_); });
  const absl::string_view bytes = text_.text().substr(text_.size() - size);
  const Digest digest = Digest::Of(bytes);
  const auto [known, added] = by_digest_.emplace(digest, definition_.ops_.size());
  if (added) {
    definition_.ops_.push_back({digest, caps, metadata, text_.size() - size, size});
    return digest;
  }
  text_.Truncate(before);
  Definition::Op& op = definition_.ops_[known->second];
  op.caps.AddAll(caps);
  if (op.metadata != metadata) {
    auto merged = std::make_shared<OpMetadata>(*op.metadata);
    merged->Merge(*metadata);
    op.metadata = std::move(merged);
  }
  return digest;
}

Definition GraphWriter::Take() {
  definition_.text_ = text_.Take();
  return std::move(definition_);
}

}  // namespace kiln::client::llb
