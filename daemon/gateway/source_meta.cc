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
  return [sources = std::move(sources)](const Bridge& bridge, absl::string_view bytes,
                                        const CancelToken& cancel) -> absl::StatusOr<SourceMeta> {
    pb::SourceOp op;
    if (!op.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
      return absl::InvalidArgumentError("malformed source");
    const std::string& identifier = op.identifier();
    const size_t end = identifier.find("://");
    if (end == std::string::npos)
      return absl::InvalidArgumentError(absl::StrCat("invalid source \"", identifier, "\""));
    const absl::string_view scheme = absl::string_view(identifier).substr(0, end);
    SourceMeta meta;
    if (scheme == "local") return meta;
    for (Source* source : sources) {
      if (!source->Handles(scheme)) continue;
      SourceSpec spec;
      spec.identifier = identifier;
      spec.attrs.insert(op.attrs().begin(), op.attrs().end());
      KILN_ASSIGN_OR_RETURN(const auto instance, source->Resolve(spec));
      AskContext context(bridge, cancel);
      KILN_ASSIGN_OR_RETURN(const SourceKey key, instance->Key(context, 0));
      meta.kind = scheme == "git" ? SourceMeta::Kind::kGit : SourceMeta::Kind::kHttp;
      meta.checksum = key.pin;
      return meta;
    }
    return absl::UnimplementedError(
        absl::StrCat("resolving ", scheme, " sources is not supported by this daemon yet"));
  };
}

}  // namespace kiln::daemon
