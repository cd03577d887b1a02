#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/digest.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// A blob to be sent: `read` fills up to `size` bytes from `offset` on and returns how many; 0 is
// the end. It is called from several threads.
struct CacheObject {
  Digest digest;
  int64_t size_bytes = 0;
  std::function<absl::StatusOr<size_t>(int64_t offset, char* out, size_t size)> read;
};

// A place that keeps blobs and cache configs under names of its own, without manifests: a bucket,
// an Actions cache. Thread-safe; blocking. Errors name the place and the object.
class CacheObjects {
 public:
  virtual ~CacheObjects() = default;

  // Names it, without secrets: "s3:https://host/bucket/blobs/". What has the same name has the same
  // blobs, but for what credentials allow.
  virtual const std::string& place() const = 0;
  // Whether the blob is there.
  virtual absl::StatusOr<bool> HasBlob(const Digest& digest, const CancelToken& cancel) = 0;
  // The same before an export that relies on it; so it must not expire soon.
  virtual absl::StatusOr<bool> KeepBlob(const Digest& digest, const CancelToken& cancel) = 0;
  // OK also when somebody else puts it at the same time.
  virtual absl::Status PutBlob(const CacheObject& blob, const CancelToken& cancel) = 0;
  // Its bytes in order, from the start; not verified. kNotFound: it is not there.
  virtual absl::Status GetBlob(const Digest& digest, const CancelToken& cancel,
                               const std::function<absl::Status(absl::string_view)>& sink) = 0;

  // Replaces the config, under all the names that it goes by.
  virtual absl::Status PutConfig(absl::string_view json, const CancelToken& cancel) = 0;
  // The configs that are there, each at most `limit_bytes`.
  virtual absl::StatusOr<std::vector<std::string>> GetConfigs(int64_t limit_bytes,
                                                              const CancelToken& cancel) = 0;
};

}  // namespace kiln::daemon
