#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

// Paths inside an image, by the rules of its operating system. On Windows both slashes separate,
// and only drive C: exists. kInvalidArgument for another drive and for UNC paths.
namespace kiln::daemon::dockerfile {

// `path` below `parent`, absolute, with forward slashes and without drive; what is absolute already
// is not cleaned on Linux. `keep_slash` keeps "/" and "/." at the end.
absl::StatusOr<std::string> AbsolutePath(absl::string_view parent, absl::string_view path,
                                         absl::string_view os, bool keep_slash);
bool IsAbsolutePath(absl::string_view path, absl::string_view os);
// No change but on Windows.
absl::StatusOr<std::string> WithoutDrive(absl::string_view path, absl::string_view os,
                                         bool keep_slash);
std::string WithSlashes(absl::string_view path, absl::string_view os);
// As the system spells it: with backslashes on Windows.
std::string NativePath(absl::string_view path, absl::string_view os);

}  // namespace kiln::daemon::dockerfile
