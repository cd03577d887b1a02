#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/session/auth.h"
#include "daemon/source/http_client.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// What a token is asked for (distribution, token authentication).
struct TokenRequest {
  std::string realm, service;
  std::vector<std::string> scopes;  // normalized
};

struct BearerToken {
  std::string value;
  absl::Time expires_at;  // not to be used later; may be past: good for one request
};

// Asks the realm for a token: GET with the credentials, then a POST as OAuth has it where GET is
// not served; without a secret an anonymous GET. kUnauthenticated when the credentials are refused.
// Blocks.
absl::StatusOr<BearerToken> FetchRealmToken(const TokenRequest& request,
                                            const Credentials& credentials, const HttpTls& tls,
                                            const std::string& user_agent,
                                            HttpConnections* connections,
                                            const CancelToken& cancel);

// When a token is not to be used any more: after nine tenths of its life, a minute if that is not
// told.
absl::Time TokenExpiry(absl::Duration lifetime, absl::Time issued_at, absl::Time now);

}  // namespace kiln::daemon
