#include "client/llb/exec.h"

#include <utility>

#include "client/llb/exec_vertex.h"
#include "client/llb/shlex.h"

namespace kiln::client::llb {

RunInfo Args(std::vector<std::string> args, Constraints constraints) {
  RunInfo info;
  info.args = std::move(args);
  info.constraints = std::move(constraints);
  return info;
}

RunInfo Shlex(absl::string_view line, Constraints constraints) {
  RunInfo info;
  info.constraints = std::move(constraints);
  absl::StatusOr<std::vector<std::string>> words = SplitShellWords(line);
  if (words.ok()) {
    info.args = *std::move(words);
  } else {
    info.error = words.status();
  }
  return info;
}

RunInfo Shell(absl::string_view line, Constraints constraints) {
  return Args({"/bin/sh", "-c", std::string(line)}, std::move(constraints));
}

ExecState::ExecState(State root, std::shared_ptr<ExecVertex> vertex)
    : State(std::move(root)), vertex_(std::move(vertex)) {}

State ExecState::AddMount(MountInfo mount) {
  const int slot = vertex_->AddMount(std::move(mount));
  return ExecVertex::MountState(vertex_, slot);
}

State ExecState::GetMount(absl::string_view target) const {
  for (size_t slot = 0; slot < vertex_->mounts().size(); ++slot) {
    if (vertex_->mounts()[slot].target == target) {
      return ExecVertex::MountState(vertex_, static_cast<int>(slot));
    }
  }
  return State();
}

}  // namespace kiln::client::llb
