#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "daemon/source/detached_signature.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// What must be signed (git.sig.*).
struct GitSignaturePolicy {
  TrustedKeys keys;
  bool require_signed_tag = false;  // a signed commit alone is not enough
  bool ignore_signed_tag = false;   // only the commit's signature counts
};

// Verifies the signature of an annotated tag ("": there is none), else of the commit; both as git
// keeps them. Errors as VerifyDetachedSignature. `folder` is private; what is made there is left.
absl::Status VerifyGitSignature(const GitSignaturePolicy& policy, absl::string_view commit_object,
                                absl::string_view tag_object, const std::string& folder,
                                const CancelToken& cancel);

}  // namespace kiln::daemon
