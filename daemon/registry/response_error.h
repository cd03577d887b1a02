#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "daemon/source/http_client.h"

namespace kiln::daemon {

// What an answer other than success means: the status, the URL and what the registry's error body
// says ("errors":[{code,message,detail}]). kUnauthenticated for 401, kPermissionDenied for 403,
// kNotFound for 404, kUnavailable for 408, 429 and 5xx, else kFailedPrecondition.
absl::Status ResponseError(absl::string_view method, absl::string_view url,
                           const HttpResponse& response);

// The same with the text of another kind of service.
absl::Status StatusError(absl::string_view method, absl::string_view url, int status,
                         absl::string_view text);

// The text in the error body of a registry or token server, at most a few hundred bytes; "" when
// there is none.
std::string ErrorBodyText(absl::string_view body);

}  // namespace kiln::daemon
