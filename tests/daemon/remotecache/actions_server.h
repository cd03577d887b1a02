#pragma once

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/source/go_values.h"
#include "proto/digest.h"
#include "store/base/mutex.h"
#include "tests/daemon/source/test_http_server.h"

namespace kiln::daemon {

// The cache service of GitHub Actions, its blob storage and the list of caches in GitHub's REST
// interface, written from their protocols. Entries are found once they are finalized.
class ActionsServer {
 public:
  using Json = nlohmann::json;
  using Fault = std::function<std::optional<std::string>(const TestHttpRequest&)>;

  ActionsServer() : server_([this](const TestHttpRequest& request) { return Answer(request); }) {}

  // A token for these scopes: 1 read, 2 write.
  static std::string Token(const std::map<std::string, int>& scopes,
                           absl::Duration valid = absl::Hours(6)) {
    Json ac = Json::array();
    for (const auto& [scope, permission] : scopes)
      ac.push_back({{"Scope", scope}, {"Permission", permission}});
    const int64_t now = absl::ToUnixSeconds(absl::Now());
    const Json claims = {
        {"ac", ac.dump()}, {"nbf", now - 60}, {"exp", now + absl::ToInt64Seconds(valid)}};
    return absl::StrCat(absl::WebSafeBase64Escape(R"({"alg":"RS256"})"), ".",
                        absl::WebSafeBase64Escape(claims.dump()), ".c2lnbmF0dXJl");
  }

  std::string url() const { return server_.Url(""); }
  TestHttpServer& server() { return server_; }
  Fault fault;        // set before use
  std::string token;  // what requests must show; "": anything

  std::optional<std::string> Get(const std::string& key) {
    MutexLock lock(&mu_);
    auto it = entries_.find(key);
    if (it == entries_.end()) return std::nullopt;
    return it->second;
  }
  std::vector<std::string> Keys() {
    MutexLock lock(&mu_);
    return order_;
  }
  void Reserve(const std::string& key) {
    MutexLock lock(&mu_);
    reserved_[key];
  }
  // Signed URLs given so far are no longer valid.
  void EndUrls() {
    MutexLock lock(&mu_);
    ++signature_;
  }

 private:
  static std::string Ok(const Json& body) {
    return TestHttpServer::Answer("200 OK", {"Content-Type: application/json"}, body.dump());
  }
  static std::string Twirp(const std::string& status, const std::string& code,
                           const std::string& message) {
    return TestHttpServer::Answer(status, {}, Json({{"code", code}, {"msg", message}}).dump());
  }

  std::string Signed(const std::string& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return server_.Url(
        absl::StrCat("/storage/", absl::WebSafeBase64Escape(key), "?sv=2024&sig=s%2B", signature_));
  }

  std::string Answer(const TestHttpRequest& request) {
    if (fault) {
      if (std::optional<std::string> answer = fault(request); answer.has_value()) return *answer;
    }
    MutexLock lock(&mu_);
    if (absl::StartsWith(request.path, "/storage/")) return Storage(request);
    if (!token.empty() && request.Header("authorization") != "Bearer " + token)
      return Twirp("401 Unauthorized", "unauthenticated", "who are you");
    if (absl::StartsWith(request.path, "/repos/o/r/actions/caches?")) {
      Json caches = Json::array();
      for (const std::string& key : order_)
        if (absl::StartsWith(key, "buildkit-blob-")) caches.push_back({{"key", key}});
      return Ok({{"total_count", caches.size()}, {"actions_caches", caches}});
    }
    const std::string service = "/twirp/github.actions.results.api.v1.CacheService/";
    if (!absl::StartsWith(request.path, service)) return Twirp("404 Not Found", "bad_route", "");
    const std::string method = request.path.substr(service.size());
    const Json body = Json::parse(request.body);
    const std::string key = body.at("key");
    if (body.at("version") != Digest::Of("|go-actionscache-1.0").hex())
      return Twirp("400 Bad Request", "invalid_argument", "version");
    if (method == "CreateCacheEntry") {
      if (reserved_.count(key) != 0)
        return Twirp("409 Conflict", "already_exists", "cache entry with the same key");
      reserved_[key];
      return Ok({{"ok", true}, {"signed_upload_url", Signed(key)}});
    }
    if (method == "FinalizeCacheEntryUpload") {
      const std::string& bytes = reserved_[key];
      if (body.at("size_bytes") != bytes.size()) return Ok({{"ok", false}});
      entries_[key] = bytes;
      order_.push_back(key);
      return Ok({{"ok", true}, {"entry_id", "17"}});
    }
    for (auto newest = order_.rbegin(); newest != order_.rend(); ++newest)
      for (const std::string prefix : body.at("restore_keys"))
        if (absl::StartsWith(*newest, prefix))
          return Ok(
              {{"ok", true}, {"signed_download_url", Signed(*newest)}, {"matched_key", *newest}});
    return Ok({{"ok", false}, {"signed_download_url", ""}, {"matched_key", ""}});
  }

  std::string Storage(const TestHttpRequest& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const size_t mark = request.path.find('?');
    std::string key;
    absl::WebSafeBase64Unescape(request.path.substr(9, mark - 9), &key);
    std::map<std::string, std::string> query;
    for (absl::string_view pair : absl::StrSplit(request.path.substr(mark + 1), '&'))
      query.insert(absl::StrSplit(pair, absl::MaxSplits('=', 1)));
    if (query["sig"] != absl::StrCat("s%2B", signature_))
      return TestHttpServer::Answer(
          "403 Forbidden", {},
          "<?xml version=\"1.0\"?><Error><Code>AuthenticationFailed</Code><Message>Signature not "
          "valid in the specified time frame</Message></Error>");
    if (request.Header("authorization") != "")
      return TestHttpServer::Answer("400 Bad Request", {}, "two kinds of authentication");
    if (request.method == "PUT") {
      if (query["comp"] == "block") {
        blocks_[key][PercentDecode(query["blockid"])] = request.body;
      } else if (query["comp"] == "blocklist") {
        for (absl::string_view part : absl::StrSplit(request.body, "<Latest>")) {
          const size_t end = part.find("</Latest>");
          if (end != absl::string_view::npos)
            reserved_[key] += blocks_[key].at(std::string(part.substr(0, end)));
        }
      } else {
        if (request.Header("x-ms-blob-type") != "BlockBlob")
          return TestHttpServer::Answer("400 Bad Request", {}, "no blob type");
        reserved_[key] = request.body;
      }
      return TestHttpServer::Answer("201 Created");
    }
    const std::string& bytes = entries_[key];
    const std::string range = request.Header("range");
    if (range.empty()) return TestHttpServer::Answer("200 OK", {}, bytes);
    return TestHttpServer::Answer("206 Partial Content", {},
                                  bytes.substr(std::stoul(range.substr(6))));
  }

  Mutex mu_;
  std::map<std::string, std::string> reserved_ ABSL_GUARDED_BY(mu_), entries_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::map<std::string, std::string>> blocks_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> order_ ABSL_GUARDED_BY(mu_);
  int signature_ ABSL_GUARDED_BY(mu_) = 0;
  TestHttpServer server_;  // last: gone first
};

}  // namespace kiln::daemon
