#pragma once

#include <memory>

#include "absl/container/inlined_vector.h"
#include "client/llb/caps.h"
#include "client/llb/exec.h"
#include "client/llb/op_draft.h"
#include "client/llb/vertex.h"

namespace kiln::client::llb {

class WireWriter;

// A command with its mounts; slot 0 is the root, slot i the i-th added mount.
class ExecVertex : public Vertex {
 public:
  using Mounts = absl::InlinedVector<MountInfo, 1>;

  ExecVertex(State base, RunInfo&& info);
  ~ExecVertex() override;

  static Output RootOutput(const std::shared_ptr<ExecVertex>& self);
  // Returns the mount's slot.
  int AddMount(MountInfo mount);
  const Mounts& mounts() const { return mounts_; }
  // The state that a mount's contents are after the run.
  static State MountState(const std::shared_ptr<ExecVertex>& self, int slot);

  Inputs inputs() const override;
  absl::StatusOr<Digest> Write(GraphWriter& graph) const override;
  absl::StatusOr<int64_t> OutputIndex(int slot) const override;

 private:
  using Slots = absl::InlinedVector<int, 4>;

  const State& base() const { return mounts_[0].source; }
  Slots SlotsByTarget() const;
  // The order of mounts on the wire, of their slots.
  bool Before(int a, int b) const;
  absl::Status Validate() const;
  void WriteMeta(WireWriter& meta) const;
  void WriteMount(const MountInfo& mount, int64_t input, int64_t output, WireWriter& exec) const;
  void WriteSecretMounts(WireWriter& exec) const;
  CapSet Caps() const;

  CommandInfo command_;
  Mounts mounts_;  // the root is the first
  OpTraits traits_;
};

}  // namespace kiln::client::llb
