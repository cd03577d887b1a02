#pragma once

#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/source/git_signature.h"
#include "daemon/source/source.h"

namespace kiln::daemon {

// The attributes of one git source.
struct GitSpec {
  std::string remote;
  std::string ref;     // "": the default branch
  std::string subdir;  // clean, without '/' at the ends; "": the whole tree
  std::string checksum;
  std::string auth_token_secret, auth_header_secret;
  std::string known_hosts, ssh_id;
  bool keep_git_dir = false;
  bool skip_submodules = false;
  bool fetch_by_commit = false;
  bool commit_mtime = false;
  std::string mtime;  // as given; part of the key
  std::optional<GitSignaturePolicy> signature;
  // A blob source that has the objects; "": they come from the remote.
  std::string bundle, bundle_session, bundle_store;
  bool checkout_bundle = false;  // the result is one file, a bundle of the whole history

  // The remote without credentials, for messages.
  std::string redacted() const;
  // The ref that a bundle names its commit by: a plain name is a branch.
  std::string bundle_ref() const;
  // SHA[.git[#REF]][:SUBDIR][(skip-submodules)][(mtime=X)][(bundle[ REF])], the last without REF
  // for refs/heads/main.
  std::string CacheKey(absl::string_view sha, absl::string_view resolved_ref) const;
};

// "git://REMOTE#REF:SUBDIR" and its attributes. kInvalidArgument names what is wrong.
absl::StatusOr<GitSpec> ParseGitSpec(const SourceSpec& source);

// 40 or 64 lower-case hex digits.
bool IsCommitSha(absl::string_view text);

// http, https, ssh and git URLs, and "user@host:path".
bool IsGitTransport(absl::string_view remote);

}  // namespace kiln::daemon
