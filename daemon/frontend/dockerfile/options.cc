#include "daemon/frontend/dockerfile/options.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "daemon/frontend/dockerfile/go_format.h"
#include "daemon/frontend/dockerfile/syntax/csv.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"
#include "daemon/registry/reference.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {
namespace {

using Opts = std::map<std::string, std::string>;

std::string Get(const Opts& opts, const std::string& key) {
  const auto found = opts.find(key);
  return found == opts.end() ? "" : found->second;
}

Opts WithPrefix(const Opts& opts, absl::string_view prefix) {
  Opts out;
  for (auto at = opts.lower_bound(std::string(prefix)); at != opts.end(); ++at) {
    if (!absl::StartsWith(at->first, prefix)) break;
    out[at->first.substr(prefix.size())] = at->second;
  }
  return out;
}

// What older daemons did otherwise, and no longer do.
absl::Status RefuseRemoved(const Opts& opts) {
  if (!Get(opts, "override-copy-image").empty()) {
    return absl::InvalidArgumentError(
        "support for \"override-copy-image\" was removed in BuildKit 0.11");
  }
  if (ParseBool(Get(opts, "build-arg:BUILDKIT_DISABLE_FILEOP")).value_or(false)) {
    return absl::InvalidArgumentError(
        "support for \"BUILDKIT_DISABLE_FILEOP\" build-arg was removed in BuildKit 0.11");
  }
  return absl::OkStatus();
}

absl::Status ReadPlatforms(const FrontendClient& client, Options* out) {
  const std::vector<std::string> workers = client.worker_platforms();
  if (workers.empty()) {
    out->build_platforms = {HostPlatform()};
  } else {
    KILN_ASSIGN_OR_RETURN(const Platform first, ParsePlatform(workers[0]));
    out->build_platforms = {NormalizePlatform(first)};
  }
  const std::string wanted = Get(client.opts(), "platform");
  if (wanted.empty()) return absl::OkStatus();
  for (absl::string_view text : absl::StrSplit(wanted, ',')) {
    KILN_ASSIGN_OR_RETURN(
        Platform platform,
        Annotate(ParsePlatform(text), absl::StrCat("failed to parse target platform ", text)));
    out->target_platforms.push_back(NormalizePlatform(std::move(platform)));
  }
  return absl::OkStatus();
}

absl::Status ReadResolveMode(const std::string& text, Options* out) {
  if (text == "pull") {
    out->resolve_mode = client::llb::ResolveMode::kForcePull;
  } else if (text == "local") {
    out->resolve_mode = client::llb::ResolveMode::kPreferLocal;
  } else if (!text.empty() && text != "default") {
    return absl::InvalidArgumentError(absl::StrCat("invalid image-resolve-mode: ", text));
  }
  if (!text.empty()) out->resolve_mode_name = text;
  return absl::OkStatus();
}

absl::Status ReadNetwork(const std::string& text, Options* out) {
  if (text == "host") {
    out->network = client::llb::NetMode::kHost;
  } else if (text == "none") {
    out->network = client::llb::NetMode::kNone;
  } else if (!text.empty() && text != "sandbox") {
    return absl::InvalidArgumentError(absl::StrCat("invalid netmode ", text));
  }
  return absl::OkStatus();
}

absl::Status ReadMultiPlatform(const Opts& opts, Options* out) {
  out->multi_platform = out->target_platforms.size() > 1;
  std::string text = Get(opts, "build-arg:BUILDKIT_MULTI_PLATFORM");
  if (text.empty()) text = Get(opts, "multi-platform");
  if (text.empty()) return absl::OkStatus();
  const auto on = ParseBool(text);
  if (!on) {
    return absl::InvalidArgumentError(
        absl::StrCat("invalid boolean value for multi-platform: ", text));
  }
  if (!*on && out->multi_platform) {
    return absl::InvalidArgumentError(
        "conflicting config: returning multiple target platforms is not allowed");
  }
  out->multi_platform = *on;
  return absl::OkStatus();
}

void ReadNoCache(const Opts& opts, Options* out) {
  const auto found = opts.find("no-cache");
  if (found == opts.end()) return;
  std::set<std::string>& stages = out->no_cache.emplace();
  if (found->second.empty()) return;
  for (absl::string_view name : absl::StrSplit(found->second, ',')) {
    stages.insert(absl::AsciiStrToLower(name));
  }
}

absl::Status ReadCacheImports(const Opts& opts, Options* out) {
  const std::string imports = Get(opts, "cache-imports");
  if (!imports.empty()) {
    try {
      for (const nlohmann::json& item : nlohmann::json::parse(imports)) {
        FrontendClient::Solve::CacheImport& added = out->cache_imports.emplace_back();
        for (const auto& [key, value] : item.items()) {
          if (value.is_null()) continue;
          if (absl::EqualsIgnoreCase(key, "Type")) value.get_to(added.type);
          if (absl::EqualsIgnoreCase(key, "Attrs")) value.get_to(added.attrs);
        }
      }
    } catch (const std::exception& e) {
      return absl::InvalidArgumentError(
          absl::StrCat("failed to unmarshal cache-imports (", Quote(imports), "): ", e.what()));
    }
  }
  const std::string refs = Get(opts, "cache-from");
  if (refs.empty()) return absl::OkStatus();
  for (absl::string_view ref : absl::StrSplit(refs, ',')) {
    out->cache_imports.push_back({"registry", {{"ref", std::string(ref)}}});
  }
  return absl::OkStatus();
}

// attest:TYPE and build-arg:BUILDKIT_ATTEST_TYPE; only the bill of materials is made here.
absl::Status ReadAttestations(const Opts& opts, Options* out) {
  for (absl::string_view prefix : {"attest:", "build-arg:BUILDKIT_ATTEST_"}) {
    for (const auto& [name, value] : WithPrefix(opts, prefix)) {
      const std::string type = absl::AsciiStrToLower(name);
      if (type != "sbom" && type != "provenance")
        return absl::InvalidArgumentError(absl::StrCat("unknown attestation type ", Quote(type)));
      if (!value.empty())
        KILN_RETURN_IF_ERROR(
            Annotate(SplitCsv(value).status(), absl::StrCat("failed to parse ", type)));
    }
  }
  KILN_ASSIGN_OR_RETURN(out->sbom, SbomOptions::FromFrontend(opts));
  return absl::OkStatus();
}

}  // namespace

bool Options::IgnoresCache(const std::string& stage_name) const {
  return no_cache && (no_cache->empty() || no_cache->count(absl::AsciiStrToLower(stage_name)) > 0);
}

absl::StatusOr<Options> ParseOptions(const FrontendClient& client) {
  const Opts& opts = client.opts();
  Options out;
  KILN_RETURN_IF_ERROR(RefuseRemoved(opts));
  KILN_RETURN_IF_ERROR(ReadPlatforms(client, &out));
  KILN_RETURN_IF_ERROR(ReadResolveMode(Get(opts, "image-resolve-mode"), &out));
  KILN_ASSIGN_OR_RETURN(out.extra_hosts, Annotate(ParseExtraHosts(Get(opts, "add-hosts")),
                                                  "failed to parse additional hosts"));
  if (const std::string size = Get(opts, "shm-size"); !size.empty()) {
    KILN_ASSIGN_OR_RETURN(out.shm_size_bytes, Annotate(ParseInt(size), "failed to parse shm size"));
  }
  KILN_ASSIGN_OR_RETURN(out.ulimits,
                        Annotate(ParseUlimits(Get(opts, "ulimit")), "failed to parse ulimit"));
  KILN_ASSIGN_OR_RETURN(out.resources,
                        Annotate(ParseResources(opts), "failed to parse resource limits"));
  KILN_RETURN_IF_ERROR(ReadNetwork(Get(opts, "force-network-mode"), &out));
  ReadNoCache(opts, &out);
  KILN_RETURN_IF_ERROR(ReadMultiPlatform(opts, &out));
  KILN_RETURN_IF_ERROR(ReadCacheImports(opts, &out));
  KILN_RETURN_IF_ERROR(ReadAttestations(opts, &out));
  out.build_args = WithPrefix(opts, "build-arg:");
  out.labels = WithPrefix(opts, "label:");
  out.cache_mount_namespace = Get(out.build_args, "BUILDKIT_CACHE_MOUNT_NS");
  out.cgroup_parent = Get(opts, "cgroup-parent");
  out.target = Get(opts, "target");
  out.hostname = Get(out.build_args, "BUILDKIT_SANDBOX_HOSTNAME");
  if (out.hostname.empty()) out.hostname = Get(opts, "hostname");
  if (const auto check = out.build_args.find("BUILDKIT_DOCKERFILE_CHECK");
      check != out.build_args.end()) {
    KILN_ASSIGN_OR_RETURN(out.lint,
                          Annotate(ParseLintConfig(check->second),
                                   "failed to parse build-arg:BUILDKIT_DOCKERFILE_CHECK"));
  }
  return out;
}

}  // namespace kiln::daemon::dockerfile
