#include "daemon/remotecache/aws_roles.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "daemon/remotecache/xml_text.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr char kEcs[] = "http://169.254.170.2";

std::string Env(const ReadEnv& env, const char* name) { return env(name).value_or(""); }

// The body of a success.
absl::StatusOr<std::string> Ask(RetryingHttp& http, const HttpRequest& request,
                                absl::string_view body, const CancelToken& cancel) {
  KILN_ASSIGN_OR_RETURN(RetryingHttp::Answer answer, http.Do(
                                                         [&]() -> absl::StatusOr<HttpRequest> {
                                                           HttpRequest one = request;
                                                           if (request.method == "POST")
                                                             one.body = TextBody(body);
                                                           return one;
                                                         },
                                                         cancel));
  if (answer.response.status == 200) return std::move(answer.body);
  return ServiceError(request, answer.response, XmlErrorText(answer.response.error_body));
}

absl::StatusOr<TimedAwsCredentials> Complete(TimedAwsCredentials found, const std::string& expires,
                                             absl::string_view who) {
  if (found.credentials.access_key_id.empty() || found.credentials.secret_access_key.empty())
    return absl::UnauthenticatedError(absl::StrCat(who, " gave no AWS credentials"));
  std::string error;
  if (!expires.empty() && !absl::ParseTime(absl::RFC3339_full, expires, &found.expires, &error))
    return absl::UnauthenticatedError(
        absl::StrCat(who, " gave AWS credentials with an unreadable end: ", error));
  return found;
}

absl::StatusOr<TimedAwsCredentials> FromJson(absl::string_view text, absl::string_view who) {
  const nlohmann::json json =
      nlohmann::json::parse(text.data(), text.data() + text.size(), nullptr, false);
  if (!json.is_object())
    return absl::UnauthenticatedError(absl::StrCat(who, " gave no AWS credentials"));
  const auto member = [&](const char* name) {
    const auto found = json.find(name);
    return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  const std::string code = member("Code");
  if (!code.empty() && code != "Success")
    return absl::UnauthenticatedError(
        absl::StrCat(who, " gave no AWS credentials: ", code, " ", member("Message")));
  return Complete({{member("AccessKeyId"), member("SecretAccessKey"), member("Token")}},
                  member("Expiration"), who);
}

// "host" of "http://host:port/…"; "" for what is no http URL.
std::string HostOf(absl::string_view url) {
  if (!absl::ConsumePrefix(&url, "http://")) return "";
  const absl::string_view authority = url.substr(0, url.find_first_of("/?#"));
  if (authority.find('@') != absl::string_view::npos) return "";
  if (authority[0] == '[') return std::string(authority.substr(0, authority.find(']') + 1));
  return std::string(authority.substr(0, authority.find(':')));
}

absl::StatusOr<std::string> ReadToken(const std::string& file) {
  KILN_ASSIGN_OR_RETURN(const std::string text, ReadFileToString(file));
  const absl::string_view token = absl::StripAsciiWhitespace(text);
  if (token.empty()) return absl::UnauthenticatedError(absl::StrCat(file, " is empty"));
  return std::string(token);
}

}  // namespace

absl::StatusOr<TimedAwsCredentials> AssumeWebIdentity(RetryingHttp& http,
                                                      const AwsWebIdentity& identity,
                                                      const CancelToken& cancel) {
  KILN_ASSIGN_OR_RETURN(const std::string token, ReadToken(identity.token_file));
  const std::string session = identity.session_name.empty()
                                  ? absl::StrCat("kiln-", absl::ToUnixSeconds(absl::Now()))
                                  : identity.session_name;
  const std::string body = AwsQuery({{"Action", "AssumeRoleWithWebIdentity"},
                                     {"Version", "2011-06-15"},
                                     {"RoleArn", identity.role_arn},
                                     {"RoleSessionName", session},
                                     {"WebIdentityToken", token}});
  HttpRequest request;
  request.method = "POST";
  request.url = absl::StrCat(absl::StripSuffix(identity.endpoint, "/"), "/");
  request.headers = {{"Content-Type", "application/x-www-form-urlencoded; charset=utf-8"}};
  KILN_ASSIGN_OR_RETURN(const std::string xml, Ask(http, request, body, cancel));
  return Complete({{XmlText(xml, "AccessKeyId"), XmlText(xml, "SecretAccessKey"),
                    XmlText(xml, "SessionToken")}},
                  XmlText(xml, "Expiration"), request.url);
}

absl::StatusOr<TimedAwsCredentials> ContainerCredentials(RetryingHttp& http, const ReadEnv& env,
                                                         const CancelToken& cancel) {
  HttpRequest request;
  request.direct = true;
  if (const std::string path = Env(env, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); !path.empty()) {
    request.url = absl::StrCat(kEcs, path[0] == '/' ? "" : "/", path);
  } else {
    request.url = Env(env, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
    const std::string host = HostOf(request.url);
    const bool allowed = absl::StartsWith(request.url, "https://") || IsLoopbackHost(host) ||
                         host == "169.254.170.2" || host == "169.254.170.23" ||
                         host == "[fd00:ec2::23]";
    if (!allowed)
      return absl::InvalidArgumentError(
          absl::StrCat("AWS_CONTAINER_CREDENTIALS_FULL_URI ", RedactUrl(request.url),
                       " is neither https nor an address of this machine, ECS or EKS"));
  }
  std::string token = Env(env, "AWS_CONTAINER_AUTHORIZATION_TOKEN");
  if (const std::string file = Env(env, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); !file.empty()) {
    KILN_ASSIGN_OR_RETURN(token, ReadToken(file));
  }
  if (std::any_of(token.begin(), token.end(),
                  [](char c) { return absl::ascii_iscntrl(static_cast<unsigned char>(c)); }))
    return absl::InvalidArgumentError("the container's authorization token has control characters");
  if (!token.empty()) request.headers.emplace_back("Authorization", token);
  KILN_ASSIGN_OR_RETURN(const std::string json, Ask(http, request, "", cancel));
  return FromJson(json, RedactUrl(request.url));
}

absl::StatusOr<TimedAwsCredentials> MachineCredentials(RetryingHttp& http, const ReadEnv& env,
                                                       const CancelToken& cancel) {
  if (absl::EqualsIgnoreCase(Env(env, "AWS_EC2_METADATA_DISABLED"), "true"))
    return absl::UnauthenticatedError("AWS_EC2_METADATA_DISABLED is set");
  std::string endpoint = Env(env, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
  if (endpoint.empty())
    endpoint = absl::EqualsIgnoreCase(Env(env, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"), "ipv6")
                   ? "http://[fd00:ec2::254]"
                   : "http://169.254.169.254";
  const std::string base(absl::StripSuffix(endpoint, "/"));
  HttpRequest request;
  request.direct = true;
  request.method = "PUT";
  request.url = base + "/latest/api/token";
  request.headers = {{"X-aws-ec2-metadata-token-ttl-seconds", "300"}};
  KILN_ASSIGN_OR_RETURN(const std::string token, Ask(http, request, "", cancel));
  request.method = "GET";
  request.url = base + "/latest/meta-data/iam/security-credentials/";
  request.headers = {{"X-aws-ec2-metadata-token", token}};
  const absl::StatusOr<std::string> roles = Ask(http, request, "", cancel);
  if (absl::IsNotFound(roles.status()))
    return absl::UnauthenticatedError(absl::StrCat(base, ": this machine has no role"));
  KILN_RETURN_IF_ERROR(roles.status());
  const std::vector<std::string> lines = absl::StrSplit(*roles, '\n');
  absl::StrAppend(&request.url, AwsEncode(absl::StripAsciiWhitespace(lines[0]), false));
  KILN_ASSIGN_OR_RETURN(const std::string json, Ask(http, request, "", cancel));
  return FromJson(json, request.url);
}

}  // namespace kiln::daemon
