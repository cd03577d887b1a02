#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace kiln::daemon {

// Random bytes from the system, for salts and challenges.
std::string RandomBytes(size_t count);

// Whether `signed_message` is `payload` with an ed25519 signature of `public_key` (32 bytes) in
// front of it, as NaCl's crypto_sign makes it.
bool IsSignedBy(absl::string_view public_key, absl::string_view payload,
                absl::string_view signed_message);

}  // namespace kiln::daemon
