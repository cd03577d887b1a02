#include "daemon/registry/bearer_token.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "daemon/registry/response_error.h"
#include "store/base/query_escape.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr char kClientId[] = "buildkit-client";
constexpr size_t kMaxReply = 1 << 20;

struct Reply {
  HttpResponse response;
  std::string body;
};

absl::StatusOr<Reply> Do(const HttpRequest& request, HttpConnections* connections,
                         const CancelToken& cancel) {
  Reply reply;
  HttpLimits limits;
  limits.stall_timeout = absl::Seconds(60);
  limits.max_header_bytes = 64 << 10;
  KILN_ASSIGN_OR_RETURN(reply.response, HttpDo(
                                            request, limits, cancel, nullptr,
                                            [&](absl::string_view data) -> absl::Status {
                                              if (reply.body.size() + data.size() > kMaxReply)
                                                return absl::ResourceExhaustedError(
                                                    "the reply of the token server is too large");
                                              reply.body.append(data.data(), data.size());
                                              return absl::OkStatus();
                                            },
                                            connections));
  return reply;
}

absl::StatusOr<BearerToken> Parse(const Reply& reply) {
  const nlohmann::json json = nlohmann::json::parse(reply.body, nullptr, false);
  if (!json.is_object())
    return absl::FailedPreconditionError("the reply of the token server is no JSON object");
  const auto text = [&](const char* key) {
    auto it = json.find(key);
    return it != json.end() && it->is_string() ? it->get<std::string>() : std::string();
  };
  BearerToken token;
  token.value = text("access_token");
  if (token.value.empty()) token.value = text("token");
  if (token.value.empty())
    return absl::UnauthenticatedError("the token server answered without a token");
  absl::Duration lifetime;
  auto expires = json.find("expires_in");
  if (expires != json.end() && expires->is_number_integer())
    lifetime = absl::Seconds(expires->get<int64_t>());
  absl::Time issued_at = absl::InfinitePast();
  if (!absl::ParseTime(absl::RFC3339_full, text("issued_at"), &issued_at, nullptr))
    issued_at = absl::InfinitePast();
  token.expires_at = TokenExpiry(lifetime, issued_at, absl::Now());
  return token;
}

absl::Status Refused(const HttpRequest& request, const Reply& reply) {
  const std::string text = ErrorBodyText(reply.response.error_body);
  const std::string what =
      absl::StrCat("failed to fetch a token: ", request.method, " ", RedactUrl(request.url),
                   ": status ", reply.response.status, text.empty() ? "" : ": ", text);
  const int status = reply.response.status;
  if (status == 401 || status == 403) return absl::UnauthenticatedError(what);
  if (status >= 500 || status == 429) return absl::UnavailableError(what);
  return absl::FailedPreconditionError(what);
}

std::string Pair(absl::string_view name, absl::string_view value) {
  return absl::StrCat(name, "=", QueryEscape(value));
}

}  // namespace

absl::Time TokenExpiry(absl::Duration lifetime, absl::Time issued_at, absl::Time now) {
  if (lifetime <= absl::ZeroDuration()) lifetime = absl::Seconds(60);
  // Clocks differ: a token cannot have been issued in the future.
  if (issued_at == absl::InfinitePast() || issued_at > now) issued_at = now;
  return issued_at + lifetime * 0.9;
}

absl::StatusOr<BearerToken> FetchRealmToken(const TokenRequest& request,
                                            const Credentials& credentials, const HttpTls& tls,
                                            const std::string& user_agent,
                                            HttpConnections* connections,
                                            const CancelToken& cancel) {
  std::vector<std::string> query;
  if (!request.service.empty()) query.push_back(Pair("service", request.service));
  for (const std::string& scope : request.scopes) query.push_back(Pair("scope", scope));
  HttpRequest get;
  get.url = absl::StrCat(request.realm, request.realm.find('?') == std::string::npos ? "?" : "&",
                         absl::StrJoin(query, "&"));
  get.headers = {{"User-Agent", user_agent}};
  get.tls = tls;
  const bool has_secret = !credentials.secret.empty();
  if (has_secret)
    get.headers.emplace_back(
        "Authorization",
        absl::StrCat("Basic ", absl::Base64Escape(
                                   absl::StrCat(credentials.username, ":", credentials.secret))));
  KILN_ASSIGN_OR_RETURN(const Reply reply, Do(get, connections, cancel));
  const int status = reply.response.status;
  if (status >= 200 && status < 300) return Parse(reply);
  const bool try_post = has_secret && (status == 404 || status == 401 ||
                                       (status == 405 && !credentials.username.empty()));
  if (!try_post) return Refused(get, reply);

  std::vector<std::string> form = {Pair("client_id", kClientId)};
  if (credentials.username.empty()) {
    form.push_back("grant_type=refresh_token");
    form.push_back(Pair("refresh_token", credentials.secret));
  } else {
    form.push_back("grant_type=password");
    form.push_back(Pair("username", credentials.username));
    form.push_back(Pair("password", credentials.secret));
  }
  form.push_back(Pair("service", request.service));
  form.push_back(Pair("scope", absl::StrJoin(request.scopes, " ")));
  const std::string body = absl::StrJoin(form, "&");
  HttpRequest post;
  post.method = "POST";
  post.url = request.realm;
  post.headers = {{"User-Agent", user_agent},
                  {"Content-Type", "application/x-www-form-urlencoded; charset=utf-8"}};
  post.tls = tls;
  post.body = TextBody(body);
  KILN_ASSIGN_OR_RETURN(const Reply answer, Do(post, connections, cancel));
  if (answer.response.status >= 200 && answer.response.status < 300) return Parse(answer);
  return Refused(post, answer);
}

}  // namespace kiln::daemon
