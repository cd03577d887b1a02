#include "daemon/remotecache/azure_blob.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "daemon/exporter/parallel.h"
#include "daemon/registry/response_error.h"
#include "daemon/remotecache/aws_signature.h"
#include "daemon/remotecache/xml_text.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr size_t kBlocksAtOnce = 4;
constexpr char kServiceVersion[] = "2021-08-06";

// Block ids of one blob must be of equal length.
std::string BlockId(size_t number) {
  return absl::Base64Escape(absl::StrFormat("block-%08d", number));
}

absl::Status ErrorOf(const HttpRequest& request, const HttpResponse& response) {
  return ServiceError(request, response, XmlErrorText(response.error_body));
}

// One PUT of a part of the object, or of the text where there is one.
absl::Status Put(RetryingHttp& http, const std::string& url, const HttpBody& body,
                 std::pair<std::string, std::string> header, const CancelToken& cancel) {
  HttpRequest request;
  request.method = "PUT";
  request.url = url;
  request.headers = {{"x-ms-version", kServiceVersion}, std::move(header)};
  KILN_ASSIGN_OR_RETURN(const RetryingHttp::Answer answer,
                        http.Do(
                            [&]() -> absl::StatusOr<HttpRequest> {
                              HttpRequest again = request;
                              again.body = body;
                              return again;
                            },
                            cancel));
  const int status = answer.response.status;
  return status >= 200 && status < 300 ? absl::OkStatus() : ErrorOf(request, answer.response);
}

HttpBody PartOf(const CacheObject& object, int64_t offset, int64_t size) {
  HttpBody body;
  body.size_bytes = size;
  body.read = [&object, at = offset, end = offset + size](
                  char* out, size_t room) mutable -> absl::StatusOr<size_t> {
    if (at == end) return size_t{0};
    room = static_cast<size_t>(std::min<int64_t>(end - at, static_cast<int64_t>(room)));
    KILN_ASSIGN_OR_RETURN(const size_t n, object.read(at, out, room));
    if (n == 0)
      return absl::DataLossError(
          absl::StrCat(object.digest.ToString(), ": fewer bytes than announced"));
    at += static_cast<int64_t>(n);
    return n;
  };
  return body;
}

}  // namespace

absl::Status PutAzureBlob(RetryingHttp& http, const std::string& url, const CacheObject& object,
                          int64_t block_bytes, const CancelToken& cancel) {
  if (object.size_bytes <= block_bytes)
    return Put(http, url, PartOf(object, 0, object.size_bytes), {"x-ms-blob-type", "BlockBlob"},
               cancel);
  const std::string base = absl::StrCat(url, absl::StrContains(url, "?") ? "&" : "?");
  const auto count = static_cast<size_t>((object.size_bytes + block_bytes - 1) / block_bytes);
  KILN_RETURN_IF_ERROR(RunParallel(count, kBlocksAtOnce, [&](size_t i) {
    const int64_t offset = static_cast<int64_t>(i) * block_bytes;
    return Put(http, absl::StrCat(base, "comp=block&blockid=", AwsEncode(BlockId(i), false)),
               PartOf(object, offset, std::min(block_bytes, object.size_bytes - offset)),
               {"Content-Type", "application/octet-stream"}, cancel);
  }));
  std::string xml = "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>";
  for (size_t i = 0; i < count; ++i) absl::StrAppend(&xml, "<Latest>", BlockId(i), "</Latest>");
  absl::StrAppend(&xml, "</BlockList>");
  return Put(http, absl::StrCat(base, "comp=blocklist"), TextBody(xml),
             {"Content-Type", "application/xml"}, cancel);
}

absl::Status GetAzureBlob(RetryingHttp& http, const std::string& url, int64_t* taken,
                          const CancelToken& cancel,
                          const std::function<absl::Status(absl::string_view)>& sink) {
  HttpRequest request;
  request.url = url;
  request.headers = {{"x-ms-version", kServiceVersion}};
  const int64_t start = *taken;
  KILN_ASSIGN_OR_RETURN(const HttpResponse response,
                        http.Download(
                            [&](int64_t offset) -> absl::StatusOr<HttpRequest> {
                              HttpRequest from = request;
                              if (start + offset > 0)
                                from.headers.emplace_back(
                                    "Range", absl::StrCat("bytes=", start + offset, "-"));
                              return from;
                            },
                            cancel,
                            [&](absl::string_view data) {
                              *taken += static_cast<int64_t>(data.size());
                              return sink(data);
                            }));
  if (response.status == 206 || (response.status == 200 && start == 0)) return absl::OkStatus();
  if (response.status == 200)
    return absl::DataLossError("the storage service sent the whole instead of the rest");
  return ErrorOf(request, response);
}

}  // namespace kiln::daemon
