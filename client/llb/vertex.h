#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "client/llb/constraints.h"
#include "proto/digest.h"

namespace kiln::client::llb {

class Vertex;

// One result of a vertex. `slot` is the vertex' own name for it; the index on the wire follows only
// when the vertex is complete (mounts are sorted by their target). Null means scratch.
struct Output {
  std::shared_ptr<const Vertex> vertex;
  int slot = 0;
  std::optional<Platform> platform;

  explicit operator bool() const { return vertex != nullptr; }
};

struct MarshalledOp {
  Digest digest;
  std::string bytes;
  OpMetadata metadata;
};

// What is known while a graph is being written: the defaults, and the ops written so far.
class MarshalContext {
 public:
  explicit MarshalContext(Constraints defaults) : defaults_(std::move(defaults)) {}

  const Constraints& defaults() const { return defaults_; }
  // Null when it is not written yet.
  const Digest* Find(const Vertex* vertex) const;
  void Add(const Vertex* vertex, const Digest& digest) { done_.emplace(vertex, digest); }

 private:
  const Constraints defaults_;
  absl::flat_hash_map<const Vertex*, Digest> done_;
};

// An op of a graph under construction. Immutable once a State refers to it, but for an exec's
// mounts.
class Vertex {
 public:
  Vertex() = default;
  Vertex(const Vertex&) = delete;
  Vertex& operator=(const Vertex&) = delete;
  virtual ~Vertex();

  // Everything the vertex reads, in the order in which it is to be written.
  virtual std::vector<Output> Inputs() const = 0;
  // Called when all inputs have been added to `context`.
  virtual absl::StatusOr<MarshalledOp> Marshal(const MarshalContext& context) const = 0;
  // The index on the wire of the output that the vertex calls `slot`.
  virtual absl::StatusOr<int64_t> OutputIndex(int slot) const;

 protected:
  // Destructors hand their inputs over here: releasing a long chain must not recurse.
  static void Release(std::vector<Output> inputs);
};

}  // namespace kiln::client::llb
