#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/remotecache/actions_cache.h"
#include "daemon/remotecache/cache_attrs.h"
#include "daemon/remotecache/object_cache.h"

namespace kiln::daemon {

// What the attributes of a gha cache say (images-and-cache.md 4.11).
struct GhaCacheConfig {
  ActionsCacheOptions service;
  std::vector<ActionsToken::Scope> scopes;
  std::string scope = "buildkit";  // part of the config's key
  // When both are set the keys that exist are listed once instead of asked for one by one.
  std::string repository, github_token;
  std::string api_url = "https://api.github.com";
};
// kInvalidArgument names the attribute; kUnimplemented: version 1 of the service.
absl::StatusOr<GhaCacheConfig> ReadGhaCacheConfig(const CacheAttrs& attrs, absl::Time now);

std::unique_ptr<CacheObjects> NewGhaObjects(GhaCacheConfig config);

absl::StatusOr<std::unique_ptr<CacheTarget>> NewGhaCacheTarget(const ObjectCacheDeps& deps,
                                                               const CacheAttrs& attrs);
absl::StatusOr<std::unique_ptr<CacheSource>> NewGhaCacheSource(const ObjectCacheDeps& deps,
                                                               const CacheAttrs& attrs);

}  // namespace kiln::daemon
