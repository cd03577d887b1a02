#include "client/llb/vertex.h"

#include <utility>

namespace kiln::client::llb {

const Digest* MarshalContext::Find(const Vertex* vertex) const {
  auto found = done_.find(vertex);
  return found == done_.end() ? nullptr : &found->second;
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

}  // namespace kiln::client::llb
