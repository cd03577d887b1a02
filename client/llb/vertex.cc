#include "client/llb/vertex.h"

#include <utility>

namespace kiln::client::llb {

Vertex::~Vertex() = default;

absl::StatusOr<int64_t> Vertex::OutputIndex(int slot) const { return slot; }

Vertex::Inputs Vertex::VerticesOf(const std::vector<Output>& outputs) {
  Inputs vertices;
  for (const Output& output : outputs) vertices.push_back(output.vertex.get());
  return vertices;
}

void Vertex::Release(std::vector<Output>& inputs) {
  for (Output& input : inputs) Release(std::move(input));
}

void Vertex::Release(Output&& input) {
  if (!input) return;
  // The outermost call drains; calls from destructors inside it only queue.
  static thread_local std::vector<std::shared_ptr<const Vertex>>* pending = nullptr;
  if (pending != nullptr) {
    pending->push_back(std::move(input.vertex));
    return;
  }
  std::vector<std::shared_ptr<const Vertex>> queue;
  pending = &queue;
  for (auto last = std::move(input.vertex); last != nullptr;) {
    last.reset();
    if (queue.empty()) break;
    last = std::move(queue.back());
    queue.pop_back();
  }
  pending = nullptr;
}

}  // namespace kiln::client::llb
