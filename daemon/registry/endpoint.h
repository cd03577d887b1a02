#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/registry/host_config.h"
#include "daemon/registry/reference.h"
#include "daemon/source/http_client.h"

namespace kiln::daemon {

// One server that a repository can be had from.
struct Endpoint {
  std::string host;                    // contacted: "registry-1.docker.io", "localhost:5000"
  std::string url;                     // "https://host/v2/prefix/path", without a slash at the end
  std::string path;                    // of the repository there, prefix included: for token scopes
  std::string namespace_query;         // "ns=docker.io" for a mirror, else ""
  bool http = false;                   // plain
  bool may_fall_back = false;          // insecure: when https does not work, http is tried
  bool only_public_addresses = false;  // HttpRequest
  HttpTls tls = {};
};

enum class Purpose { kPull, kPush };

// Where to go for a repository, in this order: mirrors (pulls only), then the registry itself.
// `insecure` puts plain http or any certificate in place of what the configuration says. Blocks on
// reading tlsconfigdir folders. kInvalidArgument for a malformed mirror, kFailedPrecondition for
// TLS files that cannot be read.
absl::StatusOr<std::vector<Endpoint>> Endpoints(const RegistryConfig& config,
                                                const Reference& repository, Purpose purpose,
                                                bool insecure);

// The same server over plain http.
Endpoint WithPlainHttp(Endpoint endpoint);

}  // namespace kiln::daemon
