#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// Whose signatures count.
struct TrustedKeys {
  // Armored OpenPGP keys, or SSH public keys one a line, as the kind of signature asks for.
  std::string text;
  // Keys that have expired by now. Else it is enough that they were valid when they signed.
  bool reject_expired = false;
};

// Verifies an armored OpenPGP or SSH signature (namespace "git", as git makes them) of `data`, with
// gpg or ssh-keygen and nothing but the given keys. SHA-2, RSA of 2048 bits and more, ECDSA or
// EdDSA; no revoked keys; not from the future. `folder` is private and empty; files are left there.
// kFailedPrecondition says why the signature does not count, kInvalidArgument what is wrong with
// the keys. Blocks.
absl::Status VerifyDetachedSignature(absl::string_view data, absl::string_view signature,
                                     const TrustedKeys& keys, const std::string& folder,
                                     const CancelToken& cancel);

}  // namespace kiln::daemon
