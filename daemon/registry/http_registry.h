#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "daemon/registry/endpoint.h"
#include "daemon/registry/host_config.h"
#include "daemon/registry/registry.h"
#include "daemon/session/session.h"

namespace kiln::daemon {

struct RegistryShared;
class EndpointClient;

struct HttpRegistryOptions {
  RegistryConfig config = {};
  std::string user_agent = "kiln";
  int max_concurrency = 0;  // requests to one host at a time; 0: 4
  // Waits between tries; null: really.
  std::function<absl::Status(absl::Duration, const CancelToken&)> sleep = {};
};

// Registries over HTTP/1.1 (OCI distribution-spec; daemon/DESIGN.md, registry).
class HttpRegistry final : public Registry {
 public:
  // `sessions` outlives it.
  HttpRegistry(SessionFinder* sessions, HttpRegistryOptions options);
  ~HttpRegistry() override;

  absl::StatusOr<store::Descriptor> Resolve(const Reference& reference,
                                            const RegistryCall& call) override;
  absl::StatusOr<std::string> FetchSmall(const Reference& repository,
                                         const store::Descriptor& descriptor,
                                         const RegistryCall& call) override;
  absl::StatusOr<std::string> FetchReferrers(const Reference& repository, const Digest& subject,
                                             const RegistryCall& call) override;
  absl::Status FetchBlob(const Reference& repository, const store::Descriptor& descriptor,
                         int64_t offset, const RegistryCall& call,
                         const std::function<absl::Status(absl::string_view)>& sink) override;
  absl::StatusOr<bool> HasBlob(const Reference& repository, const store::Descriptor& descriptor,
                               const RegistryCall& call) override;
  absl::StatusOr<PushOutcome> PushBlob(const Reference& repository,
                                       const store::Descriptor& descriptor,
                                       const std::string& mount_from, const RegistryCall& call,
                                       const std::function<absl::StatusOr<BlobReader>()>& open,
                                       const std::function<void(int64_t sent)>& progress) override;
  absl::Status PushManifest(const Reference& reference, const store::Descriptor& descriptor,
                            absl::string_view bytes, bool by_digest, PutManifest put,
                            const RegistryCall& call) override;

 private:
  using EndpointWork = std::function<absl::Status(EndpointClient&)>;

  // Runs `work` on one server after the other until one succeeds; the most telling error otherwise.
  // `stop` ends it early: what failed was not the server.
  absl::Status OnAnyEndpoint(const Reference& repository, const RegistryCall& call,
                             const EndpointWork& work, const std::function<bool()>& stop = {});
  // On the one server that takes pushes. `mount_from`: another repository to read from, or "".
  absl::Status OnPushEndpoint(const Reference& repository, const std::string& mount_from,
                              const RegistryCall& call, const EndpointWork& work);
  // Runs `work` again after what a retry may mend, waiting 1, 2 and 4 s. `progress` counts what was
  // achieved so far: then the waits start over, and a server that is down for a while is waited
  // for.
  absl::Status WithRetries(const RegistryCall& call, const std::function<absl::Status()>& work,
                           const std::function<int64_t()>& progress = {});
  // The outcome of an operation: the cause of a cancel as it is, other errors with what was done.
  static absl::Status Outcome(const RegistryCall& call, const absl::Status& status,
                              absl::string_view doing);

  const RegistryConfig config_;
  const std::unique_ptr<RegistryShared> shared_;
};

}  // namespace kiln::daemon
