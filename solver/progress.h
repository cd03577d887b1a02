#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "proto/digest.h"
#include "solver/op.h"

namespace kiln::solver {

// State of a vertex as the status stream shows it (wire.md 5.2).
struct VertexUpdate {
  Digest digest;
  std::vector<Digest> inputs;
  std::string name;
  bool cached = false;
  absl::Time started = absl::InfinitePast();    // InfinitePast: not yet
  absl::Time completed = absl::InfinitePast();  // InfinitePast: not yet
  std::string error;
  std::string progress_group;  // serialized pb.ProgressGroup
};
struct VertexStatusUpdate {
  Digest vertex;
  StatusUpdate status;
};
struct VertexLogUpdate {
  Digest vertex;
  LogChunk log;
};
struct VertexWarningUpdate {
  Digest vertex;
  Warning warning;
};
using ProgressEvent =
    std::variant<VertexUpdate, VertexStatusUpdate, VertexLogUpdate, VertexWarningUpdate>;
using ProgressEventPtr = std::shared_ptr<const ProgressEvent>;

// The progress of one job: what its vertices told, in order, a vertex always announced before
// anything said of it. Thread-safe.
class ProgressLog {
 public:
  virtual ~ProgressLog() = default;

  // Events from `offset` on, at most `limit`; `*ended` tells that no more will come after them.
  // Never blocks.
  virtual std::vector<ProgressEventPtr> Read(size_t offset, size_t limit, bool* ended) = 0;

  // Calls `wake` (short, any thread) once when there is something at or after `offset`, or at the
  // end; at once if that is so already.
  virtual void NotifyAt(size_t offset, absl::AnyInvocable<void()> wake) = 0;

  // No more events: started vertices that are not completed are closed (llb.md 3.10, 4).
  virtual void End() = 0;
};

}  // namespace kiln::solver
