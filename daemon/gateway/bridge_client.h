#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/frontend/frontend_client.h"
#include "daemon/frontend/frontend_table.h"
#include "daemon/gateway/bridge.h"
#include "daemon/gateway/build_container.h"
#include "daemon/gateway/source_meta.h"
#include "daemon/registry/image_resolver.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// What the bridges of a daemon have in common. Constant after the wiring; outlives them.
struct BridgeParts {
  const FrontendTable* frontends = nullptr;
  const ContainerParts* containers = nullptr;  // null: this daemon can run none
  SourceResolver resolve_source;
  ImageResolver* images = nullptr;  // null: images are refused by name
  // A serialized moby.buildkit.v1.types.WorkerRecord, as of now. May block for a moment.
  std::function<std::string()> worker;
  // Its platforms alone: "os/architecture[/variant]". As above.
  std::function<std::vector<std::string>()> platforms;
  store::RefStore* refs = nullptr;  // null: trees of failed steps are not offered
};

// A bridge as the frontend behind it uses it: the one implementation of what LLBBridge offers, for
// frontends in the daemon as for those that come over gRPC. Thread-safe.
class BridgeClient final : public FrontendClient {
 public:
  // `cancel` and the end of the bridge both end what is under way. `parts` outlive it.
  BridgeClient(const BridgeParts* parts, std::shared_ptr<Bridge> bridge, const CancelToken& cancel);
  ~BridgeClient() override;

  const std::map<std::string, std::string>& opts() const override;
  const std::map<std::string, std::string>& inputs() const override;
  const std::string& session_id() const override;
  std::vector<std::string> worker_platforms() const override;

  absl::StatusOr<BridgeResult> SolveGraph(const Solve& solve) override;
  void Prefetch(absl::string_view ref) override;
  absl::StatusOr<std::string> DefinitionOf(absl::string_view ref) override;
  absl::StatusOr<std::string> ReadFile(absl::string_view ref, absl::string_view path,
                                       int64_t offset, int64_t length) override;
  absl::StatusOr<std::vector<fsutil::Stat>> ReadDir(absl::string_view ref, absl::string_view path,
                                                    const std::string& include_pattern) override;
  absl::StatusOr<fsutil::Stat> StatFile(absl::string_view ref, absl::string_view path) override;
  absl::StatusOr<Image> ResolveImage(const ImageRequest& request) override;
  // Not under a policy, which may have to be asked first.
  void ResolveAhead(const std::string& reference,
                    std::function<void(const absl::Status&)> done) override;
  absl::StatusOr<SourceFacts> ResolveSource(absl::string_view source,
                                            const std::string& log_name) override;
  absl::Status Warn(const Digest& vertex, const solver::Warning& warning) override;
  const CancelToken& cancel() const override { return cancel_; }

  const std::shared_ptr<Bridge>& bridge() const { return bridge_; }
  // What ResolveImage and ResolveSource do, each in two halves: what the policies of the build, and
  // further ones, make of a source (`platform` is a serialized pb.Platform); and what it is then.
  absl::Status JudgeSource(SourceRef* source, absl::string_view platform,
                           const std::vector<std::string>& policies);
  absl::StatusOr<Image> FetchImage(const ImageRequest& request);
  absl::StatusOr<ResolvedSource> FetchSource(absl::string_view source, const std::string& log_name,
                                             const SourceQuestion& question);
  // What NewContainer makes (wire.md 4.5). `request` is a serialized
  // moby.buildkit.v1.frontend.NewContainerRequest.
  absl::Status NewContainer(absl::string_view request);

 private:
  absl::StatusOr<store::Layers> Tree(absl::string_view ref, absl::string_view doing,
                                     absl::string_view path);

  const BridgeParts* const parts_;
  const std::shared_ptr<Bridge> bridge_;
  const std::string session_id_;
  CancelSource ended_;
  const CancelToken cancel_;
  CancelSource ahead_ended_;
  Mutex mu_;
  std::vector<std::thread> ahead_ ABSL_GUARDED_BY(mu_);  // of ResolveAhead
  CancelRegistration by_end_ ABSL_GUARDED_BY(mu_);
  CancelRegistration by_caller_, by_bridge_;  // last: gone before what they fire
};

// Runs a frontend of the table inside the build of `parent`, whose refs those of the answer become.
// "gateway.v0" with source "dockerfile.v0" is the built-in one. `policies` hold for its sources
// beside those of the parent. Errors carry the Frontend detail. Blocks as long as the frontend
// runs.
absl::StatusOr<BridgeResult> RunFrontend(const BridgeParts& parts, Bridge& parent,
                                         const std::string& name,
                                         std::map<std::string, std::string> opts,
                                         std::map<std::string, std::string> inputs,
                                         const CancelToken& cancel,
                                         const std::vector<std::string>& policies = {});

}  // namespace kiln::daemon
