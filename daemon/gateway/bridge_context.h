#pragma once

#include <string>
#include <vector>

#include "daemon/gateway/bridge.h"
#include "solver/op.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// What code of the ops may use when a frontend asks for it outside of any vertex. Reports nowhere.
// The bridge outlives it.
class BridgeContext final : public solver::OpContext {
 public:
  BridgeContext(const Bridge& bridge, CancelToken cancel)
      : bridge_(bridge), cancel_(std::move(cancel)) {}

  const CancelToken& cancel() const override { return cancel_; }
  solver::ProgressSink& progress() override { return progress_; }
  const solver::VertexInfo& vertex() const override { return vertex_; }
  std::vector<std::string> SessionIds() const override { return bridge_.options().session_ids; }
  solver::JobValues& job_values() override { return bridge_.options().job->values(); }

 private:
  class NoProgress final : public solver::ProgressSink {
   public:
    void Status(solver::StatusUpdate) override {}
    void Log(solver::LogChunk) override {}
    void Warn(solver::Warning) override {}
  };

  const Bridge& bridge_;
  const CancelToken cancel_;
  NoProgress progress_;
  const solver::VertexInfo vertex_;
};

}  // namespace kiln::daemon
