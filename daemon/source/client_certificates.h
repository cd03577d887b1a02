#pragma once

#include <openssl/ssl.h>

#include <vector>

#include "absl/status/status.h"
#include "daemon/source/http_client.h"

namespace kiln::daemon {

// Has clients made from `context` show one of these certificates when a server asks for one: the
// first that an authority named by the server has issued, else the first. The context owns what is
// read. kFailedPrecondition names a file that cannot be used.
absl::Status UseClientCertificates(SSL_CTX* context, const std::vector<HttpTls::KeyPair>& pairs);

}  // namespace kiln::daemon
