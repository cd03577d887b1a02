#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "daemon/remotecache/aws_credentials.h"
#include "daemon/remotecache/cache_attrs.h"
#include "daemon/remotecache/object_cache.h"
#include "daemon/remotecache/s3_client.h"

namespace kiln::daemon {

// What the attributes of an s3 cache say (images-and-cache.md 4.9).
struct S3CacheConfig {
  S3Options client;
  std::string blobs_prefix, manifests_prefix;  // with `prefix` before them
  std::vector<std::string> names;              // an import reads the first
  absl::Duration touch_refresh = absl::Hours(24);
  int upload_parallelism = 4;
};
// kInvalidArgument names the attribute; credentials as FindAwsCredentials says. `env` is the
// daemon's.
absl::StatusOr<S3CacheConfig> ReadS3CacheConfig(const CacheAttrs& attrs, const ReadEnv& env,
                                                const std::string& user_agent = "kiln");

absl::StatusOr<std::unique_ptr<CacheObjects>> NewS3Objects(S3CacheConfig config);

absl::StatusOr<std::unique_ptr<CacheTarget>> NewS3CacheTarget(const ObjectCacheDeps& deps,
                                                              const CacheAttrs& attrs);
absl::StatusOr<std::unique_ptr<CacheSource>> NewS3CacheSource(const ObjectCacheDeps& deps,
                                                              const CacheAttrs& attrs);

}  // namespace kiln::daemon
