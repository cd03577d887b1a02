#include "tests/daemon/rpc/test_certs.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>

namespace kiln::daemon {

namespace {

struct Identity {
  std::shared_ptr<EVP_PKEY> key;
  std::shared_ptr<X509> cert;
};

Identity Make(const char* name, const Identity* issuer) {
  Identity made;
  made.key = {EVP_EC_gen("P-256"), EVP_PKEY_free};
  made.cert = {X509_new(), X509_free};
  X509* cert = made.cert.get();
  X509_set_version(cert, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(cert), issuer ? 2 : 1);
  X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
  X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
  X509_NAME* subject = X509_get_subject_name(cert);
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name), -1, -1, 0);
  X509_set_issuer_name(cert, issuer ? X509_get_subject_name(issuer->cert.get()) : subject);
  X509_set_pubkey(cert, made.key.get());
  X509V3_CTX context;
  X509V3_set_ctx(&context, cert, cert, nullptr, nullptr, 0);
  X509_EXTENSION* extension =
      issuer ? X509V3_EXT_conf_nid(nullptr, &context, NID_subject_alt_name,
                                   "DNS:localhost,IP:127.0.0.1")
             : X509V3_EXT_conf_nid(nullptr, &context, NID_basic_constraints, "critical,CA:TRUE");
  X509_add_ext(cert, extension, -1);
  X509_EXTENSION_free(extension);
  X509_sign(cert, issuer ? issuer->key.get() : made.key.get(), EVP_sha256());
  return made;
}

void Save(const Identity& identity, const std::string& cert, const std::string& key) {
  if (FILE* file = fopen(cert.c_str(), "w")) {
    PEM_write_X509(file, identity.cert.get());
    fclose(file);
  }
  if (FILE* file = key.empty() ? nullptr : fopen(key.c_str(), "w")) {
    PEM_write_PrivateKey(file, identity.key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    fclose(file);
  }
}

}  // namespace

TestCerts MakeTestCerts(const std::string& dir) {
  const TestCerts certs = {dir + "/ca.pem", dir + "/server.pem", dir + "/server.key",
                           dir + "/client.pem", dir + "/client.key"};
  const Identity ca = Make("test ca", nullptr);
  Save(ca, certs.ca, "");
  Save(Make("localhost", &ca), certs.server_cert, certs.server_key);
  Save(Make("client", &ca), certs.client_cert, certs.client_key);
  return certs;
}

}  // namespace kiln::daemon
