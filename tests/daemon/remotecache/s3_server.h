#pragma once

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "daemon/source/go_values.h"
#include "daemon/source/http_names.h"
#include "proto/digest.h"
#include "store/base/mutex.h"
#include "tests/daemon/source/test_http_server.h"

namespace kiln::daemon {

// One bucket, path style, on loopback. Believes nobody: signature and payload hash of each request
// are computed again from what came over the wire.
class S3Server {
 public:
  static constexpr char kBucket[] = "bucket", kRegion[] = "test-1", kId[] = "AKID",
                        kSecret[] = "a/secret+";
  // Answers in place of the bucket when it returns something.
  using Fault = std::function<std::optional<std::string>(const TestHttpRequest&)>;

  S3Server() : server_([this](const TestHttpRequest& request) { return Answer(request); }) {}

  std::string url() const { return server_.Url(""); }
  TestHttpServer& server() { return server_; }
  Fault fault;  // set before use

  struct Object {
    std::string bytes;
    absl::Time modified;
  };
  void Set(const std::string& key, const std::string& bytes, absl::Time modified) {
    MutexLock lock(&mu_);
    objects_[key] = {bytes, modified};
  }
  std::optional<Object> Get(const std::string& key) {
    MutexLock lock(&mu_);
    auto it = objects_.find(key);
    if (it == objects_.end()) return std::nullopt;
    return it->second;
  }
  size_t open_uploads() {
    MutexLock lock(&mu_);
    return uploads_.size();
  }
  // "METHOD key?query" of the requests so far.
  std::vector<std::string> Seen() {
    std::vector<std::string> out;
    for (const TestHttpRequest& request : server_.requests())
      out.push_back(absl::StrCat(request.method, " ",
                                 PercentDecode(request.path.substr(sizeof("/bucket/") - 1))));
    return out;
  }

  static std::string Error(const std::string& status, const std::string& code,
                           const std::string& message,
                           const std::vector<std::string>& headers = {}) {
    return TestHttpServer::Answer(status, headers,
                                  absl::StrCat("<?xml version=\"1.0\"?><Error><Code>", code,
                                               "</Code><Message>", message, "</Message></Error>"));
  }

 private:
  using Values = std::map<std::string, std::string>;

  static std::string Hmac(const std::string& key, const std::string& text) {
    unsigned char out[32];
    unsigned int size = sizeof out;
    HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
         reinterpret_cast<const unsigned char*>(text.data()), text.size(), out, &size);
    return std::string(reinterpret_cast<char*>(out), size);
  }

  // "" when all is well.
  static std::string Fault4(const TestHttpRequest& request) {
    const std::string authorization = request.Header("authorization");
    Values fields;
    absl::string_view rest = authorization;
    if (!absl::StartsWith(rest, "AWS4-HMAC-SHA256 ")) return "not signed";
    rest.remove_prefix(17);
    for (absl::string_view field : absl::StrSplit(rest, ", "))
      fields.insert(absl::StrSplit(field, absl::MaxSplits('=', 1)));
    const std::string date = request.Header("x-amz-date");
    const std::string scope = absl::StrCat(date.substr(0, 8), "/", kRegion, "/s3/aws4_request");
    if (fields["Credential"] != absl::StrCat(kId, "/", scope)) return "credential";
    const std::string hash = request.Header("x-amz-content-sha256");
    if (hash != Digest::Of(request.body).hex()) return "payload";
    const size_t mark = request.path.find('?');
    std::vector<std::string> query;
    if (mark != std::string::npos) query = absl::StrSplit(request.path.substr(mark + 1), '&');
    std::sort(query.begin(), query.end());
    std::string lines;
    for (absl::string_view name : absl::StrSplit(fields["SignedHeaders"], ';'))
      absl::StrAppend(&lines, name, ":", request.Header(std::string(name)), "\n");
    for (const auto& [name, value] : request.headers)
      if ((absl::StartsWith(name, "x-amz-") || name == "host") &&
          !absl::StrContains(absl::StrCat(";", fields["SignedHeaders"], ";"),
                             absl::StrCat(";", name, ";")))
        return name + " is not signed";
    const std::string canonical = absl::StrCat(request.method, "\n", request.path.substr(0, mark),
                                               "\n", absl::StrJoin(query, "&"), "\n", lines, "\n",
                                               fields["SignedHeaders"], "\n", hash);
    const std::string to_sign =
        absl::StrCat("AWS4-HMAC-SHA256\n", date, "\n", scope, "\n", Digest::Of(canonical).hex());
    std::string key = absl::StrCat("AWS4", kSecret);
    for (const std::string& part :
         {date.substr(0, 8), std::string(kRegion), std::string("s3"), std::string("aws4_request")})
      key = Hmac(key, part);
    const std::string want = absl::BytesToHexString(Hmac(key, to_sign));
    return want == fields["Signature"] ? "" : "signature";
  }

  std::string Answer(const TestHttpRequest& request) {
    if (fault) {
      if (std::optional<std::string> answer = fault(request); answer.has_value()) return *answer;
    }
    if (const std::string wrong = Fault4(request); !wrong.empty())
      return Error("403 Forbidden", "SignatureDoesNotMatch", wrong);
    const size_t mark = request.path.find('?');
    std::string path = PercentDecode(request.path.substr(0, mark));
    const std::string prefix = absl::StrCat("/", kBucket, "/");
    if (!absl::StartsWith(path, prefix)) return Error("404 Not Found", "NoSuchBucket", path);
    const std::string key = path.substr(prefix.size());
    Values query;
    if (mark != std::string::npos)
      for (absl::string_view pair : absl::StrSplit(request.path.substr(mark + 1), '&'))
        query.insert(absl::StrSplit(pair, absl::MaxSplits('=', 1)));
    MutexLock lock(&mu_);
    if (request.method == "POST" || query.count("uploadId") != 0)
      return Multipart(request, key, query);
    if (request.method == "PUT") {
      const std::string source = PercentDecode(request.Header("x-amz-copy-source"));
      if (source.empty()) {
        objects_[key] = {request.body, absl::Now()};
        return TestHttpServer::Answer("200 OK", {"ETag: \"x\""});
      }
      if (request.Header("x-amz-metadata-directive") != "REPLACE")
        return Error("400 Bad Request", "InvalidRequest", "copied onto itself unchanged");
      auto from = objects_.find(source.substr(source.find('/') + 1));
      if (from == objects_.end()) return Error("404 Not Found", "NoSuchKey", source);
      objects_[key] = {from->second.bytes, absl::Now()};
      return TestHttpServer::Answer("200 OK", {}, "<CopyObjectResult/>");
    }
    auto it = objects_.find(key);
    if (it == objects_.end()) return Error("404 Not Found", "NoSuchKey", "no such key");
    const std::vector<std::string> headers = {"Last-Modified: " +
                                              FormatHttpDate(it->second.modified)};
    const std::string range = request.Header("range");
    if (range.empty()) return TestHttpServer::Answer("200 OK", headers, it->second.bytes);
    return TestHttpServer::Answer("206 Partial Content", headers,
                                  it->second.bytes.substr(std::stoul(range.substr(6))));
  }

  std::string Multipart(const TestHttpRequest& request, const std::string& key, Values& query)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (query.count("uploads") != 0) {
      const std::string id = absl::StrCat("id/", ++ids_, "+");
      uploads_[id];
      return TestHttpServer::Answer("200 OK", {},
                                    absl::StrCat("<R><UploadId>", id, "</UploadId></R>"));
    }
    auto upload = uploads_.find(PercentDecode(query["uploadId"]));
    if (upload == uploads_.end()) return Error("404 Not Found", "NoSuchUpload", "no such upload");
    if (request.method == "DELETE") {
      uploads_.erase(upload);
      return TestHttpServer::Answer("204 No Content");
    }
    if (request.method == "PUT") {
      const int number = std::stoi(query["partNumber"]);
      std::string bytes = request.body;
      const std::string source = PercentDecode(request.Header("x-amz-copy-source"));
      const std::string etag = absl::StrCat("\"part", number, "\"");
      if (source.empty()) {
        upload->second[number] = bytes;
        return TestHttpServer::Answer("200 OK", {"ETag: " + etag});
      }
      const std::string& whole = objects_[source.substr(source.find('/') + 1)].bytes;
      const std::vector<std::string> range =
          absl::StrSplit(request.Header("x-amz-copy-source-range").substr(6), '-');
      const size_t from = std::stoul(range[0]), to = std::stoul(range[1]);
      upload->second[number] = whole.substr(from, to - from + 1);
      return TestHttpServer::Answer("200 OK", {},
                                    absl::StrCat("<CopyPartResult><ETag>&quot;part", number,
                                                 "&quot;</ETag></CopyPartResult>"));
    }
    std::string all, want;
    for (const auto& [number, bytes] : upload->second) {
      all += bytes;
      absl::StrAppend(&want, "<Part><PartNumber>", number, "</PartNumber><ETag>\"part", number,
                      "\"</ETag></Part>");
    }
    if (!absl::StrContains(request.body, want))
      return TestHttpServer::Answer("200 OK", {},
                                    "<Error><Code>InvalidPart</Code><Message>which</Message>"
                                    "</Error>");
    objects_[key] = {all, absl::Now()};
    uploads_.erase(upload);
    return TestHttpServer::Answer("200 OK", {}, "<R><ETag>\"all\"</ETag></R>");
  }

  Mutex mu_;
  std::map<std::string, Object> objects_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::map<int, std::string>> uploads_ ABSL_GUARDED_BY(mu_);
  int ids_ ABSL_GUARDED_BY(mu_) = 0;
  TestHttpServer server_;  // last: gone first
};

}  // namespace kiln::daemon
