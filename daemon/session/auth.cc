#include "daemon/session/auth.h"

#include <grpcpp/channel.h>

#include <chrono>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/session/session_call.h"
#include "proto/buildkit/auth.grpc.pb.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

using moby::filesync::v1::Auth;
constexpr char kClientId[] = "buildkit-client";
constexpr std::chrono::seconds kTimeout(60);

// One unary call of the service. The deadline is its own: a client may ask its user.
template <typename Request, typename Response>
absl::Status Call(Session& session, const CancelToken& cancel,
                  grpc::Status (Auth::Stub::*method)(grpc::ClientContext*, const Request&,
                                                     Response*),
                  const Request& request, Response* response) {
  SessionCall call(session, cancel);
  call.context()->set_deadline(std::chrono::system_clock::now() + kTimeout);
  const std::unique_ptr<Auth::Stub> stub = Auth::NewStub(session.channel());
  return call.ToStatus(((*stub).*method)(call.context(), request, response));
}

}  // namespace

absl::StatusOr<Credentials> GetCredentials(Session& session, const std::string& host,
                                           const CancelToken& cancel) {
  moby::filesync::v1::CredentialsRequest request;
  request.set_host(host);
  moby::filesync::v1::CredentialsResponse response;
  const absl::Status status = Call(session, cancel, &Auth::Stub::Credentials, request, &response);
  if (absl::IsUnimplemented(status)) return Credentials();
  if (!status.ok()) return Annotate(status, absl::StrCat("credentials for ", host));
  return Credentials{response.username(), response.secret()};
}

absl::StatusOr<std::string> GetTokenAuthority(Session& session, const std::string& host,
                                              absl::string_view salt, const CancelToken& cancel) {
  moby::filesync::v1::GetTokenAuthorityRequest request;
  request.set_host(host);
  request.set_salt(std::string(salt));
  moby::filesync::v1::GetTokenAuthorityResponse response;
  const absl::Status status =
      Call(session, cancel, &Auth::Stub::GetTokenAuthority, request, &response);
  const bool declined = absl::IsUnimplemented(status) ||
                        (absl::IsUnavailable(status) && !session.closed().Cancelled());
  if (declined) return std::string();
  if (!status.ok()) return Annotate(status, absl::StrCat("token authority for ", host));
  return std::move(*response.mutable_publickey());
}

absl::StatusOr<std::string> SignTokenAuthority(Session& session, const std::string& host,
                                               absl::string_view salt, absl::string_view payload,
                                               const CancelToken& cancel) {
  moby::filesync::v1::VerifyTokenAuthorityRequest request;
  request.set_host(host);
  request.set_salt(std::string(salt));
  request.set_payload(std::string(payload));
  moby::filesync::v1::VerifyTokenAuthorityResponse response;
  const absl::Status status =
      Call(session, cancel, &Auth::Stub::VerifyTokenAuthority, request, &response);
  if (!status.ok())
    return Annotate(status, absl::StrCat("proof of the token authority for ", host));
  return std::move(*response.mutable_signed_());
}

absl::StatusOr<ClientToken> FetchClientToken(Session& session, const ClientTokenRequest& request,
                                             const CancelToken& cancel) {
  moby::filesync::v1::FetchTokenRequest message;
  message.set_clientid(kClientId);
  message.set_host(request.host);
  message.set_realm(request.realm);
  message.set_service(request.service);
  for (const std::string& scope : request.scopes) message.add_scopes(scope);
  moby::filesync::v1::FetchTokenResponse response;
  const absl::Status status = Call(session, cancel, &Auth::Stub::FetchToken, message, &response);
  if (!status.ok()) return Annotate(status, absl::StrCat("token for ", request.host));
  ClientToken out;
  out.token = std::move(*response.mutable_token());
  out.lifetime = absl::Seconds(response.expiresin());
  out.issued_at =
      response.issuedat() > 0 ? absl::FromUnixSeconds(response.issuedat()) : absl::InfinitePast();
  return out;
}

}  // namespace kiln::daemon
