#include "daemon/remotecache/s3_client.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "daemon/exporter/parallel.h"
#include "daemon/remotecache/xml_text.h"
#include "daemon/source/http_names.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr int64_t kMaxParts = 10'000;

// Whether a bucket's name can be a label of a host name under one certificate.
bool IsHostLabel(absl::string_view bucket) {
  if (bucket.size() < 3 || bucket.size() > 63) return false;
  for (const char c : bucket)
    if (!absl::ascii_islower(static_cast<unsigned char>(c)) &&
        !absl::ascii_isdigit(static_cast<unsigned char>(c)) && c != '-')
      return false;
  return bucket.front() != '-' && bucket.back() != '-';
}

bool IsAddress(absl::string_view host) {
  return host[0] == '[' ||
         host.substr(0, host.find(':')).find_first_not_of("0123456789.") == absl::string_view::npos;
}

}  // namespace

S3Client::S3Client(S3Options options)
    : options_(std::move(options)), http_(options_.user_agent, options_.retry, options_.sleep) {}

absl::StatusOr<std::unique_ptr<S3Client>> S3Client::Create(S3Options options) {
  std::unique_ptr<S3Client> client(new S3Client(std::move(options)));
  const S3Options& o = client->options_;
  std::string endpoint = o.endpoint_url;
  if (endpoint.empty())
    endpoint = absl::StrCat("https://s3.", o.region, ".amazonaws.com",
                            absl::StartsWith(o.region, "cn-") ? ".cn" : "");
  absl::string_view rest = endpoint, scheme;
  for (absl::string_view known : {"https://", "http://"})
    if (absl::ConsumePrefix(&rest, known)) scheme = known;
  while (absl::ConsumeSuffix(&rest, "/")) {
  }
  const size_t slash = rest.find('/');
  std::string host(rest.substr(0, slash));
  if (scheme.empty() || host.empty() || host.find_first_of("@?# ") != std::string::npos)
    return absl::InvalidArgumentError(
        absl::StrCat("endpoint_url \"", RedactUrl(endpoint), "\" is not an http or https URL"));
  if (slash != absl::string_view::npos) client->path_ = std::string(rest.substr(slash));
  const bool path_style =
      (o.use_path_style && !o.endpoint_url.empty()) || !IsHostLabel(o.bucket) || IsAddress(host);
  if (path_style) {
    absl::StrAppend(&client->path_, "/", AwsEncode(o.bucket, false));
  } else {
    host = absl::StrCat(o.bucket, ".", host);
  }
  client->base_ = absl::StrCat(scheme, host);
  // As it will be sent: a port that goes without saying is left out.
  absl::string_view sent = host;
  absl::ConsumeSuffix(&sent, scheme == "https://" ? ":443" : ":80");
  client->host_ = std::string(sent);
  return client;
}

std::string S3Client::UrlOf(const std::string& key) const {
  return absl::StrCat(base_, path_, "/", AwsEncode(key, true));
}

absl::StatusOr<HttpRequest> S3Client::Sign(const Call& call, const CancelToken& cancel,
                                           const Pairs& more_headers) const {
  KILN_ASSIGN_OR_RETURN(const AwsCredentials credentials, options_.credentials->Get(cancel));
  const absl::Time now = options_.now ? options_.now() : absl::Now();
  AwsSignedRequest request;
  request.method = call.method;
  request.path = absl::StrCat(path_, "/", AwsEncode(call.key, true));
  request.query = call.query;
  request.payload_sha256 = call.payload_sha256.empty() ? Digest::Of("").hex() : call.payload_sha256;
  request.headers = call.headers;
  request.headers.insert(request.headers.end(), more_headers.begin(), more_headers.end());
  request.headers.emplace_back("x-amz-content-sha256", request.payload_sha256);
  request.headers.emplace_back("x-amz-date", AwsTime(now));
  if (!credentials.session_token.empty())
    request.headers.emplace_back("x-amz-security-token", credentials.session_token);
  HttpRequest http;
  http.method = call.method;
  http.url = UrlOf(call.key);
  const std::string query = AwsQuery(call.query);
  if (!query.empty()) absl::StrAppend(&http.url, "?", query);
  http.headers = request.headers;
  request.headers.emplace_back("host", host_);
  http.headers.emplace_back("Authorization",
                            AwsAuthorization(credentials, options_.region, "s3", now, request));
  if (call.body) http.body = call.body();
  return http;
}

absl::StatusOr<RetryingHttp::Answer> S3Client::Send(const Call& call, const CancelToken& cancel) {
  KILN_ASSIGN_OR_RETURN(RetryingHttp::Answer answer,
                        http_.Do([&] { return Sign(call, cancel); }, cancel));
  const int status = answer.response.status;
  // Some operations answer 200 first and fail then.
  const bool failed_late = status == 200 && absl::StrContains(answer.body, "<Error>");
  if (status >= 200 && status < 300 && !failed_late) return answer;
  return Failure(call, answer.response, failed_late ? answer.body : answer.response.error_body);
}

absl::Status S3Client::Failure(const Call& call, const HttpResponse& response,
                               absl::string_view body) const {
  HttpRequest request;
  request.method = call.method;
  request.url = UrlOf(call.key);
  const absl::Status status = ServiceError(request, response, XmlErrorText(body));
  // That there is no place for objects is not that there is no object.
  if (XmlText(body, "Code") == "NoSuchBucket")
    return absl::FailedPreconditionError(status.message());
  return status;
}

absl::StatusOr<std::optional<S3Client::Object>> S3Client::Head(const std::string& key,
                                                               const CancelToken& cancel) {
  const absl::StatusOr<RetryingHttp::Answer> answer = Send({"HEAD", key}, cancel);
  if (absl::IsNotFound(answer.status())) return std::nullopt;
  // An answer to HEAD cannot say why; the same to GET does.
  if (absl::IsPermissionDenied(answer.status()) || absl::IsFailedPrecondition(answer.status()))
    KILN_RETURN_IF_ERROR(Send({"GET", key, {}, {{"Range", "bytes=0-0"}}}, cancel).status());
  KILN_RETURN_IF_ERROR(answer.status());
  Object object;
  if (!absl::SimpleAtoi(answer->response.Header("content-length"), &object.size_bytes))
    object.size_bytes = 0;
  object.modified =
      ParseHttpDate(answer->response.Header("last-modified")).value_or(absl::InfinitePast());
  return object;
}

absl::Status S3Client::Get(const std::string& key, const CancelToken& cancel,
                           const std::function<absl::Status(absl::string_view)>& sink) {
  const Call call = {"GET", key};
  KILN_ASSIGN_OR_RETURN(
      const HttpResponse response,
      http_.Download(
          [&](int64_t offset) {
            if (offset == 0) return Sign(call, cancel);
            return Sign(call, cancel, {{"Range", absl::StrCat("bytes=", offset, "-")}});
          },
          cancel, sink));
  if (response.status == 200 || response.status == 206) return absl::OkStatus();
  return Failure(call, response, response.error_body);
}

absl::Status S3Client::PutPart(const std::string& key, const Pairs& query,
                               const CacheObject& object, int64_t offset, int64_t size,
                               std::string* etag, const CancelToken& cancel) {
  Call call{"PUT", key, query};
  const auto read = [&](int64_t at, char* out, size_t room) -> absl::StatusOr<size_t> {
    const int64_t left = offset + size - at;
    return object.read(at, out, static_cast<size_t>(std::min<int64_t>(left, room)));
  };
  if (offset == 0 && size == object.size_bytes) {
    call.payload_sha256 = object.digest.hex();
  } else {
    Sha256 hash;
    std::string buffer(256 << 10, '\0');
    for (int64_t at = offset; at < offset + size;) {
      KILN_ASSIGN_OR_RETURN(const size_t n, read(at, buffer.data(), buffer.size()));
      if (n == 0) return absl::DataLossError(absl::StrCat(key, ": fewer bytes than announced"));
      hash.Update(absl::string_view(buffer.data(), n));
      at += static_cast<int64_t>(n);
    }
    call.payload_sha256 = hash.Finish().hex();
  }
  call.headers.emplace_back("Content-Type", "application/octet-stream");
  call.body = [&] {
    HttpBody body;
    body.size_bytes = size;
    body.read = [read, at = offset, end = offset + size](
                    char* out, size_t room) mutable -> absl::StatusOr<size_t> {
      if (at == end) return size_t{0};
      KILN_ASSIGN_OR_RETURN(const size_t n, read(at, out, room));
      at += static_cast<int64_t>(n);
      return n;
    };
    return body;
  };
  KILN_ASSIGN_OR_RETURN(const RetryingHttp::Answer answer, Send(call, cancel));
  if (etag != nullptr) *etag = answer.response.Header("etag");
  return absl::OkStatus();
}

absl::Status S3Client::InParts(const std::string& key, const Pairs& headers, int64_t size_bytes,
                               int64_t part_bytes, const CancelToken& cancel,
                               const std::function<absl::StatusOr<std::string>(
                                   const Pairs& query, int64_t offset, int64_t size)>& part) {
  KILN_ASSIGN_OR_RETURN(const RetryingHttp::Answer begun,
                        Send({"POST", key, {{"uploads", ""}}, headers}, cancel));
  const std::string id = XmlText(begun.body, "UploadId");
  if (id.empty())
    return absl::FailedPreconditionError(absl::StrCat(key, ": the service began no upload"));
  const auto work = [&]() -> absl::Status {
    const auto count = static_cast<size_t>((size_bytes + part_bytes - 1) / part_bytes);
    std::vector<std::string> etags(count);
    KILN_RETURN_IF_ERROR(RunParallel(
        count, static_cast<size_t>(options_.parts_at_once), [&](size_t i) -> absl::Status {
          const int64_t offset = static_cast<int64_t>(i) * part_bytes;
          KILN_ASSIGN_OR_RETURN(
              etags[i], part({{"partNumber", absl::StrCat(i + 1)}, {"uploadId", id}}, offset,
                             std::min(part_bytes, size_bytes - offset)));
          return absl::OkStatus();
        }));
    std::string xml = "<CompleteMultipartUpload>";
    for (size_t i = 0; i < count; ++i)
      absl::StrAppend(&xml, "<Part><PartNumber>", i + 1, "</PartNumber><ETag>",
                      absl::StrReplaceAll(etags[i], {{"&", "&amp;"}, {"<", "&lt;"}}),
                      "</ETag></Part>");
    absl::StrAppend(&xml, "</CompleteMultipartUpload>");
    return Send({"POST",
                 key,
                 {{"uploadId", id}},
                 {{"Content-Type", "application/xml"}},
                 Digest::Of(xml).hex(),
                 [&] { return TextBody(xml); }},
                cancel)
        .status();
  };
  const absl::Status status = work();
  // What was sent would be kept, and paid for, for ever. The build may be cancelled: not waited
  // for long.
  if (!status.ok()) Send({"DELETE", key, {{"uploadId", id}}}, CancelToken()).IgnoreError();
  return status;
}

absl::Status S3Client::Put(const std::string& key, const CacheObject& object,
                           const CancelToken& cancel) {
  if (object.size_bytes <= options_.part_bytes)
    return PutPart(key, {}, object, 0, object.size_bytes, nullptr, cancel);
  const int64_t part_bytes =
      std::max(options_.part_bytes, (object.size_bytes + kMaxParts - 1) / kMaxParts);
  return InParts(
      key, {}, object.size_bytes, part_bytes, cancel,
      [&](const Pairs& query, int64_t offset, int64_t size) -> absl::StatusOr<std::string> {
        std::string etag;
        KILN_RETURN_IF_ERROR(PutPart(key, query, object, offset, size, &etag, cancel));
        return etag;
      });
}

absl::Status S3Client::Touch(const std::string& key, int64_t size_bytes,
                             const CancelToken& cancel) {
  const absl::Time now = options_.now ? options_.now() : absl::Now();
  const std::string source =
      absl::StrCat(AwsEncode(options_.bucket, false), "/", AwsEncode(key, true));
  const Pairs updated = {{"x-amz-meta-updated-at", AwsTime(now)}};
  if (size_bytes < options_.max_copy_bytes)
    return Send({"PUT",
                 key,
                 {},
                 {{"x-amz-copy-source", source},
                  {"x-amz-metadata-directive", "REPLACE"},
                  updated[0]}},
                cancel)
        .status();
  return InParts(
      key, updated, size_bytes, options_.max_copy_bytes, cancel,
      [&](const Pairs& query, int64_t offset, int64_t size) -> absl::StatusOr<std::string> {
        KILN_ASSIGN_OR_RETURN(const RetryingHttp::Answer copied,
                              Send({"PUT",
                                    key,
                                    query,
                                    {{"x-amz-copy-source", source},
                                     {"x-amz-copy-source-range",
                                      absl::StrCat("bytes=", offset, "-", offset + size - 1)}}},
                                   cancel));
        return XmlText(copied.body, "ETag");
      });
}

}  // namespace kiln::daemon
