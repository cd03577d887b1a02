#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "proto/digest.h"
#include "solver/imported_keys.h"
#include "solver/op.h"

namespace kiln::solver {

// Where the vertices of one definition come from in the user's files: only for error details.
struct SourceMap {
  struct Location {
    uint32_t info = 0;                // index into infos
    std::vector<std::string> ranges;  // serialized pb.Range each
  };
  std::vector<std::string> infos;  // serialized pb.SourceInfo each, its definition left out
  absl::flat_hash_map<Digest, std::vector<Location>> locations;  // by final vertex digest
};

struct LoadedVertex {
  struct Input {
    uint32_t vertex = 0;  // index into LoadedGraph::vertices, always a smaller one than its own
    int32_t output = 0;
  };
  std::shared_ptr<const VertexInfo> info;
  absl::InlinedVector<Input, 2> inputs;
  std::string op_bytes;    // canonical; empty once `op` is there
  std::shared_ptr<Op> op;  // null: to be resolved before the first cache map
  absl::Status op_status;  // why `op` could not be made
};

// A validated definition: what the root needs, inputs before consumers.
struct LoadedGraph {
  std::vector<LoadedVertex> vertices;  // empty: the empty tree
  uint32_t root = 0;
  int32_t root_output = 0;
  std::shared_ptr<const SourceMap> sources;  // null: none
  std::shared_ptr<ImportedKeys> imports;     // that its vertices may use; null: none
};

// Validates a serialized pb.Definition as a whole and puts it in order. All errors are
// kInvalidArgument (kUnimplemented for a capability) and start with "failed to load LLB: ".
// A definition without any content is the empty tree; `granted` are the job's entitlements.
// Linear in the size of the definition, without recursion. Thread-safe, does not block.
absl::StatusOr<LoadedGraph> LoadDefinition(absl::string_view definition,
                                           absl::Span<const std::string> granted);

// Makes the ops that need not wait for other jobs' linux_resources.
void ResolveOps(OpResolver& resolver, LoadedGraph* graph);

}  // namespace kiln::solver
