#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

struct HttpRequest {
  std::string url;
  bool head = false;
  // Authorization and Cookie go to the first host only, not along a redirect to another one.
  std::vector<std::pair<std::string, std::string>> headers = {};
};

struct HttpResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  // of the last response; names in lower case

  // "" when absent.
  const std::string& Header(const std::string& lower_name) const;
};

struct HttpLimits {
  int max_redirects = 10;
  absl::Duration connect_timeout = absl::Seconds(30);
  absl::Duration stall_timeout = absl::Seconds(120);  // without a byte
};

// One request over http or https, following redirects. Blocks; honours `cancel` at once.
//
// `body` takes the bytes of a final response whose status is 2xx, after the headers are complete
// (`begin` is called first, its error ends the transfer); other bodies are dropped. Proxies are
// taken from the environment. kUnavailable for what a retry may mend (resolving, connecting, a
// broken transfer), kInvalidArgument for a URL that is none. Messages carry no credentials.
absl::StatusOr<HttpResponse> HttpDo(const HttpRequest& request, const HttpLimits& limits,
                                    const CancelToken& cancel,
                                    const std::function<absl::Status(const HttpResponse&)>& begin,
                                    const std::function<absl::Status(absl::string_view)>& body);

// The URL without user name and password, for messages.
std::string RedactUrl(absl::string_view url);

}  // namespace kiln::daemon
