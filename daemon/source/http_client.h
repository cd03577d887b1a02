#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// How a server proves who it is, and we to it. The system's authorities always count.
struct HttpTls {
  std::vector<std::string> ca_files = {};  // more authorities, PEM
  struct KeyPair {
    std::string cert_file, key_file;  // PEM
  };
  std::vector<KeyPair> key_pairs = {};  // one is shown to a server that asks: which is its choice
  bool insecure = false;                // any certificate will do
};

// What a request sends. `read` fills up to `size` bytes and returns how many; 0 is the end, which
// must come after exactly `size_bytes`.
struct HttpBody {
  int64_t size_bytes = 0;
  std::function<absl::StatusOr<size_t>(char* out, size_t size)> read;
  // Makes `read` begin anew, after a redirect; null: it cannot.
  std::function<void()> restart = nullptr;
};
// A body that is a text; `text` outlives it.
HttpBody TextBody(absl::string_view text);

struct HttpRequest {
  std::string url;
  std::string method = "GET";
  // Authorization and Cookie go to the first host only, not along a redirect to another one.
  std::vector<std::pair<std::string, std::string>> headers = {};
  std::optional<HttpBody> body = std::nullopt;
  HttpTls tls = {};
  // "zstd, gzip": what the server may compress with; decoded on the way. "": not offered.
  std::string accept_encoding = {};
  // Refuses to connect to loopback and link-local addresses, whatever name or redirect leads there.
  bool only_public_addresses = false;
  bool direct = false;  // through no proxy, as loopback hosts always are
};

struct HttpResponse {
  int status = 0;
  // Of the last response; names in lower case, several values of one name joined by ", ".
  std::map<std::string, std::string> headers;
  std::string error_body;  // the beginning of a body whose status is not 2xx

  // "" when absent.
  const std::string& Header(const std::string& lower_name) const;
};

struct HttpLimits {
  int max_redirects = 10;  // never from https to http
  absl::Duration connect_timeout = absl::Seconds(30);
  absl::Duration stall_timeout = absl::Seconds(120);  // without a byte
  size_t max_header_bytes = 1 << 20;
};

// What stood in the way of a response.
enum class HttpFailure {
  kNone,         // not a failure of HttpDo
  kConnect,      // nobody answers under that name and port
  kTls,          // no TLS spoken there
  kCertificate,  // not who it should be
  kTransfer,     // the connection broke or stalled
  kOther,        // nothing that another try would change
};
HttpFailure FailureOf(const absl::Status& status);

// Connections kept for the next request to the same host. Thread-safe; outlives the requests.
class HttpConnections {
 public:
  HttpConnections();
  ~HttpConnections();
  HttpConnections(const HttpConnections&) = delete;
  HttpConnections& operator=(const HttpConnections&) = delete;

 private:
  friend class HttpExchange;
  struct Pool;
  const std::unique_ptr<Pool> pool_;
};

// One request over http or https (HTTP/1.1 or better), following redirects. Blocks; honours
// `cancel` at once. `connections` may be null.
//
// `body` takes the bytes of a final response whose status is 2xx, after the headers are complete
// (`begin` is called first, its error ends the transfer). Proxies are taken from the environment,
// but not for loopback hosts. kUnavailable for what a retry may mend (resolving, connecting, a
// broken transfer), kInvalidArgument for a URL that is none. Messages carry no credentials.
absl::StatusOr<HttpResponse> HttpDo(const HttpRequest& request, const HttpLimits& limits,
                                    const CancelToken& cancel,
                                    const std::function<absl::Status(const HttpResponse&)>& begin,
                                    const std::function<absl::Status(absl::string_view)>& body,
                                    HttpConnections* connections = nullptr);

// "localhost", 127.0.0.0/8 or ::1, with or without port and brackets.
bool IsLoopbackHost(absl::string_view host);

// A reference found in a response to `base`, as a whole URL. kFailedPrecondition when it is none,
// or empty.
absl::StatusOr<std::string> ResolveUrl(absl::string_view base, absl::string_view reference);

// The URL without user name and password, for messages.
std::string RedactUrl(absl::string_view url);

}  // namespace kiln::daemon
