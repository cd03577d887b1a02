#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace kiln::client::llb {

// The shortest equivalent of a slash-separated path, as Go's path.Clean: no "." or inner "..", no
// doubled or trailing slash; "" becomes ".". Peers compare op digests, so the form must be theirs.
std::string CleanPath(absl::string_view path);

// CleanPath of `dir` + "/" + `path`; empty parts are left out.
std::string JoinPath(absl::string_view dir, absl::string_view path);

// The last element, as Go's path.Base: not what follows a trailing slash. "" is ".", "//" is "/".
std::string BasePath(absl::string_view path);

}  // namespace kiln::client::llb
