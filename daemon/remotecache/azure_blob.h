#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "daemon/remotecache/cache_objects.h"
#include "daemon/remotecache/retrying_http.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

inline constexpr int64_t kAzureBlockBytes = 32 << 20;

// Writes a block blob at a signed URL: in one request up to `block_bytes`, else four blocks at a
// time and then their list. Blocks.
absl::Status PutAzureBlob(RetryingHttp& http, const std::string& url, const CacheObject& object,
                          int64_t block_bytes, const CancelToken& cancel);

// The bytes of a blob at a signed URL, from `*taken` on, which counts what `sink` got.
// kPermissionDenied or kUnauthenticated: the URL is too old.
absl::Status GetAzureBlob(RetryingHttp& http, const std::string& url, int64_t* taken,
                          const CancelToken& cancel,
                          const std::function<absl::Status(absl::string_view)>& sink);

}  // namespace kiln::daemon
