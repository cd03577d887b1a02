#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/digest.h"
#include "store/base/mutex.h"
#include "store/layer/descriptor.h"
#include "tests/daemon/source/test_http_server.h"

namespace kiln::daemon {

// A registry on loopback that serves what a test puts into it and fails as a test says.
class FakeRegistry {
 public:
  // Answers in place of the registry when it returns something.
  using Fault = std::function<std::optional<std::string>(const TestHttpRequest&)>;

  // `port` 0: any.
  explicit FakeRegistry(int port = 0)
      : server_([this](const TestHttpRequest& request) { return Answer(request); }, port) {}

  std::string host() const { return absl::StrCat("127.0.0.1:", server_.port()); }
  TestHttpServer& server() { return server_; }

  // Set before use.
  Fault fault;
  bool ignore_ranges = false;
  // Not empty: requests need this header value; 401 with `challenge` otherwise.
  std::string authorization, challenge;

  store::Descriptor AddBlob(const std::string& repository, const std::string& bytes,
                            const std::string& type = "application/octet-stream") {
    store::Descriptor out;
    out.media_type = type;
    out.digest = Digest::Of(bytes);
    out.size_bytes = static_cast<int64_t>(bytes.size());
    MutexLock lock(&mu_);
    blobs_[repository][out.digest.ToString()] = bytes;
    return out;
  }
  store::Descriptor AddManifest(const std::string& repository, const std::string& tag,
                                const std::string& bytes, const std::string& type) {
    store::Descriptor out;
    out.media_type = type;
    out.digest = Digest::Of(bytes);
    out.size_bytes = static_cast<int64_t>(bytes.size());
    MutexLock lock(&mu_);
    auto& manifests = manifests_[repository];
    manifests[out.digest.ToString()] = {type, bytes};
    if (!tag.empty()) manifests[tag] = {type, bytes};
    return out;
  }
  // "" when absent.
  std::string Blob(const std::string& repository, const Digest& digest) {
    MutexLock lock(&mu_);
    return blobs_[repository][digest.ToString()];
  }
  std::string Manifest(const std::string& repository, const std::string& name) {
    MutexLock lock(&mu_);
    return manifests_[repository][name].second;
  }
  // "METHOD path" of each request so far.
  std::vector<std::string> Seen() {
    std::vector<std::string> out;
    for (const TestHttpRequest& request : server_.requests())
      out.push_back(absl::StrCat(request.method, " ", request.path));
    return out;
  }
  size_t Count(const std::string& part) {
    size_t n = 0;
    for (const std::string& seen : Seen()) n += absl::StrContains(seen, part) ? 1 : 0;
    return n;
  }

  static std::string Error(const std::string& status, const std::string& code,
                           const std::string& message,
                           const std::vector<std::string>& headers = {}) {
    return TestHttpServer::Answer(
        status, headers,
        absl::StrCat(R"({"errors":[{"code":")", code, R"(","message":")", message, R"("}]})"));
  }

 private:
  std::string Answer(const TestHttpRequest& request) {
    if (fault) {
      if (std::optional<std::string> answer = fault(request); answer.has_value()) return *answer;
    }
    if (!authorization.empty() && request.Header("authorization") != authorization)
      return Error("401 Unauthorized", "UNAUTHORIZED", "authentication required",
                   {"WWW-Authenticate: " + challenge});
    const std::string path = request.path.substr(0, request.path.find('?'));
    for (const char* kind : {"/manifests/", "/blobs/uploads/", "/blobs/"}) {
      const size_t at = path.rfind(kind);
      if (!absl::StartsWith(path, "/v2/") || at == std::string::npos) continue;
      const std::string repository = path.substr(4, at - 4);
      const std::string name = path.substr(at + strlen(kind));
      if (absl::StrContains(kind, "uploads")) return Upload(request, repository, name);
      if (absl::StrContains(kind, "manifests")) return ServeManifest(request, repository, name);
      return ServeBlob(request, repository, name);
    }
    return Error("404 Not Found", "UNSUPPORTED", "no such path");
  }

  std::string ServeManifest(const TestHttpRequest& request, const std::string& repository,
                            const std::string& name) {
    if (request.method == "PUT") {
      const store::Descriptor stored =
          AddManifest(repository, absl::StrContains(name, ":") ? "" : name, request.body,
                      request.Header("content-type"));
      return TestHttpServer::Answer("201 Created",
                                    {"Docker-Content-Digest: " + stored.digest.ToString()});
    }
    MutexLock lock(&mu_);
    auto& manifests = manifests_[repository];
    auto it = manifests.find(name);
    if (it == manifests.end())
      return Error("404 Not Found", "MANIFEST_UNKNOWN", "manifest unknown");
    return TestHttpServer::Answer(
        "200 OK",
        {"Content-Type: " + it->second.first,
         "Docker-Content-Digest: " + Digest::Of(it->second.second).ToString()},
        it->second.second);
  }

  std::string ServeBlob(const TestHttpRequest& request, const std::string& repository,
                        const std::string& name) {
    MutexLock lock(&mu_);
    auto it = blobs_[repository].find(name);
    if (it == blobs_[repository].end())
      return Error("404 Not Found", "BLOB_UNKNOWN", "blob unknown");
    const std::string range = request.Header("range");
    if (range.empty() || ignore_ranges) return TestHttpServer::Answer("200 OK", {}, it->second);
    const size_t start = std::stoul(range.substr(strlen("bytes=")));
    return TestHttpServer::Answer("206 Partial Content",
                                  {absl::StrCat("Content-Range: bytes ", start, "-",
                                                it->second.size() - 1, "/", it->second.size())},
                                  it->second.substr(start));
  }

  std::string Upload(const TestHttpRequest& request, const std::string& repository,
                     const std::string& id) {
    const size_t query = request.path.find('?');
    std::map<std::string, std::string> values;
    if (query != std::string::npos)
      for (absl::string_view pair : absl::StrSplit(request.path.substr(query + 1), '&'))
        values.insert(absl::StrSplit(pair, absl::MaxSplits('=', 1)));
    MutexLock lock(&mu_);
    if (request.method == "POST") {
      auto& from = blobs_[values["from"]];
      if (auto it = from.find(values["mount"]); it != from.end()) {
        blobs_[repository][it->first] = it->second;
        return TestHttpServer::Answer("201 Created", {"Docker-Content-Digest: " + it->first});
      }
      const std::string fresh = absl::StrCat("u", ++uploads_made_);
      uploads_[fresh] = "";
      // Relative, as the specification allows.
      return TestHttpServer::Answer(
          "202 Accepted",
          {absl::StrCat("Location: /v2/", repository, "/blobs/uploads/", fresh, "?state=x")});
    }
    auto it = uploads_.find(id);
    if (it == uploads_.end())
      return Error("404 Not Found", "BLOB_UPLOAD_UNKNOWN", "upload unknown");
    if (request.method == "PATCH") {
      const std::string want = absl::StrCat(it->second.size(), "-");
      if (!absl::StartsWith(request.Header("content-range"), want))
        return Error("416 Requested Range Not Satisfiable", "BLOB_UPLOAD_INVALID", "range");
      it->second += request.body;
      return TestHttpServer::Answer(
          "202 Accepted",
          {absl::StrCat("Location: ", server_.Url("/v2/" + repository + "/blobs/uploads/" + id))});
    }
    const std::string bytes = it->second + request.body;
    if (Digest::Of(bytes).ToString() != values["digest"])
      return Error("400 Bad Request", "DIGEST_INVALID", "provided digest did not match");
    blobs_[repository][values["digest"]] = bytes;
    uploads_.erase(it);
    return TestHttpServer::Answer("201 Created", {"Docker-Content-Digest: " + values["digest"]});
  }

  Mutex mu_;
  std::map<std::string, std::map<std::string, std::string>> blobs_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::map<std::string, std::pair<std::string, std::string>>> manifests_
      ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::string> uploads_ ABSL_GUARDED_BY(mu_);
  int uploads_made_ ABSL_GUARDED_BY(mu_) = 0;
  TestHttpServer server_;  // last: gone first
};

}  // namespace kiln::daemon
