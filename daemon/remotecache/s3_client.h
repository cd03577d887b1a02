#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/remotecache/aws_credentials.h"
#include "daemon/remotecache/cache_objects.h"
#include "daemon/remotecache/retrying_http.h"
#include "proto/digest.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

struct S3Options {
  std::string bucket, region;
  std::string endpoint_url;     // "": AWS's own for the region
  bool use_path_style = false;  // counts with an endpoint only
  std::shared_ptr<AwsCredentialSource> credentials;
  std::string user_agent = "kiln";
  RetryPolicy retry = {};
  // Larger objects are sent in parts of this size, or of what makes at most 10,000 of them.
  int64_t part_bytes = 16 << 20;
  int parts_at_once = 4;
  int64_t max_copy_bytes = int64_t{5} << 30;  // of CopyObject and UploadPartCopy
  std::function<absl::Time()> now = {};       // null: the clock
  std::function<absl::Status(absl::Duration, const CancelToken&)> sleep = {};  // null: really
};

// The part of S3's REST interface that a cache needs, each request signed (SigV4), none with an
// optional checksum. Thread-safe; blocking. Errors name the object and say what the service said.
class S3Client {
 public:
  // kInvalidArgument for an endpoint that is no http URL.
  static absl::StatusOr<std::unique_ptr<S3Client>> Create(S3Options options);

  // Where an object is.
  std::string UrlOf(const std::string& key) const;

  struct Object {
    int64_t size_bytes = 0;
    absl::Time modified;
  };
  // nullopt: there is none, or no bucket.
  absl::StatusOr<std::optional<Object>> Head(const std::string& key, const CancelToken& cancel);
  // The object's bytes; kNotFound, kFailedPrecondition for no bucket. Continued where the
  // connection breaks.
  absl::Status Get(const std::string& key, const CancelToken& cancel,
                   const std::function<absl::Status(absl::string_view)>& sink);
  absl::Status Put(const std::string& key, const CacheObject& object, const CancelToken& cancel);
  // Makes the object as new, for rules that remove old ones, without sending it.
  absl::Status Touch(const std::string& key, int64_t size_bytes, const CancelToken& cancel);

 private:
  using Pairs = std::vector<std::pair<std::string, std::string>>;
  struct Call {
    std::string method, key;
    Pairs query = {}, headers = {};
    std::string payload_sha256 = {};  // "": of no bytes
    std::function<HttpBody()> body = {};
  };
  explicit S3Client(S3Options options);

  absl::StatusOr<HttpRequest> Sign(const Call& call, const CancelToken& cancel,
                                   const Pairs& more_headers = {}) const;
  // What an answer other than success means; kFailedPrecondition for a bucket that is not there.
  absl::Status Failure(const Call& call, const HttpResponse& response,
                       absl::string_view body) const;
  // The body of a success, else an error.
  absl::StatusOr<RetryingHttp::Answer> Send(const Call& call, const CancelToken& cancel);
  absl::Status PutPart(const std::string& key, const Pairs& query, const CacheObject& object,
                       int64_t offset, int64_t size, std::string* etag, const CancelToken& cancel);
  // Begins, has each part made, and completes; what was begun is aborted when that fails.
  absl::Status InParts(const std::string& key, const Pairs& headers, int64_t size_bytes,
                       int64_t part_bytes, const CancelToken& cancel,
                       const std::function<absl::StatusOr<std::string>(
                           const Pairs& query, int64_t offset, int64_t size)>& part);

  const S3Options options_;
  std::string base_, host_, path_;  // "https://host", "host[:port]", "/bucket" or ""
  RetryingHttp http_;
};

}  // namespace kiln::daemon
