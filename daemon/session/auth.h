#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/session/session.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// The client's Auth service (wire.md 3.5), as blocking functions: who it is to a registry. All are
// thread-safe, honour `cancel`, end with the session, and after a minute. `host` is the one that is
// contacted ("registry-1.docker.io").

struct Credentials {
  std::string username, secret;  // both empty: anonymous, also for a client without Auth
};
// A secret without a user name is a refresh token.
absl::StatusOr<Credentials> GetCredentials(Session& session, const std::string& host,
                                           const CancelToken& cancel);

// The ed25519 public key (32 bytes) under which the client fetches tokens itself; "" when it wants
// the daemon to fetch them with its credentials.
absl::StatusOr<std::string> GetTokenAuthority(Session& session, const std::string& host,
                                              absl::string_view salt, const CancelToken& cancel);

// `payload` as signed by the client: 64 bytes of signature, then the payload.
absl::StatusOr<std::string> SignTokenAuthority(Session& session, const std::string& host,
                                               absl::string_view salt, absl::string_view payload,
                                               const CancelToken& cancel);

struct ClientTokenRequest {
  std::string host, realm, service;
  std::vector<std::string> scopes;
};
struct ClientToken {
  std::string token;
  absl::Duration lifetime;  // zero: not told
  absl::Time issued_at;     // InfinitePast: not told
};
absl::StatusOr<ClientToken> FetchClientToken(Session& session, const ClientTokenRequest& request,
                                             const CancelToken& cancel);

}  // namespace kiln::daemon
