#include "daemon/registry/token_proof.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <memory>

#include "store/base/check.h"

namespace kiln::daemon {

namespace {

constexpr size_t kKeyBytes = 32;
constexpr size_t kSignatureBytes = 64;

const unsigned char* Bytes(absl::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

}  // namespace

std::string RandomBytes(size_t count) {
  std::string out(count, '\0');
  KILN_CHECK(
      RAND_bytes(reinterpret_cast<unsigned char*>(out.data()), static_cast<int>(out.size())) == 1);
  return out;
}

bool IsSignedBy(absl::string_view public_key, absl::string_view payload,
                absl::string_view signed_message) {
  if (public_key.size() != kKeyBytes || signed_message.size() != kSignatureBytes + payload.size() ||
      signed_message.substr(kSignatureBytes) != payload)
    return false;
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, Bytes(public_key), public_key.size()),
      EVP_PKEY_free);
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        EVP_MD_CTX_free);
  const bool good =
      key != nullptr && context != nullptr &&
      EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1 &&
      EVP_DigestVerify(context.get(), Bytes(signed_message), kSignatureBytes, Bytes(payload),
                       payload.size()) == 1;
  ERR_clear_error();
  return good;
}

}  // namespace kiln::daemon
