#include "daemon/remotecache/gha_cache.h"

#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr char kBlobPrefix[] = "buildkit-blob-1-";
constexpr int kLayersAtOnce = 4;
constexpr char kVersion2Host[] = "results-receiver.actions.githubusercontent.com";
constexpr absl::Duration kTakenWait = absl::Seconds(2);
constexpr absl::Duration kTakenLimit = absl::Seconds(15);

class GhaObjects : public CacheObjects {
 public:
  explicit GhaObjects(GhaCacheConfig config)
      : config_(std::move(config)),
        place_(absl::StrCat("gha:", RedactUrl(config_.service.url))),
        cache_(config_.service) {
    for (const ActionsToken::Scope& scope : config_.scopes)
      if (scope.may_write) writable_ = &scope;
  }

  const std::string& place() const override { return place_; }

  absl::StatusOr<bool> HasBlob(const Digest& digest, const CancelToken& cancel) override {
    KILN_ASSIGN_OR_RETURN(const auto entry, cache_.Find(BlobKey(digest), cancel));
    return entry.has_value() && entry->key == BlobKey(digest);
  }

  absl::StatusOr<bool> KeepBlob(const Digest& digest, const CancelToken& cancel) override {
    if (const std::set<std::string>* known = KnownKeys(cancel); known != nullptr)
      return known->count(BlobKey(digest)) != 0;
    return HasBlob(digest, cancel);
  }

  absl::Status PutBlob(const CacheObject& blob, const CancelToken& cancel) override {
    KILN_RETURN_IF_ERROR(CheckMayWrite());
    const absl::Status status = cache_.Write(BlobKey(blob.digest), blob, cancel);
    return absl::IsAlreadyExists(status) ? absl::OkStatus() : status;
  }

  absl::Status GetBlob(const Digest& digest, const CancelToken& cancel,
                       const std::function<absl::Status(absl::string_view)>& sink) override {
    return cache_.Read(BlobKey(digest), cancel, sink);
  }

  // Entries cannot be changed: each config is a new one, numbered.
  absl::Status PutConfig(absl::string_view json, const CancelToken& cancel) override {
    KILN_RETURN_IF_ERROR(CheckMayWrite());
    CacheObject object;
    object.digest = Digest::Of(json);
    object.size_bytes = static_cast<int64_t>(json.size());
    object.read = [json](int64_t offset, char* out, size_t size) -> absl::StatusOr<size_t> {
      return json.substr(static_cast<size_t>(offset)).copy(out, size);
    };
    const std::string prefix = ConfigPrefix(writable_->name);
    absl::Duration waited;
    for (int skipped = 0;;) {
      KILN_ASSIGN_OR_RETURN(const auto newest, cache_.Find(prefix, cancel));
      int64_t number = 0;
      if (newest.has_value() && !absl::SimpleAtoi(newest->key.substr(prefix.size()), &number))
        return absl::DataLossError(absl::StrCat("cache entry ", newest->key, " has no number"));
      const absl::Status status =
          cache_.Write(absl::StrCat(prefix, number + 1 + skipped), object, cancel);
      if (!absl::IsAlreadyExists(status)) return status;
      // Somebody is writing it, or died while doing so: then it is never to be seen.
      if (waited >= kTakenLimit) {
        ++skipped;
        continue;
      }
      waited += kTakenWait;
      KILN_RETURN_IF_ERROR(cache_.Sleep(kTakenWait, cancel));
    }
  }

  absl::StatusOr<std::vector<std::string>> GetConfigs(int64_t limit_bytes,
                                                      const CancelToken& cancel) override {
    std::vector<std::string> found;
    for (const ActionsToken::Scope& scope : config_.scopes) {
      if (!scope.may_read) continue;
      const std::string prefix = ConfigPrefix(scope.name);
      std::string json;
      const absl::Status status = cache_.Read(prefix, cancel, [&](absl::string_view data) {
        if (static_cast<int64_t>(json.size() + data.size()) > limit_bytes)
          return absl::ResourceExhaustedError(
              absl::StrCat(prefix, " is larger than ", limit_bytes, " bytes"));
        json.append(data.data(), data.size());
        return absl::OkStatus();
      });
      if (absl::IsNotFound(status)) continue;
      KILN_RETURN_IF_ERROR(status);
      found.push_back(std::move(json));
    }
    return found;
  }

 private:
  static std::string BlobKey(const Digest& digest) {
    return absl::StrCat(kBlobPrefix, digest.ToString());
  }
  std::string ConfigPrefix(const std::string& git_scope) const {
    return absl::StrCat("index-", config_.scope, "-1-", Digest::Of(git_scope).hex().substr(0, 8),
                        "#");
  }
  absl::Status CheckMayWrite() const {
    if (writable_ != nullptr) return absl::OkStatus();
    return absl::PermissionDeniedError("the Actions cache token has no scope to write to");
  }

  // The blobs that there are; null: to be asked for one by one.
  const std::set<std::string>* KnownKeys(const CancelToken& cancel) {
    if (config_.repository.empty() || config_.github_token.empty()) return nullptr;
    std::call_once(list_once_, [&] {
      std::set<std::string> keys;
      for (const ActionsToken::Scope& scope : config_.scopes) {
        const auto listed = cache_.ListKeys(config_.api_url, config_.repository,
                                            config_.github_token, scope.name, kBlobPrefix, cancel);
        if (!listed.ok()) return;  // it only saves requests
        keys.insert(listed->begin(), listed->end());
      }
      known_ = std::move(keys);
    });
    return known_.has_value() ? &*known_ : nullptr;
  }

  const GhaCacheConfig config_;
  const std::string place_;
  ActionsCache cache_;
  const ActionsToken::Scope* writable_ = nullptr;  // null: none
  std::once_flag list_once_;
  std::optional<std::set<std::string>> known_;  // constant after list_once_
};

}  // namespace

absl::StatusOr<GhaCacheConfig> ReadGhaCacheConfig(const CacheAttrs& attrs, absl::Time now) {
  GhaCacheConfig config;
  if (attrs.count("scope") != 0) config.scope = CacheAttr(attrs, "scope");
  const std::string token = CacheAttr(attrs, "token");
  if (token.empty()) return absl::InvalidArgumentError("token not set for github actions cache");
  int version = 0;
  if (const std::string text = CacheAttr(attrs, "version");
      !text.empty() && !absl::SimpleAtoi(text, &version))
    return absl::InvalidArgumentError(
        absl::StrCat("failed to parse api version \"", text, "\", expected positive integer"));
  config.service.url = version == 1 ? "" : CacheAttr(attrs, "url_v2");
  if (!config.service.url.empty()) version = 2;
  if (config.service.url.empty()) config.service.url = CacheAttr(attrs, "url");
  if (config.service.url.empty())
    return absl::InvalidArgumentError("url not set for github actions cache");
  if (version == 0 && absl::StrContains(config.service.url, kVersion2Host)) version = 2;
  if (version < 2)
    return absl::UnimplementedError(
        "version 1 of the GitHub Actions cache service is not supported by this daemon; "
        "set url_v2");
  if (const auto timeout = attrs.find("timeout");
      timeout != attrs.end() && !absl::ParseDuration(timeout->second, &config.service.timeout))
    return absl::InvalidArgumentError(absl::StrCat(
        "failed to parse timeout for github actions cache: \"", timeout->second, "\""));
  KILN_ASSIGN_OR_RETURN(ActionsToken read, ReadActionsToken(token, now));
  config.service.token = std::move(read.text);
  config.scopes = std::move(read.scopes);
  config.repository = CacheAttr(attrs, "repository");
  config.github_token = CacheAttr(attrs, "ghtoken");
  return config;
}

std::unique_ptr<CacheObjects> NewGhaObjects(GhaCacheConfig config) {
  return std::make_unique<GhaObjects>(std::move(config));
}

absl::StatusOr<std::unique_ptr<CacheTarget>> NewGhaCacheTarget(const ObjectCacheDeps& deps,
                                                               const CacheAttrs& attrs) {
  KILN_ASSIGN_OR_RETURN(GhaCacheConfig config, ReadGhaCacheConfig(attrs, absl::Now()));
  config.service.user_agent = deps.user_agent;
  return NewObjectCacheTarget(deps, "exporting to GitHub Actions Cache", kLayersAtOnce,
                              NewGhaObjects(std::move(config)));
}

absl::StatusOr<std::unique_ptr<CacheSource>> NewGhaCacheSource(const ObjectCacheDeps& deps,
                                                               const CacheAttrs& attrs) {
  KILN_ASSIGN_OR_RETURN(GhaCacheConfig config, ReadGhaCacheConfig(attrs, absl::Now()));
  config.service.user_agent = deps.user_agent;
  return NewObjectCacheSource(deps, NewGhaObjects(std::move(config)));
}

}  // namespace kiln::daemon
