#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "daemon/frontend/frontend_client.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

// A build without a daemon: files of local directories, images and sources are tables, solves are
// recorded and give refs. Thread-safe.
class FakeClient : public FrontendClient {
 public:
  // local directory -> path -> content; "" of a ref that is no local source.
  std::map<std::string, std::map<std::string, std::string>> locals;
  std::map<std::string, std::string> url_files;  // http source -> its content
  std::map<std::string, Image> images;           // normalized reference -> what it is now
  std::map<std::string, std::string> options, definitions;
  std::vector<std::string> platforms = {"linux/amd64"};
  SourceFacts source_facts;
  std::vector<std::string> ahead;  // what ResolveAhead was asked for
  absl::Status ahead_status;       // what it told
  // Given for solves with a frontend.
  absl::StatusOr<BridgeResult> nested = BridgeResult{};

  // What happened, in order.
  std::vector<Solve> Solves() const;
  std::vector<std::pair<Digest, solver::Warning>> Warnings() const;
  std::vector<ImageRequest> Requests() const;
  std::vector<std::string> Prefetched() const;  // definitions
  // "docker.io/library/NAME:latest" with a config of linux/amd64.
  void AddImage(const std::string& name, const std::string& config_members = "");

  const std::map<std::string, std::string>& opts() const override { return options; }
  const std::map<std::string, std::string>& inputs() const override { return definitions; }
  const std::string& session_id() const override { return session_; }
  std::vector<std::string> worker_platforms() const override { return platforms; }
  absl::StatusOr<BridgeResult> SolveGraph(const Solve& solve) override;
  void Prefetch(absl::string_view ref) override;
  absl::StatusOr<std::string> DefinitionOf(absl::string_view ref) override;
  absl::StatusOr<std::string> ReadFile(absl::string_view ref, absl::string_view path,
                                       int64_t offset, int64_t length) override;
  absl::StatusOr<std::vector<fsutil::Stat>> ReadDir(absl::string_view, absl::string_view,
                                                    const std::string&) override;
  absl::StatusOr<fsutil::Stat> StatFile(absl::string_view, absl::string_view) override;
  absl::StatusOr<Image> ResolveImage(const ImageRequest& request) override;
  void ResolveAhead(const std::string& reference,
                    std::function<void(const absl::Status&)> done) override {
    ahead.push_back(reference);
    done(ahead_status);
  }
  absl::StatusOr<SourceFacts> ResolveSource(absl::string_view source,
                                            const std::string& log_name) override;
  absl::Status Warn(const Digest& vertex, const solver::Warning& warning) override;
  const CancelToken& cancel() const override { return cancel_; }

 private:
  const std::string session_ = "conformance";
  const CancelToken cancel_;
  mutable Mutex mu_;
  std::vector<Solve> solves_ ABSL_GUARDED_BY(mu_);
  std::vector<std::pair<Digest, solver::Warning>> warnings_ ABSL_GUARDED_BY(mu_);
  std::vector<ImageRequest> requests_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> prefetched_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::daemon
