#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace kiln::daemon {

// How to talk to one registry host: [registry."host"] of buildkitd.toml. A value.
struct RegistryHostConfig {
  std::vector<std::string> mirrors = {};  // "host[:port][/prefix]", for pulls
  std::optional<bool> http = std::nullopt;
  std::optional<bool> insecure = std::nullopt;
  std::vector<std::string> ca_files = {};  // beside the system's
  struct KeyPair {
    std::string key_file, cert_file;
  };
  std::vector<KeyPair> key_pairs = {};
  std::vector<std::string> tls_config_dirs = {};  // "*.crt" authorities, "*.cert" with "*.key"
};

// By host, as it is written in references ("docker.io", "localhost:5000") or in `mirrors`.
using RegistryConfig = std::map<std::string, RegistryHostConfig>;

}  // namespace kiln::daemon
