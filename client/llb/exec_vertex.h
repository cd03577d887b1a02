#pragma once

#include <memory>
#include <string>
#include <vector>

#include "client/llb/exec.h"
#include "client/llb/vertex.h"

namespace kiln::client::llb {

class WireWriter;

// A command with its mounts; slot 0 is the root, slot i the i-th added mount.
class ExecVertex : public Vertex {
 public:
  ExecVertex(State base, RunInfo info);
  ~ExecVertex() override;

  static Output RootOutput(const std::shared_ptr<ExecVertex>& self);
  // Returns the mount's slot.
  int AddMount(MountInfo mount);
  const std::vector<MountInfo>& mounts() const { return info_.mounts; }
  // The state that a mount's contents are after the run.
  static State MountState(const std::shared_ptr<ExecVertex>& self, int slot);

  std::vector<Output> Inputs() const override;
  absl::StatusOr<MarshalledOp> Marshal(const MarshalContext& context) const override;
  absl::StatusOr<int64_t> OutputIndex(int slot) const override;

 private:
  std::vector<int> SlotsByTarget() const;
  absl::Status Validate() const;
  void WriteMeta(WireWriter& meta) const;
  void WriteMount(const MountInfo& mount, int64_t input, int64_t output, WireWriter& exec) const;
  void WriteSecretMounts(WireWriter& exec) const;
  std::set<std::string> Caps() const;

  State base_;
  RunInfo info_;  // its mounts begin with the root
};

}  // namespace kiln::client::llb
