#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "solver/op.h"

namespace kiln::store {
class RefStore;
}

namespace kiln::daemon {

class CacheMounts;
class DeviceRegistry;
class Executor;
struct ExecPlan;
class ForeignPrograms;
class SessionFinder;

// Output of one step and stream beyond which lines are withheld (llb.md 2.2.4). -1: no limit.
struct LogLimits {
  int64_t max_bytes = 2 << 20;
  int64_t max_bytes_per_second = 200 << 10;

  // The defaults, overridden by BUILDKIT_STEP_LOG_MAX_SIZE and BUILDKIT_STEP_LOG_MAX_SPEED.
  static LogLimits FromEnvironment();
};

// What every exec op of a daemon works with. The pointees outlive the ops.
struct ExecOpDeps {
  store::RefStore* refs = nullptr;
  Executor* executor = nullptr;
  SessionFinder* sessions = nullptr;
  CacheMounts* cache_mounts = nullptr;
  // A folder of the daemon's own for agent sockets and secrets that live as long as a step; best
  // on a tmpfs. Must exist, mode 0700.
  std::string runtime_dir;
  LogLimits log_limits;
  const DeviceRegistry* devices = nullptr;  // null: there are none
  ForeignPrograms* foreign = nullptr;       // may be null: nothing is said about emulators
};

// The op for a pb.Op whose oneof is an exec. `op_bytes` is the canonical serialized pb.Op.
// kInvalidArgument with the texts of the loader for what is malformed; kUnimplemented names what
// is not supported (foreign platforms without an emulator). Does not block.
absl::StatusOr<std::shared_ptr<solver::Op>> MakeExecOp(const ExecOpDeps& deps,
                                                       absl::string_view op_bytes,
                                                       const solver::VertexInfo& vertex);

// Whether output is, in the words of crun or of runc, that the kernel knows no such programs.
bool SaysWrongFormat(absl::string_view output);
// Then, for a plan of another machine whose programs do not run here: ": " and what is missing.
// Else
// "". Only after the fact: an image may say that it is for another machine, and yet run here.
std::string MissingEmulator(const ExecOpDeps& deps, const ExecPlan& plan);

}  // namespace kiln::daemon
