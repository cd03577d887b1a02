#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/llb/source.h"

namespace kiln::daemon::dockerfile {

// What a git URL says (dockerfile.md 5.6).
struct GitReference {
  std::string remote;  // without query and fragment
  std::string ref, subdir, checksum;
  std::optional<bool> keep_git_dir, submodules;
  std::string mtime;  // "", "checkout" or "commit"
  bool fetch_by_commit = false;
  // "github.com/…": only a context may be meant by it, a path in COPY and ADD.
  bool looks_local = false;
};

// nullopt for what is no git URL. kInvalidArgument for one with a faulty query.
absl::StatusOr<std::optional<GitReference>> ParseGitReference(absl::string_view text);

// The source with all that the URL says, but for `.git`, which others decide about, too.
client::llb::GitInfo GitSourceInfo(const GitReference& reference);

// http:// or https://, and no git URL.
bool IsHttpSource(absl::string_view text);
// Of a URL's path; "__unnamed__" when it has none.
std::string HttpFilename(absl::string_view url);

}  // namespace kiln::daemon::dockerfile
