#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace kiln::daemon {

// Name of a downloaded file, always one safe path component: what the build says, else what the
// response's Content-Disposition says, else the last part of the URL's path, else "download".
std::string DownloadName(absl::string_view url, absl::string_view wanted,
                         absl::string_view content_disposition);

// An HTTP date in any of its three forms (RFC 9110, 5.6.7); nullopt when it is none.
std::optional<absl::Time> ParseHttpDate(absl::string_view text);
// "Sun, 06 Nov 1994 08:49:37 GMT".
std::string FormatHttpDate(absl::Time time);

// Host name of a URL: no user, no port, no brackets.
std::string UrlHost(absl::string_view url);

}  // namespace kiln::daemon
