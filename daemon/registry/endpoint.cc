#include "daemon/registry/endpoint.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

// Where a registry really is.
std::string NetworkHost(const std::string& domain) {
  return domain == "docker.io" ? "registry-1.docker.io" : domain;
}

absl::Status ReadTlsDir(const std::string& dir, RegistryHostConfig* config) {
  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (std::filesystem::directory_iterator it(dir, error), end; !error && it != end;
       it.increment(error))
    files.push_back(it->path());
  if (error)
    return absl::FailedPreconditionError(absl::StrCat("tlsconfigdir ", dir, ": ", error.message()));
  std::sort(files.begin(), files.end());
  for (const std::filesystem::path& file : files) {
    if (file.extension() == ".crt") config->ca_files.push_back(file.string());
    if (file.extension() != ".cert") continue;
    std::filesystem::path key = file;
    key.replace_extension(".key");
    if (!std::filesystem::exists(key, error))
      return absl::FailedPreconditionError(absl::StrCat("tlsconfigdir ", dir, ": ",
                                                        file.filename().string(), " has no ",
                                                        key.filename().string()));
    config->key_pairs.push_back({key.string(), file.string()});
  }
  return absl::OkStatus();
}

const RegistryHostConfig& Find(const RegistryConfig& config, const std::string& host) {
  static const auto* const kNone = new RegistryHostConfig;
  auto it = config.find(host);
  return it == config.end() ? *kNone : it->second;
}

// `configured` is the name that the host has in the configuration.
absl::StatusOr<Endpoint> MakeEndpoint(const RegistryHostConfig& configured, std::string host,
                                      std::string path) {
  RegistryHostConfig config = configured;
  for (const std::string& dir : config.tls_config_dirs)
    KILN_RETURN_IF_ERROR(ReadTlsDir(dir, &config));
  Endpoint out;
  const bool has_tls = !config.ca_files.empty() || !config.key_pairs.empty();
  const bool plain = config.http.value_or(IsLoopbackHost(host) && !has_tls);
  out.tls.insecure = config.insecure.value_or(false);
  out.http = plain && !out.tls.insecure;
  out.may_fall_back = plain && out.tls.insecure;
  out.tls.ca_files = config.ca_files;
  for (const RegistryHostConfig::KeyPair& pair : config.key_pairs)
    out.tls.key_pairs.push_back({pair.cert_file, pair.key_file});
  out.url = absl::StrCat(out.http ? "http" : "https", "://", host, "/v2/", path);
  out.host = std::move(host);
  out.path = std::move(path);
  return out;
}

}  // namespace

absl::StatusOr<std::vector<Endpoint>> Endpoints(const RegistryConfig& config,
                                                const Reference& repository, Purpose purpose,
                                                bool insecure) {
  std::vector<Endpoint> out;
  RegistryHostConfig own = Find(config, repository.domain);
  if (insecure) {
    own = {};
    own.http = own.insecure = true;
  }
  for (const std::string& text : own.mirrors) {
    if (purpose == Purpose::kPush) break;
    absl::string_view mirror = text;
    const size_t scheme = mirror.find("://");
    if (scheme != absl::string_view::npos) mirror.remove_prefix(scheme + 3);
    while (absl::ConsumeSuffix(&mirror, "/")) {
    }
    const size_t slash = mirror.find('/');
    const std::string host(mirror.substr(0, slash));
    if (host.empty())
      return absl::InvalidArgumentError(
          absl::StrCat("registry ", repository.domain, ": mirror \"", text, "\" names no host"));
    const std::string prefix =
        slash == absl::string_view::npos ? "" : absl::StrCat(mirror.substr(slash + 1), "/");
    KILN_ASSIGN_OR_RETURN(Endpoint endpoint, MakeEndpoint(Find(config, host), NetworkHost(host),
                                                          absl::StrCat(prefix, repository.path)));
    if (host != repository.domain)
      endpoint.namespace_query = absl::StrCat("ns=", repository.domain);
    out.push_back(std::move(endpoint));
  }
  KILN_ASSIGN_OR_RETURN(Endpoint upstream,
                        MakeEndpoint(own, NetworkHost(repository.domain), repository.path));
  out.push_back(std::move(upstream));
  return out;
}

Endpoint WithPlainHttp(Endpoint endpoint) {
  if (absl::StartsWith(endpoint.url, "https:")) endpoint.url.erase(4, 1);
  endpoint.http = true;
  endpoint.may_fall_back = false;
  return endpoint;
}

}  // namespace kiln::daemon
