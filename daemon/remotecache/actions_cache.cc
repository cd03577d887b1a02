#include "daemon/remotecache/actions_cache.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "daemon/registry/response_error.h"
#include "daemon/remotecache/aws_signature.h"
#include "daemon/remotecache/azure_blob.h"
#include "proto/digest.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

using Json = nlohmann::json;

constexpr char kService[] = "/twirp/github.actions.results.api.v1.CacheService/";
constexpr int kRead = 1, kWrite = 2;  // bits of a permission
constexpr int kKeysAPage = 100, kMaxPages = 1000;
constexpr int64_t kMaxAnswer = 4 << 20;
constexpr int kAttempts = 5;

// Part of what entries are found by; every writer of this kind of cache uses the same.
std::string Version() { return Digest::Of("|go-actionscache-1.0").hex(); }

Json Parse(absl::string_view text) { return Json::parse(text.begin(), text.end(), nullptr, false); }

std::string TextOf(const Json& object, const char* name) {
  if (!object.is_object()) return "";
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

bool IsTrue(const Json& object, const char* name) {
  if (!object.is_object()) return false;
  const auto found = object.find(name);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

absl::StatusOr<absl::Time> TimeOf(const Json& claims, const char* name) {
  const auto found = claims.find(name);
  if (found == claims.end() || !found->is_number())
    return absl::InvalidArgumentError(absl::StrCat("invalid token: no time \"", name, "\""));
  return absl::FromUnixSeconds(found->get<int64_t>());
}

RetryPolicy Policy(const ActionsCacheOptions& options) {
  RetryPolicy policy;
  policy.max_attempts = kAttempts;
  policy.throttling_counts = false;
  policy.longest_wait = absl::Seconds(90);
  policy.give_up_after = options.timeout;
  return policy;
}

bool IsTooOld(const absl::Status& status) {
  return absl::IsPermissionDenied(status) || absl::IsUnauthenticated(status);
}

}  // namespace

absl::StatusOr<ActionsToken> ReadActionsToken(absl::string_view text, absl::Time now) {
  const std::vector<std::string> parts = absl::StrSplit(text, '.');
  std::string payload;
  if (parts.size() != 3 || !absl::WebSafeBase64Unescape(parts[1], &payload))
    return absl::InvalidArgumentError("the token is not a JSON web token");
  const Json claims = Parse(payload);
  if (!claims.is_object()) return absl::InvalidArgumentError("the token is not a JSON web token");
  KILN_ASSIGN_OR_RETURN(const absl::Time expires, TimeOf(claims, "exp"));
  KILN_ASSIGN_OR_RETURN(const absl::Time begins, TimeOf(claims, "nbf"));
  if (now > expires)
    return absl::InvalidArgumentError(
        absl::StrCat("cache token expired at ", absl::FormatTime(expires, absl::UTCTimeZone())));
  if (now < begins)
    return absl::InvalidArgumentError(absl::StrCat("cache token is not valid before ",
                                                   absl::FormatTime(begins, absl::UTCTimeZone())));
  const Json scopes = Parse(TextOf(claims, "ac"));
  if (!scopes.is_array())
    return absl::InvalidArgumentError("invalid token: no access controls (\"ac\")");
  ActionsToken token;
  token.text = std::string(text);
  for (const Json& each : scopes) {
    const auto permission = each.is_object() ? each.find("Permission") : each.end();
    if (!each.is_object() || permission == each.end() || !permission->is_number_integer())
      return absl::InvalidArgumentError("invalid token: an access control that is none");
    const int bits = permission->get<int>();
    token.scopes.push_back({TextOf(each, "Scope"), (bits & kRead) != 0, (bits & kWrite) != 0});
  }
  return token;
}

ActionsCache::ActionsCache(ActionsCacheOptions options)
    : options_(std::move(options)),
      service_(options_.user_agent, Policy(options_), options_.sleep),
      storage_(options_.user_agent, Policy(options_), options_.sleep) {}

absl::Status ActionsCache::Sleep(absl::Duration wait, const CancelToken& cancel) {
  return options_.sleep ? options_.sleep(wait, cancel) : cancel.SleepFor(wait);
}

absl::StatusOr<std::string> ActionsCache::Call(const std::string& method, const std::string& key,
                                               const std::string& json, const CancelToken& cancel) {
  HttpRequest request;
  request.method = "POST";
  request.url = absl::StrCat(absl::StripSuffix(options_.url, "/"), kService, method);
  request.headers = {{"Authorization", absl::StrCat("Bearer ", options_.token)},
                     {"Content-Type", "application/json"},
                     {"Accept", "application/json"}};
  KILN_ASSIGN_OR_RETURN(RetryingHttp::Answer answer, service_.Do(
                                                         [&]() -> absl::StatusOr<HttpRequest> {
                                                           HttpRequest again = request;
                                                           again.body = TextBody(json);
                                                           return again;
                                                         },
                                                         cancel));
  const int status = answer.response.status;
  if (status >= 200 && status < 300) return std::move(answer.body);
  const Json error = Parse(answer.response.error_body);
  const std::string code = TextOf(error, "code");
  std::string text = TextOf(error, "msg");
  if (text.empty()) text = TextOf(error, "message");
  if (code == "already_exists" || absl::StrContains(absl::AsciiStrToLower(text), "already exists"))
    return absl::AlreadyExistsError(absl::StrCat("cache entry ", key, " exists"));
  text = text.empty() && code.empty() ? ErrorBodyText(answer.response.error_body)
                                      : ErrorBodyText(absl::StrCat(code, ": ", text));
  return Annotate(ServiceError(request, answer.response, text), absl::StrCat("cache entry ", key));
}

absl::Status ActionsCache::CheckStorageUrl(const std::string& url) const {
  if (absl::StartsWith(url, "https://")) return absl::OkStatus();
  if (absl::StartsWith(url, "http://") && absl::StartsWith(options_.url, "http://"))
    return absl::OkStatus();
  return absl::FailedPreconditionError("the cache service gave no https URL of its storage");
}

absl::StatusOr<std::optional<ActionsCache::Entry>> ActionsCache::Find(const std::string& prefix,
                                                                      const CancelToken& cancel) {
  const Json request = {{"key", prefix}, {"restore_keys", {prefix}}, {"version", Version()}};
  const absl::StatusOr<std::string> text =
      Call("GetCacheEntryDownloadURL", prefix, request.dump(), cancel);
  if (absl::IsNotFound(text.status())) return std::nullopt;
  KILN_RETURN_IF_ERROR(text.status());
  const Json answer = Parse(*text);
  Entry entry{TextOf(answer, "matched_key"), TextOf(answer, "signed_download_url")};
  if (!IsTrue(answer, "ok") || !absl::StartsWith(entry.key, prefix)) return std::nullopt;
  KILN_RETURN_IF_ERROR(Annotate(CheckStorageUrl(entry.url), entry.key));
  return entry;
}

absl::Status ActionsCache::Read(const std::string& prefix, const CancelToken& cancel,
                                const std::function<absl::Status(absl::string_view)>& sink) {
  int64_t taken = 0;
  for (bool again = false;; again = true) {
    KILN_ASSIGN_OR_RETURN(const std::optional<Entry> entry, Find(prefix, cancel));
    if (!entry.has_value())
      return absl::NotFoundError(absl::StrCat("cache entry ", prefix, " is not there"));
    const absl::Status status = GetAzureBlob(storage_, entry->url, &taken, cancel, sink);
    if (!again && IsTooOld(status)) continue;
    return cancel.Cancelled() ? cancel.status()
                              : Annotate(status, absl::StrCat("cache entry ", entry->key));
  }
}

absl::Status ActionsCache::Write(const std::string& key, const CacheObject& object,
                                 const CancelToken& cancel) {
  const Json create = {{"key", key}, {"version", Version()}};
  KILN_ASSIGN_OR_RETURN(const std::string created,
                        Call("CreateCacheEntry", key, create.dump(), cancel));
  const Json answer = Parse(created);
  if (!IsTrue(answer, "ok"))
    return absl::AlreadyExistsError(absl::StrCat("cache entry ", key, " cannot be reserved"));
  const std::string url = TextOf(answer, "signed_upload_url");
  KILN_RETURN_IF_ERROR(Annotate(CheckStorageUrl(url), key));
  KILN_RETURN_IF_ERROR(Annotate(PutAzureBlob(storage_, url, object, options_.block_bytes, cancel),
                                absl::StrCat("cache entry ", key)));
  const Json finalize = {{"key", key}, {"size_bytes", object.size_bytes}, {"version", Version()}};
  KILN_ASSIGN_OR_RETURN(const std::string finalized,
                        Call("FinalizeCacheEntryUpload", key, finalize.dump(), cancel));
  if (!IsTrue(Parse(finalized), "ok"))
    return absl::FailedPreconditionError(
        absl::StrCat("cache entry ", key, ": the cache service did not accept it"));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> ActionsCache::ListKeys(
    const std::string& api_url, const std::string& repository, const std::string& github_token,
    const std::string& ref, const std::string& prefix, const CancelToken& cancel) {
  std::vector<std::string> keys;
  for (int page = 1; page <= kMaxPages; ++page) {
    HttpRequest request;
    request.url = absl::StrCat(api_url, "/repos/", AwsEncode(repository, true), "/actions/caches?",
                               AwsQuery({{"key", prefix},
                                         {"page", absl::StrCat(page)},
                                         {"per_page", absl::StrCat(kKeysAPage)},
                                         {"ref", ref}}));
    request.headers = {{"Authorization", absl::StrCat("Bearer ", github_token)},
                       {"Accept", "application/vnd.github+json"},
                       {"X-GitHub-Api-Version", "2022-11-28"}};
    KILN_ASSIGN_OR_RETURN(
        const RetryingHttp::Answer answer,
        service_.Do([&]() -> absl::StatusOr<HttpRequest> { return request; }, cancel, kMaxAnswer));
    if (answer.response.status != 200)
      return ServiceError(request, answer.response, ErrorBodyText(answer.response.error_body));
    const Json body = Parse(answer.body);
    if (!body.is_object() || !body.contains("actions_caches") || !body["actions_caches"].is_array())
      return absl::FailedPreconditionError("GitHub's list of caches is none");
    for (const Json& cache : body["actions_caches"]) keys.push_back(TextOf(cache, "key"));
    const auto total = body.find("total_count");
    if (body["actions_caches"].empty() || total == body.end() || !total->is_number_integer() ||
        total->get<int64_t>() <= int64_t{page} * kKeysAPage)
      break;
  }
  return keys;
}

}  // namespace kiln::daemon
