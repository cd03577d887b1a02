#include "daemon/gateway/source_meta.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/buildkit/ops.pb.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

// Reports nowhere: the frontend asked, no vertex runs.
class NoProgress : public solver::ProgressSink {
 public:
  void Status(solver::StatusUpdate) override {}
  void Log(solver::LogChunk) override {}
  void Warn(solver::Warning) override {}
};

// What a source may use when it is asked outside of a vertex.
class AskContext : public solver::OpContext {
 public:
  AskContext(const Bridge& bridge, const CancelToken& cancel) : bridge_(bridge), cancel_(cancel) {}
  const CancelToken& cancel() const override { return cancel_; }
  solver::ProgressSink& progress() override { return progress_; }
  const solver::VertexInfo& vertex() const override { return vertex_; }
  std::vector<std::string> SessionIds() const override { return bridge_.options().session_ids; }
  solver::JobValues& job_values() override { return bridge_.options().job->values(); }

 private:
  const Bridge& bridge_;
  const CancelToken& cancel_;
  NoProgress progress_;
  const solver::VertexInfo vertex_;
};

}  // namespace

SourceResolver MakeSourceResolver(std::vector<Source*> sources) {
  using Facts = FrontendClient::SourceFacts;
  return [sources = std::move(sources)](const Bridge& bridge, absl::string_view bytes,
                                        const CancelToken& cancel) -> absl::StatusOr<Facts> {
    pb::SourceOp op;
    if (!op.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
      return absl::InvalidArgumentError("malformed source");
    Facts facts;
    facts.identifier = op.identifier();
    facts.attrs.insert(op.attrs().begin(), op.attrs().end());
    const size_t end = facts.identifier.find("://");
    if (end == std::string::npos)
      return absl::InvalidArgumentError(absl::StrCat("invalid source \"", facts.identifier, "\""));
    const absl::string_view scheme = absl::string_view(facts.identifier).substr(0, end);
    if (scheme == "local") return facts;
    for (Source* source : sources) {
      if (!source->Handles(scheme)) continue;
      KILN_ASSIGN_OR_RETURN(const auto instance, source->Resolve({facts.identifier, facts.attrs}));
      AskContext context(bridge, cancel);
      KILN_ASSIGN_OR_RETURN(const SourceKey key, instance->Key(context, 0));
      facts.checksum = key.pin;
      return facts;
    }
    return absl::UnimplementedError(
        absl::StrCat("resolving ", scheme, " sources is not supported by this daemon yet"));
  };
}

}  // namespace kiln::daemon
