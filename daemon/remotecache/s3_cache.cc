#include "daemon/remotecache/s3_cache.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

absl::StatusOr<int> PositiveAttr(const CacheAttrs& attrs, const std::string& key, int otherwise) {
  const auto found = attrs.find(key);
  if (found == attrs.end()) return otherwise;
  int value = 0;
  if (!absl::SimpleAtoi(found->second, &value) || value < 1)
    return absl::InvalidArgumentError(absl::StrCat(key, " must be a positive integer"));
  return value;
}

std::string Or(const CacheAttrs& attrs, const std::string& key, absl::string_view otherwise) {
  const auto found = attrs.find(key);
  return found == attrs.end() ? std::string(otherwise) : found->second;
}

absl::StatusOr<std::string> AttrOrEnv(const CacheAttrs& attrs, const std::string& key,
                                      const char* variable, const ReadEnv& env) {
  std::string value = Or(attrs, key, env(variable).value_or(""));
  if (!value.empty()) return value;
  return absl::InvalidArgumentError(absl::StrCat(key, " ($", variable, ") not set for s3 cache"));
}

// On their way such segments would be resolved, and the signature be of another path.
absl::Status CheckPath(absl::string_view path) {
  for (absl::string_view part : absl::StrSplit(path, '/'))
    if (part == "." || part == "..")
      return absl::InvalidArgumentError(absl::StrCat(
          "\"", path, "\" as a prefix or name of an s3 cache: no segment may be ", part));
  return absl::OkStatus();
}

class S3Objects : public CacheObjects {
 public:
  S3Objects(S3CacheConfig config, std::unique_ptr<S3Client> client)
      : config_(std::move(config)),
        client_(std::move(client)),
        place_(absl::StrCat("s3:", client_->UrlOf(config_.blobs_prefix))) {}

  const std::string& place() const override { return place_; }

  absl::StatusOr<bool> HasBlob(const Digest& digest, const CancelToken& cancel) override {
    KILN_ASSIGN_OR_RETURN(const auto found, client_->Head(BlobKey(digest), cancel));
    return found.has_value();
  }

  absl::StatusOr<bool> KeepBlob(const Digest& digest, const CancelToken& cancel) override {
    KILN_ASSIGN_OR_RETURN(const auto found, client_->Head(BlobKey(digest), cancel));
    if (!found.has_value()) return false;
    if (absl::Now() - found->modified > config_.touch_refresh)
      KILN_RETURN_IF_ERROR(client_->Touch(BlobKey(digest), found->size_bytes, cancel));
    return true;
  }

  absl::Status PutBlob(const CacheObject& blob, const CancelToken& cancel) override {
    return client_->Put(BlobKey(blob.digest), blob, cancel);
  }

  absl::Status GetBlob(const Digest& digest, const CancelToken& cancel,
                       const std::function<absl::Status(absl::string_view)>& sink) override {
    return client_->Get(BlobKey(digest), cancel, sink);
  }

  absl::Status PutConfig(absl::string_view json, const CancelToken& cancel) override {
    CacheObject object;
    object.digest = Digest::Of(json);
    object.size_bytes = static_cast<int64_t>(json.size());
    object.read = [json](int64_t offset, char* out, size_t size) -> absl::StatusOr<size_t> {
      return json.substr(static_cast<size_t>(offset)).copy(out, size);
    };
    for (const std::string& name : config_.names)
      KILN_RETURN_IF_ERROR(client_->Put(config_.manifests_prefix + name, object, cancel));
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> GetConfigs(int64_t limit_bytes,
                                                      const CancelToken& cancel) override {
    const std::string key = config_.manifests_prefix + config_.names.front();
    std::string json;
    const absl::Status status = client_->Get(key, cancel, [&](absl::string_view data) {
      if (static_cast<int64_t>(json.size() + data.size()) > limit_bytes)
        return absl::ResourceExhaustedError(
            absl::StrCat(key, " is larger than ", limit_bytes, " bytes"));
      json.append(data.data(), data.size());
      return absl::OkStatus();
    });
    if (absl::IsNotFound(status)) return std::vector<std::string>();
    KILN_RETURN_IF_ERROR(status);
    return std::vector<std::string>{std::move(json)};
  }

 private:
  std::string BlobKey(const Digest& digest) const {
    return config_.blobs_prefix + digest.ToString();
  }

  const S3CacheConfig config_;
  const std::unique_ptr<S3Client> client_;
  const std::string place_;
};

}  // namespace

absl::StatusOr<S3CacheConfig> ReadS3CacheConfig(const CacheAttrs& attrs, const ReadEnv& env,
                                                const std::string& user_agent) {
  S3CacheConfig config;
  config.client.user_agent = user_agent;
  KILN_ASSIGN_OR_RETURN(config.client.bucket, AttrOrEnv(attrs, "bucket", "AWS_BUCKET", env));
  KILN_ASSIGN_OR_RETURN(config.client.region, AttrOrEnv(attrs, "region", "AWS_REGION", env));
  const std::string prefix = CacheAttr(attrs, "prefix");
  config.blobs_prefix = prefix + Or(attrs, "blobs_prefix", "blobs/");
  config.manifests_prefix = prefix + Or(attrs, "manifests_prefix", "manifests/");
  config.names = absl::StrSplit(Or(attrs, "name", "buildkit"), ';');
  KILN_RETURN_IF_ERROR(CheckPath(config.blobs_prefix));
  for (const std::string& name : config.names)
    KILN_RETURN_IF_ERROR(CheckPath(config.manifests_prefix + name));
  // An unreadable one means the default, as in BuildKit.
  absl::Duration refresh;
  if (absl::ParseDuration(CacheAttr(attrs, "touch_refresh"), &refresh))
    config.touch_refresh = refresh;
  KILN_ASSIGN_OR_RETURN(config.upload_parallelism, PositiveAttr(attrs, "upload_parallelism", 4));
  KILN_ASSIGN_OR_RETURN(config.client.retry.max_attempts,
                        PositiveAttr(attrs, "retry_max_attempts", 3));
  const std::string mode = Or(attrs, "retry_mode", "standard");
  if (mode != "standard" && mode != "adaptive")
    return absl::InvalidArgumentError("retry_mode must be \"standard\" or \"adaptive\"");
  config.client.endpoint_url = CacheAttr(attrs, "endpoint_url");
  config.client.use_path_style = BoolCacheAttr(attrs, "use_path_style", false).value_or(false);
  const AwsCredentials given = {CacheAttr(attrs, "access_key_id"),
                                CacheAttr(attrs, "secret_access_key"),
                                CacheAttr(attrs, "session_token")};
  if (!given.access_key_id.empty() && !given.secret_access_key.empty()) {
    config.client.credentials = std::make_shared<AwsCredentialSource>(given);
  } else {
    KILN_ASSIGN_OR_RETURN(config.client.credentials,
                          FindAwsCredentials(env, config.client.region, user_agent));
  }
  return config;
}

absl::StatusOr<std::unique_ptr<CacheObjects>> NewS3Objects(S3CacheConfig config) {
  KILN_ASSIGN_OR_RETURN(std::unique_ptr<S3Client> client, S3Client::Create(config.client));
  return std::make_unique<S3Objects>(std::move(config), std::move(client));
}

absl::StatusOr<std::unique_ptr<CacheTarget>> NewS3CacheTarget(const ObjectCacheDeps& deps,
                                                              const CacheAttrs& attrs) {
  KILN_ASSIGN_OR_RETURN(S3CacheConfig config,
                        ReadS3CacheConfig(attrs, ProcessEnv, deps.user_agent));
  const int parallel = config.upload_parallelism;
  KILN_ASSIGN_OR_RETURN(auto objects, NewS3Objects(std::move(config)));
  return NewObjectCacheTarget(deps, "exporting cache to Amazon S3", parallel, std::move(objects));
}

absl::StatusOr<std::unique_ptr<CacheSource>> NewS3CacheSource(const ObjectCacheDeps& deps,
                                                              const CacheAttrs& attrs) {
  KILN_ASSIGN_OR_RETURN(S3CacheConfig config,
                        ReadS3CacheConfig(attrs, ProcessEnv, deps.user_agent));
  KILN_ASSIGN_OR_RETURN(auto objects, NewS3Objects(std::move(config)));
  return NewObjectCacheSource(deps, std::move(objects));
}

}  // namespace kiln::daemon
