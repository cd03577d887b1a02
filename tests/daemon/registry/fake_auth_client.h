#pragma once

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <openssl/evp.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "proto/buildkit/auth.grpc.pb.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

// The Auth service of a client, served in this process.
class FakeAuthClient : private moby::filesync::v1::Auth::Service {
 public:
  FakeAuthClient() : key_(nullptr, EVP_PKEY_free) {
    grpc::ServerBuilder builder;
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~FakeAuthClient() override { server_->Shutdown(std::chrono::system_clock::now()); }

  std::shared_ptr<grpc::Channel> Channel() { return server_->InProcessChannel({}); }

  // 32 bytes: fetches its tokens itself, under the key that comes of it.
  void UseSeed(const std::string& seed) {
    key_.reset(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr,
                                            reinterpret_cast<const unsigned char*>(seed.data()),
                                            seed.size()));
  }
  // "METHOD host" of each call.
  std::vector<std::string> Calls() {
    MutexLock lock(&mu_);
    return calls_;
  }

  // Set before use.
  std::string username, secret;
  std::string token;        // what FetchToken answers
  std::string claimed_key;  // told in place of the own public key
  std::function<void(grpc::ServerContext*)> on_credentials;

 private:
  using Status = grpc::Status;

  void Note(const std::string& call) {
    MutexLock lock(&mu_);
    calls_.push_back(call);
  }
  std::string PublicKey() {
    std::string out(32, '\0');
    size_t size = out.size();
    EVP_PKEY_get_raw_public_key(key_.get(), reinterpret_cast<unsigned char*>(out.data()), &size);
    return out;
  }

  Status Credentials(grpc::ServerContext* context,
                     const moby::filesync::v1::CredentialsRequest* request,
                     moby::filesync::v1::CredentialsResponse* response) override {
    Note("Credentials " + request->host());
    if (on_credentials) on_credentials(context);
    response->set_username(username);
    response->set_secret(secret);
    return Status::OK;
  }
  Status GetTokenAuthority(grpc::ServerContext*,
                           const moby::filesync::v1::GetTokenAuthorityRequest* request,
                           moby::filesync::v1::GetTokenAuthorityResponse* response) override {
    Note("GetTokenAuthority " + request->host());
    if (key_ == nullptr)
      return Status(grpc::StatusCode::UNAVAILABLE, "client side tokens disabled");
    response->set_publickey(claimed_key.empty() ? PublicKey() : claimed_key);
    return Status::OK;
  }
  Status VerifyTokenAuthority(grpc::ServerContext*,
                              const moby::filesync::v1::VerifyTokenAuthorityRequest* request,
                              moby::filesync::v1::VerifyTokenAuthorityResponse* response) override {
    Note("VerifyTokenAuthority " + request->host());
    std::string out(64, '\0');
    size_t size = out.size();
    EVP_MD_CTX* const context = EVP_MD_CTX_new();
    EVP_DigestSignInit(context, nullptr, nullptr, nullptr, key_.get());
    EVP_DigestSign(context, reinterpret_cast<unsigned char*>(out.data()), &size,
                   reinterpret_cast<const unsigned char*>(request->payload().data()),
                   request->payload().size());
    EVP_MD_CTX_free(context);
    response->set_signed_(out + request->payload());
    return Status::OK;
  }
  Status FetchToken(grpc::ServerContext*, const moby::filesync::v1::FetchTokenRequest* request,
                    moby::filesync::v1::FetchTokenResponse* response) override {
    std::string call = "FetchToken " + request->realm();
    for (const std::string& scope : request->scopes()) call += " " + scope;
    Note(call);
    if (token.empty()) return Status(grpc::StatusCode::UNAUTHENTICATED, "no such user");
    response->set_token(token);
    response->set_expiresin(300);
    return Status::OK;
  }

  Mutex mu_;
  std::vector<std::string> calls_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace kiln::daemon
