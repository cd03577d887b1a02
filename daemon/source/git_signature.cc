#include "daemon/source/git_signature.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

struct SignedObject {
  std::string data, signature;
};

// The header "gpgsig", with its continuation lines, is the signature of the rest; "gpgsig-sha256"
// is that of a repository with SHA-256 names (git, signature-format). Neither is signed.
SignedObject SplitCommit(absl::string_view object) {
  SignedObject out;
  const bool sha256 = object.find('\n') == 5 + 64;  // "tree NAME"
  const absl::string_view ours = sha256 ? "gpgsig-sha256 " : "gpgsig ";
  bool in_ours = false, in_other = false;
  while (!object.empty() && object[0] != '\n') {  // then the message begins
    const absl::string_view whole =
        object.substr(0, std::min(object.find('\n'), object.size() - 1) + 1);
    object.remove_prefix(whole.size());
    absl::string_view line = whole;
    if (!(in_ours || in_other) || !absl::ConsumePrefix(&line, " ")) {
      in_ours = absl::ConsumePrefix(&line, ours);
      in_other = !in_ours && absl::StartsWith(line, "gpgsig");
    }
    if (in_ours) absl::StrAppend(&out.signature, line);
    if (!in_ours && !in_other) absl::StrAppend(&out.data, whole);
  }
  absl::StrAppend(&out.data, object);
  return out;
}

// The signature stands at the end of the message; as for git the last beginning counts.
SignedObject SplitTag(absl::string_view object) {
  size_t at = absl::string_view::npos;
  for (const absl::string_view begin :
       {"\n-----BEGIN PGP SIGNATURE-----\n", "\n-----BEGIN SSH SIGNATURE-----\n"}) {
    const size_t found = object.rfind(begin);
    if (found != absl::string_view::npos && (at == absl::string_view::npos || found > at))
      at = found;
  }
  if (at == absl::string_view::npos) return {std::string(object), ""};
  return {std::string(object.substr(0, at + 1)), std::string(object.substr(at + 1))};
}

absl::Status Verify(const SignedObject& object, const TrustedKeys& keys, const std::string& folder,
                    const CancelToken& cancel) {
  if (object.signature.empty()) return absl::FailedPreconditionError("git object is not signed");
  if (::mkdir(folder.c_str(), 0700) != 0)
    return ErrnoStatus(errno, absl::StrCat("make folder ", folder));
  return VerifyDetachedSignature(object.data, object.signature, keys, folder, cancel);
}

}  // namespace

absl::Status VerifyGitSignature(const GitSignaturePolicy& policy, absl::string_view commit_object,
                                absl::string_view tag_object, const std::string& folder,
                                const CancelToken& cancel) {
  absl::Status tag = absl::FailedPreconditionError("signed tag required but no signed tag found");
  if (!policy.ignore_signed_tag && !tag_object.empty()) {
    tag = Verify(SplitTag(tag_object), policy.keys, absl::StrCat(folder, "/tag"), cancel);
    if (tag.ok() || cancel.Cancelled()) return tag;
  }
  if (policy.require_signed_tag) return tag;
  return Verify(SplitCommit(commit_object), policy.keys, absl::StrCat(folder, "/commit"), cancel);
}

}  // namespace kiln::daemon
