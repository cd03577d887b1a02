#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/remotecache/cache_objects.h"
#include "daemon/remotecache/retrying_http.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// What a runtime token of GitHub Actions allows. It is read, not verified: the service does that.
struct ActionsToken {
  struct Scope {
    std::string name;  // a git ref
    bool may_read = false, may_write = false;
  };
  std::string text;
  std::vector<Scope> scopes;
};
// kInvalidArgument: no such token, or not valid at `now`. Messages do not show it.
absl::StatusOr<ActionsToken> ReadActionsToken(absl::string_view text, absl::Time now);

struct ActionsCacheOptions {
  std::string url;    // of the cache service, version 2
  std::string token;  // its text
  std::string user_agent = "kiln";
  absl::Duration timeout = absl::Minutes(10);  // of all waits of one call when there are too many
  int64_t block_bytes = 32 << 20;
  std::function<absl::Status(absl::Duration, const CancelToken&)> sleep = {};  // null: really
};

// The cache service of GitHub Actions, version 2: entries that cannot be changed, by key, in blobs
// of a storage service. Thread-safe; blocking. Errors name the key; neither token nor signed URLs
// are in them.
class ActionsCache {
 public:
  explicit ActionsCache(ActionsCacheOptions options);

  struct Entry {
    std::string key;
    std::string url;  // signed; for some minutes
  };
  // The newest entry whose key begins with this; nullopt: there is none.
  absl::StatusOr<std::optional<Entry>> Find(const std::string& prefix, const CancelToken& cancel);

  // Its bytes, in order; kNotFound. A signed URL that has become too old is asked for again.
  absl::Status Read(const std::string& prefix, const CancelToken& cancel,
                    const std::function<absl::Status(absl::string_view)>& sink);

  // kAlreadyExists: the key is taken; perhaps by somebody who is still writing.
  absl::Status Write(const std::string& key, const CacheObject& object, const CancelToken& cancel);

  // Keys that begin with the prefix, by GitHub's REST interface.
  absl::StatusOr<std::vector<std::string>> ListKeys(
      const std::string& api_url, const std::string& repository, const std::string& github_token,
      const std::string& ref, const std::string& prefix, const CancelToken& cancel);

  absl::Status Sleep(absl::Duration wait, const CancelToken& cancel);

 private:
  // A JSON object in, the answer's text out.
  absl::StatusOr<std::string> Call(const std::string& method, const std::string& key,
                                   const std::string& json, const CancelToken& cancel);
  absl::Status CheckStorageUrl(const std::string& url) const;

  const ActionsCacheOptions options_;
  RetryingHttp service_, storage_;
};

}  // namespace kiln::daemon
