#include "daemon/source/client_certificates.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(STACK_OF(X509) * chain) const { sk_X509_pop_free(chain, X509_free); }
};

struct Identity {
  std::unique_ptr<X509, Free> certificate;
  std::unique_ptr<EVP_PKEY, Free> key;
  std::unique_ptr<STACK_OF(X509), Free> chain;  // what leads from the certificate to its authority

  bool IssuedByOneOf(const STACK_OF(X509_NAME) * authorities) const {
    for (int i = 0; i < sk_X509_NAME_num(authorities); ++i) {
      const X509_NAME* name = sk_X509_NAME_value(authorities, i);
      if (X509_NAME_cmp(X509_get_issuer_name(certificate.get()), name) == 0) return true;
      for (int j = 0; j < sk_X509_num(chain.get()); ++j)
        if (X509_NAME_cmp(X509_get_issuer_name(sk_X509_value(chain.get(), j)), name) == 0)
          return true;
    }
    return false;
  }
};
using Identities = std::vector<Identity>;

// Where a context keeps its identities; freed with it.
int Slot() {
  static const int slot = SSL_CTX_get_ex_new_index(
      0, nullptr, nullptr, nullptr, [](void*, void* held, CRYPTO_EX_DATA*, int, long, void*) {
        delete static_cast<Identities*>(held);
      });
  return slot;
}

int Choose(SSL* ssl, void*) {
  const auto* identities =
      static_cast<const Identities*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), Slot()));
  const STACK_OF(X509_NAME)* authorities = SSL_get0_peer_CA_list(ssl);
  const Identity* chosen = &identities->front();
  for (const Identity& each : *identities) {
    if (!each.IssuedByOneOf(authorities)) continue;
    chosen = &each;
    break;
  }
  return SSL_use_cert_and_key(ssl, chosen->certificate.get(), chosen->key.get(),
                              chosen->chain.get(), 1);
}

absl::Status Unusable(absl::string_view what, const std::string& file) {
  ERR_clear_error();
  return absl::FailedPreconditionError(absl::StrCat(what, " ", file, ": not a readable PEM file"));
}

absl::StatusOr<Identity> Read(const HttpTls::KeyPair& pair) {
  Identity identity;
  const std::unique_ptr<BIO, Free> certificates(BIO_new_file(pair.cert_file.c_str(), "r"));
  if (certificates != nullptr)
    identity.certificate.reset(PEM_read_bio_X509(certificates.get(), nullptr, nullptr, nullptr));
  if (identity.certificate == nullptr) return Unusable("client certificate", pair.cert_file);
  identity.chain.reset(sk_X509_new_null());
  while (X509* more = PEM_read_bio_X509(certificates.get(), nullptr, nullptr, nullptr))
    sk_X509_push(identity.chain.get(), more);
  ERR_clear_error();  // that of the end of the file
  const std::unique_ptr<BIO, Free> key(BIO_new_file(pair.key_file.c_str(), "r"));
  // No passphrase is asked for on the daemon's terminal.
  const auto no_passphrase = [](char*, int, int, void*) { return 0; };
  if (key != nullptr)
    identity.key.reset(PEM_read_bio_PrivateKey(key.get(), nullptr, no_passphrase, nullptr));
  if (identity.key == nullptr) return Unusable("client key", pair.key_file);
  if (X509_check_private_key(identity.certificate.get(), identity.key.get()) != 1) {
    ERR_clear_error();
    return absl::FailedPreconditionError(absl::StrCat(
        "client key ", pair.key_file, " is not that of the certificate ", pair.cert_file));
  }
  return identity;
}

}  // namespace

absl::Status UseClientCertificates(SSL_CTX* context, const std::vector<HttpTls::KeyPair>& pairs) {
  if (pairs.empty()) return absl::OkStatus();
  auto identities = std::make_unique<Identities>();
  for (const HttpTls::KeyPair& pair : pairs) {
    KILN_ASSIGN_OR_RETURN(Identity identity, Read(pair));
    identities->push_back(std::move(identity));
  }
  if (SSL_CTX_set_ex_data(context, Slot(), identities.get()) != 1)
    return absl::ResourceExhaustedError("client certificates");
  identities.release();
  SSL_CTX_set_cert_cb(context, &Choose, nullptr);
  return absl::OkStatus();
}

}  // namespace kiln::daemon
