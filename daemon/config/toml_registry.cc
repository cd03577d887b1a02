#include "daemon/config/toml_registry.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

std::string KeyText(const toml::key& key) { return std::string(key.str()); }

absl::StatusOr<std::vector<std::string>> Strings(const toml::node& node) {
  std::vector<std::string> out;
  if (!node.is_array()) return absl::InvalidArgumentError("must be an array of strings");
  for (const toml::node& item : *node.as_array()) {
    if (!item.is_string()) return absl::InvalidArgumentError("must be an array of strings");
    out.push_back(item.as_string()->get());
  }
  return out;
}

absl::StatusOr<bool> Bool(const toml::node& node) {
  if (!node.is_boolean()) return absl::InvalidArgumentError("must be true or false");
  return node.as_boolean()->get();
}

absl::StatusOr<std::vector<RegistryHostConfig::KeyPair>> KeyPairs(const toml::node& node) {
  std::vector<RegistryHostConfig::KeyPair> out;
  const absl::Status wrong =
      absl::InvalidArgumentError("must be tables with the strings key and cert");
  if (!node.is_array()) return wrong;
  for (const toml::node& item : *node.as_array()) {
    if (!item.is_table()) return wrong;
    const auto key = (*item.as_table())["key"].value<std::string>();
    const auto cert = (*item.as_table())["cert"].value<std::string>();
    if (!key.has_value() || !cert.has_value()) return wrong;
    out.push_back({*key, *cert});
  }
  return out;
}

absl::Status ReadKey(const std::string& key, const toml::node& node, RegistryHostConfig* host,
                     bool* known) {
  *known = true;
  if (key == "mirrors") {
    KILN_ASSIGN_OR_RETURN(host->mirrors, Strings(node));
  } else if (key == "http") {
    KILN_ASSIGN_OR_RETURN(host->http, Bool(node));
  } else if (key == "insecure") {
    KILN_ASSIGN_OR_RETURN(host->insecure, Bool(node));
  } else if (key == "ca") {
    KILN_ASSIGN_OR_RETURN(host->ca_files, Strings(node));
  } else if (key == "keypair") {
    KILN_ASSIGN_OR_RETURN(host->key_pairs, KeyPairs(node));
  } else if (key == "tlsconfigdir") {
    KILN_ASSIGN_OR_RETURN(host->tls_config_dirs, Strings(node));
  } else {
    *known = false;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadRegistries(const toml::node& node, Config* config) {
  if (!node.is_table()) return absl::InvalidArgumentError("must be a table of hosts");
  for (const auto& [name, table] : *node.as_table()) {
    const std::string host = KeyText(name);
    if (!table.is_table())
      return absl::InvalidArgumentError(absl::StrCat("\"", host, "\" must be a table"));
    RegistryHostConfig read;
    for (const auto& [key, value] : *table.as_table()) {
      bool known = false;
      KILN_RETURN_IF_ERROR(Annotate(ReadKey(KeyText(key), value, &read, &known),
                                    absl::StrCat("\"", host, "\".", KeyText(key))));
      if (!known)
        config->warnings.push_back(
            absl::StrCat("registry \"", host, "\": key ", KeyText(key), " has no effect"));
    }
    config->registries[host] = std::move(read);
  }
  return absl::OkStatus();
}

}  // namespace kiln::daemon
