#include "daemon/frontend/dockerfile/os_path.h"

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/llb/go_path.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {
namespace {

constexpr absl::string_view kWindows = "windows";

std::string Cleaned(absl::string_view path, bool keep_slash) {
  std::string clean = client::llb::CleanPath(path);
  if (keep_slash && clean.size() > 1 && absl::EndsWith(path, "/")) clean += "/";
  return clean;
}

}  // namespace

std::string WithSlashes(absl::string_view path, absl::string_view os) {
  return os == kWindows ? absl::StrReplaceAll(path, {{"\\", "/"}}) : std::string(path);
}

std::string NativePath(absl::string_view path, absl::string_view os) {
  return os == kWindows ? absl::StrReplaceAll(path, {{"/", "\\"}}) : std::string(path);
}

absl::StatusOr<std::string> WithoutDrive(absl::string_view path, absl::string_view os,
                                         bool keep_slash) {
  if (os != kWindows) return std::string(path);
  if (path.size() == 2 && path[1] == ':') {
    return absl::InvalidArgumentError(absl::StrCat("No relative path specified in ", Quote(path)));
  }
  const std::string slashed = WithSlashes(path, os);
  if (absl::StartsWith(slashed, "//")) {
    return absl::InvalidArgumentError("UNC paths are not supported");
  }
  const size_t colon = slashed.find(':');
  if (colon == std::string::npos) return Cleaned(slashed, keep_slash);
  if (!absl::EqualsIgnoreCase(slashed.substr(0, colon), "c")) {
    return absl::InvalidArgumentError("The specified path is not on the system drive (C:)");
  }
  return Cleaned(slashed.substr(colon + 1), keep_slash);
}

bool IsAbsolutePath(absl::string_view path, absl::string_view os) {
  const auto bare = WithoutDrive(path, os, false);
  return bare.ok() && absl::StartsWith(WithSlashes(*bare, os), "/");
}

absl::StatusOr<std::string> AbsolutePath(absl::string_view parent, absl::string_view path,
                                         absl::string_view os, bool keep_slash) {
  const std::string written = WithSlashes(path, os);
  const auto bare = [&](absl::string_view text) {
    return Annotate(WithoutDrive(WithSlashes(text, os), os, keep_slash), "removing drive letter");
  };
  KILN_ASSIGN_OR_RETURN(std::string base, bare(parent.empty() ? "/" : parent));
  if (!IsAbsolutePath(base, os)) base = client::llb::JoinPath("/", base);
  KILN_ASSIGN_OR_RETURN(std::string out, bare(written.empty() ? base : written));
  if (!IsAbsolutePath(out, os)) out = client::llb::JoinPath(base, out);
  if (keep_slash) {
    if (absl::EndsWith(written, "/") && !absl::EndsWith(out, "/")) {
      out += "/";
    } else if (absl::EndsWith(written, "/.")) {
      out += out == "/" ? "." : "/.";
    }
  }
  return WithSlashes(out, os);
}

}  // namespace kiln::daemon::dockerfile
