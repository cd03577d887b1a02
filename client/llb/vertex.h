#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/statusor.h"
#include "client/llb/constraints.h"
#include "proto/digest.h"

namespace kiln::client::llb {

class GraphWriter;
class Vertex;

// One result of a vertex. `slot` is the vertex' own name for it; the index on the wire follows only
// when the vertex is complete (mounts are sorted by their target). Null means scratch.
struct Output {
  std::shared_ptr<const Vertex> vertex;
  int slot = 0;
  std::shared_ptr<const Platform> platform;  // null: unknown

  explicit operator bool() const { return vertex != nullptr; }
};

// An op of a graph under construction. Immutable once a State refers to it, but for an exec's
// mounts.
class Vertex {
 public:
  // Most have one or two.
  using Inputs = absl::InlinedVector<const Vertex*, 2>;

  Vertex() = default;
  Vertex(const Vertex&) = delete;
  Vertex& operator=(const Vertex&) = delete;
  virtual ~Vertex();

  // Everything the vertex reads, in the order in which it is to be written. None is null.
  virtual Inputs inputs() const = 0;
  // Writes the op; all inputs are in `graph`. Returns its digest.
  virtual absl::StatusOr<Digest> Write(GraphWriter& graph) const = 0;
  // The index on the wire of the output that the vertex calls `slot`.
  virtual absl::StatusOr<int64_t> OutputIndex(int slot) const;

 protected:
  static Inputs VerticesOf(const std::vector<Output>& outputs);
  // Destructors hand their inputs over here: releasing a long chain must not recurse.
  static void Release(Output&& input);
  static void Release(std::vector<Output>& inputs);
};

}  // namespace kiln::client::llb
