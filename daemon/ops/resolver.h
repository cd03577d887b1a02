#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/source/source.h"
#include "proto/digest.h"
#include "solver/op.h"
#include "store/ref_store.h"

namespace kiln::daemon {

// Makes the op for a pb.Op whose oneof is an exec (daemon/ops/exec.h, MakeExecOp).
using ExecOpFactory = std::function<absl::StatusOr<std::shared_ptr<solver::Op>>(
    absl::string_view op_bytes, const solver::VertexInfo& vertex)>;

// Told what a source vertex resolved to, for provenance. Thread-safe.
using PinListener = std::function<void(const Digest& vertex, const std::string& pin)>;

// Turns the ops of definitions into ops that run on this daemon. A kind of source that is not
// offered fails when it is needed, naming its scheme; all else that is malformed is refused here.
// Thread-safe.
class OpResolver final : public solver::OpResolver {
 public:
  // `refs` and `sources` outlive the resolver and its ops.
  OpResolver(store::RefStore* refs, std::vector<Source*> sources, ExecOpFactory make_exec,
             PinListener on_pin = nullptr);

  absl::StatusOr<std::shared_ptr<solver::Op>> Resolve(absl::string_view op_bytes,
                                                      const solver::VertexInfo& vertex) override;

 private:
  std::shared_ptr<solver::Op> ResolveSource(SourceSpec spec);

  store::RefStore* const refs_;
  const std::vector<Source*> sources_;
  const ExecOpFactory make_exec_;
  const PinListener on_pin_;
};

}  // namespace kiln::daemon
