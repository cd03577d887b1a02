#include "daemon/source/git_spec.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "daemon/source/go_values.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

bool AllOf(absl::string_view text, const char* extra) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return absl::ascii_isalnum(c) || absl::string_view(extra).find(c) != absl::string_view::npos;
  });
}

// "user@host:path", which git takes as ssh.
bool IsScpStyle(absl::string_view remote) {
  const size_t at = remote.find('@');
  if (at == absl::string_view::npos || !AllOf(remote.substr(0, at), "-_")) return false;
  const size_t colon = remote.find(':', at);
  return colon != absl::string_view::npos && AllOf(remote.substr(at + 1, colon - at - 1), "-.");
}

// "" when there is no "scheme://".
std::string SchemeOf(absl::string_view remote) {
  const size_t end = remote.find("://");
  if (end == absl::string_view::npos || !AllOf(remote.substr(0, end), "")) return "";
  return absl::AsciiStrToLower(remote.substr(0, end));
}

bool IsKnownScheme(absl::string_view scheme) {
  return scheme == "http" || scheme == "https" || scheme == "ssh" || scheme == "git";
}

std::string CleanSubdir(absl::string_view text) {
  std::vector<absl::string_view> parts;
  for (absl::string_view part : absl::StrSplit(text, '/')) {
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      parts.push_back(part);
    } else if (!parts.empty()) {
      parts.pop_back();
    }
  }
  return absl::StrJoin(parts, "/");
}

bool IsHex(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), absl::ascii_isxdigit);
}

absl::Status SetRemote(absl::string_view text, GitSpec* spec) {
  const std::string remote =
      IsGitTransport(text) ? std::string(text) : absl::StrCat("https://", text);
  if (const std::string scheme = SchemeOf(text); !scheme.empty() && !IsKnownScheme(scheme))
    return absl::InvalidArgumentError(
        absl::StrCat("invalid git remote: protocol ", scheme, " is not supported"));
  if (remote.find_first_of("\r\n\0", 0, 3) != std::string::npos)
    return absl::InvalidArgumentError("invalid git remote: control character");
  spec->remote = remote;
  return absl::OkStatus();
}

absl::Status ParseIdentifier(absl::string_view identifier, GitSpec* spec) {
  const absl::string_view rest = absl::StripPrefix(identifier, "git://");
  const size_t hash = rest.find('#');
  KILN_RETURN_IF_ERROR(SetRemote(rest.substr(0, std::min(hash, rest.find('?'))), spec));
  if (hash == absl::string_view::npos) return absl::OkStatus();
  const std::string fragment = PercentDecode(rest.substr(hash + 1));
  const size_t colon = fragment.find(':');
  spec->ref = fragment.substr(0, colon);
  if (colon != std::string::npos) spec->subdir = CleanSubdir(fragment.substr(colon + 1));
  return absl::OkStatus();
}

absl::Status SetSignature(const std::string& key, const std::string& value, GitSpec* spec) {
  if (!spec->signature.has_value()) spec->signature.emplace();
  GitSignaturePolicy& policy = *spec->signature;
  if (key == "git.sig.pubkey") {
    policy.keys.text = value;
  } else if (key == "git.sig.rejectexpired") {
    policy.keys.reject_expired = value == "true";
  } else if (key == "git.sig.requiresignedtag") {
    policy.require_signed_tag = value == "true";
  } else if (key == "git.sig.ignoresignedtag") {
    policy.ignore_signed_tag = value == "true";
  } else {
    // Ignoring what restricts signatures would accept too many.
    return absl::UnimplementedError(absl::StrCat("signatures of git sources: ", key));
  }
  return absl::OkStatus();
}

absl::Status SetAttribute(const std::string& key, const std::string& value, GitSpec* spec) {
  if (key == "git.fullurl") return SetRemote(value, spec);
  if (key == "git.keepgitdir") spec->keep_git_dir = value == "true";
  if (key == "git.authtokensecret") spec->auth_token_secret = value;
  if (key == "git.authheadersecret") spec->auth_header_secret = value;
  if (key == "git.knownsshhosts") spec->known_hosts = value;
  if (key == "git.mountsshsock") spec->ssh_id = value;
  if (key == "git.skipsubmodules") spec->skip_submodules = value == "true";
  if (key == "git.fetchbycommit") spec->fetch_by_commit = value == "true";
  if (key == "git.checksum") {
    if (!value.empty() && !IsHex(value))
      return absl::InvalidArgumentError(absl::StrCat(
          "invalid checksum ", value, " for Git URL, expected hex commit hash (git.checksum)"));
    spec->checksum = value;
  }
  if (key == "git.mtime") {
    if (!value.empty() && value != "checkout" && value != "commit")
      return absl::InvalidArgumentError(
          absl::StrCat("invalid value for git.mtime \"", value, "\": must be checkout or commit"));
    spec->mtime = value;
    spec->commit_mtime = value == "commit";
  }
  if (key == "git.bundle") spec->bundle = value;
  if (key == "oci.session") spec->bundle_session = value;
  if (key == "oci.store") spec->bundle_store = value;
  if (key == "git.checkoutbundle") spec->checkout_bundle = value == "true";
  if (absl::StartsWith(key, "git.sig.")) return SetSignature(key, value, spec);
  return absl::OkStatus();
}

constexpr char kDefaultBundleRef[] = "refs/heads/main";
constexpr absl::string_view kRegistryBlob = "docker-image+blob://";
constexpr absl::string_view kLayoutBlob = "oci-layout+blob://";

absl::Status CheckBundle(GitSpec* spec) {
  if (spec->checkout_bundle && spec->keep_git_dir)
    return absl::InvalidArgumentError("git.checkoutbundle is incompatible with git.keepgitdir");
  if (spec->checkout_bundle && !spec->subdir.empty())
    return absl::InvalidArgumentError("git.checkoutbundle is incompatible with git.subdir");
  if (spec->bundle.empty()) return absl::OkStatus();
  absl::string_view locator = spec->bundle;
  const bool layout = absl::ConsumePrefix(&locator, kLayoutBlob);
  if (!layout && !absl::ConsumePrefix(&locator, kRegistryBlob))
    return absl::InvalidArgumentError(
        absl::StrCat("git.bundle locator \"", spec->bundle, "\": expected ", kRegistryBlob,
                     "NAME@sha256:HEX or ", kLayoutBlob, "NAME@sha256:HEX"));
  const size_t at = locator.rfind("@sha256:");
  if (at == absl::string_view::npos || !IsCommitSha(locator.substr(at + 8)) ||
      locator.size() != at + 8 + 64)
    return absl::InvalidArgumentError(
        absl::StrCat("git.bundle locator \"", spec->bundle, "\": it must end in @sha256:HEX"));
  if (layout && spec->bundle_store.empty()) spec->bundle_store = std::string(locator.substr(0, at));
  if (spec->checksum.empty())
    return absl::InvalidArgumentError("git.bundle requires git.checksum to be set");
  if (spec->ref.empty() && !IsCommitSha(spec->checksum))
    return absl::InvalidArgumentError(
        absl::StrCat("git.bundle without a ref requires a full commit SHA checksum, got \"",
                     spec->checksum, "\""));
  return absl::OkStatus();
}

}  // namespace

bool IsCommitSha(absl::string_view text) {
  if (text.size() != 40 && text.size() != 64) return false;
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f'); });
}

bool IsGitTransport(absl::string_view remote) {
  const std::string scheme = SchemeOf(remote);
  return scheme.empty() ? IsScpStyle(remote) : IsKnownScheme(scheme);
}

std::string GitSpec::redacted() const {
  const size_t begin = remote.find("://");
  const size_t at = remote.rfind('@', remote.find('/', begin == std::string::npos ? 0 : begin + 3));
  if (begin == std::string::npos || at == std::string::npos || at < begin) return remote;
  const std::string user = remote.substr(begin + 3, at - begin - 3);
  if (user.find(':') == std::string::npos && SchemeOf(remote) == "ssh") return remote;
  return absl::StrCat(remote.substr(0, begin + 3), "xxxxx", remote.substr(at));
}

std::string GitSpec::bundle_ref() const {
  if (ref.empty() || IsCommitSha(ref)) return kDefaultBundleRef;
  if (absl::StartsWith(ref, "refs/tags/")) return ref;
  return absl::StrCat("refs/heads/", absl::StripPrefix(absl::StripPrefix(ref, "refs/"), "heads/"));
}

std::string GitSpec::CacheKey(absl::string_view sha, absl::string_view resolved_ref) const {
  std::string key(sha);
  if (keep_git_dir) {
    absl::StrAppend(&key, ".git");
    if (!resolved_ref.empty()) absl::StrAppend(&key, "#", resolved_ref);
  }
  if (!subdir.empty()) absl::StrAppend(&key, ":", subdir);
  if (skip_submodules) absl::StrAppend(&key, "(skip-submodules)");
  if (!mtime.empty() && mtime != "checkout") absl::StrAppend(&key, "(mtime=", mtime, ")");
  // BuildKit leaves the name out, and so hands out bundles with another one.
  if (checkout_bundle)
    absl::StrAppend(&key, bundle_ref() == kDefaultBundleRef
                              ? "(bundle)"
                              : absl::StrCat("(bundle ", bundle_ref(), ")"));
  return key;
}

absl::StatusOr<GitSpec> ParseGitSpec(const SourceSpec& source) {
  GitSpec spec;
  KILN_RETURN_IF_ERROR(ParseIdentifier(source.identifier, &spec));
  for (const auto& [key, value] : source.attrs)
    KILN_RETURN_IF_ERROR(SetAttribute(key, value, &spec));
  if (absl::StartsWith(spec.ref, "-") ||
      spec.ref.find_first_of("\n\r\0 ", 0, 4) != std::string::npos)
    return absl::InvalidArgumentError(absl::StrCat("invalid git ref \"", spec.ref, "\""));
  if (IsCommitSha(spec.ref) && !absl::StartsWith(spec.ref, spec.checksum))
    return absl::InvalidArgumentError(
        absl::StrCat("expected checksum to match ", spec.checksum, ", got ", spec.ref));
  KILN_RETURN_IF_ERROR(CheckBundle(&spec));
  if (spec.signature.has_value() && spec.signature->keys.text.empty())
    return absl::InvalidArgumentError("verifying git signatures requires git.sig.pubkey");
  if (spec.fetch_by_commit && !IsCommitSha(spec.ref)) {
    if (spec.checksum.empty())
      return absl::InvalidArgumentError(
          "fetch-by-commit requires a checksum or a commit SHA ref (git.fetchbycommit)");
    if (!IsCommitSha(spec.checksum))
      return absl::InvalidArgumentError(absl::StrCat(
          "fetch-by-commit requires a full commit SHA checksum, got \"", spec.checksum, "\""));
  }
  return spec;
}

}  // namespace kiln::daemon
