#include <toml++/toml.h>

#include <functional>
#include <map>
#include <set>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "daemon/config/config.h"
#include "daemon/config/toml_registry.h"

namespace kiln::daemon {

namespace {

std::string KeyText(const toml::key& key) { return std::string(key.str()); }

// One key of the file that has an effect.
using Reader = std::function<absl::Status(const toml::node& node, Config* config)>;

absl::Status Wrong(absl::string_view wanted) {
  return absl::InvalidArgumentError(absl::StrCat("must be ", wanted));
}

Reader String(std::string Config::*member) {
  return [member](const toml::node& node, Config* config) {
    if (!node.is_string()) return Wrong("a string");
    config->*member = node.as_string()->get();
    return absl::OkStatus();
  };
}

Reader Bool(bool Config::*member) {
  return [member](const toml::node& node, Config* config) {
    if (!node.is_boolean()) return Wrong("true or false");
    config->*member = node.as_boolean()->get();
    return absl::OkStatus();
  };
}

Reader Strings(std::vector<std::string> Config::*member) {
  return [member](const toml::node& node, Config* config) {
    if (!node.is_array()) return Wrong("an array of strings");
    std::vector<std::string> values;
    for (const toml::node& item : *node.as_array()) {
      if (!item.is_string()) return Wrong("an array of strings");
      values.push_back(item.as_string()->get());
    }
    config->*member = std::move(values);
    return absl::OkStatus();
  };
}

Reader Id(std::optional<uint32_t> Config::*member) {
  return [member](const toml::node& node, Config* config) {
    if (!node.is_integer() || node.as_integer()->get() < 0) return Wrong("a number, 0 or more");
    config->*member = static_cast<uint32_t>(node.as_integer()->get());
    return absl::OkStatus();
  };
}

Reader Parallelism() {
  return [](const toml::node& node, Config* config) {
    if (!node.is_integer() || node.as_integer()->get() < 0) return Wrong("a number, 0 or more");
    config->max_parallelism = static_cast<int>(node.as_integer()->get());
    return absl::OkStatus();
  };
}

Reader RegistryConcurrency() {
  return [](const toml::node& node, Config* config) {
    if (!node.is_integer() || node.as_integer()->get() < 0) return Wrong("a number, 0 or more");
    config->max_registry_concurrency = static_cast<int>(node.as_integer()->get());
    return absl::OkStatus();
  };
}

Reader Labels() {
  return [](const toml::node& node, Config* config) {
    if (!node.is_table()) return Wrong("a table of strings");
    for (const auto& [key, value] : *node.as_table()) {
      if (!value.is_string()) return Wrong("a table of strings");
      config->labels[KeyText(key)] = value.as_string()->get();
    }
    return absl::OkStatus();
  };
}

Reader MustBeTrue(const char* warning) {
  return [warning](const toml::node& node, Config* config) {
    if (!node.is_boolean()) return Wrong("true or false");
    if (!node.as_boolean()->get()) config->warnings.push_back(warning);
    return absl::OkStatus();
  };
}

absl::Status ReadSpace(const toml::node& node, DiskSpace* space) {
  std::string text;
  if (node.is_integer()) {
    text = absl::StrCat(node.as_integer()->get());
  } else if (node.is_string()) {
    text = node.as_string()->get();
  } else {
    return Wrong("a number of bytes or a text like \"20GB\"");
  }
  absl::StatusOr<DiskSpace> parsed = ParseDiskSpace(text);
  if (!parsed.ok()) return parsed.status();
  *space = *parsed;
  return absl::OkStatus();
}

Reader Space(DiskSpace GcConfig::*member) {
  return [member](const toml::node& node, Config* config) {
    return ReadSpace(node, &(config->gc.*member));
  };
}

// The old name of the reserved space, which the new one overrules.
Reader KeepStorage() {
  return [](const toml::node& node, Config* config) {
    DiskSpace space;
    const absl::Status status = ReadSpace(node, &space);
    if (config->gc.reserved.empty()) config->gc.reserved = space;
    return status;
  };
}

Reader GcEnabled() {
  return [](const toml::node& node, Config* config) {
    if (!node.is_boolean()) return Wrong("true or false");
    config->gc.enabled = node.as_boolean()->get();
    return absl::OkStatus();
  };
}

absl::Status ReadPolicyKey(absl::string_view key, const toml::node& node, GcPolicyConfig* policy) {
  if (key == "reservedSpace" || key == "keepBytes") return ReadSpace(node, &policy->reserved);
  if (key == "maxUsedSpace") return ReadSpace(node, &policy->max_used);
  if (key == "minFreeSpace") return ReadSpace(node, &policy->min_free);
  if (key == "all") {
    if (!node.is_boolean()) return Wrong("true or false");
    policy->all = node.as_boolean()->get();
    return absl::OkStatus();
  }
  if (key == "keepDuration") {
    std::string text;
    if (node.is_integer()) text = absl::StrCat(node.as_integer()->get());
    if (node.is_string()) text = node.as_string()->get();
    const absl::StatusOr<absl::Duration> parsed = ParseConfigDuration(text);
    if (!parsed.ok()) return parsed.status();
    policy->keep_duration = *parsed;
    return absl::OkStatus();
  }
  if (key == "filters") {
    if (!node.is_array()) return Wrong("an array of strings");
    for (const toml::node& item : *node.as_array()) {
      if (!item.is_string()) return Wrong("an array of strings");
      policy->filters.push_back(item.as_string()->get());
    }
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("is not known");
}

Reader Policies() {
  return [](const toml::node& node, Config* config) {
    if (!node.is_array()) return Wrong("an array of tables");
    for (const toml::node& item : *node.as_array()) {
      if (!item.is_table()) return Wrong("an array of tables");
      GcPolicyConfig policy;
      for (const auto& [key, value] : *item.as_table()) {
        const absl::Status status = ReadPolicyKey(KeyText(key), value, &policy);
        if (!status.ok())
          return absl::InvalidArgumentError(absl::StrCat(KeyText(key), ": ", status.message()));
      }
      config->gc.policies.push_back(std::move(policy));
    }
    return absl::OkStatus();
  };
}

const std::map<std::string, Reader>& Readers() {
  static const auto* const readers = new std::map<std::string, Reader>{
      {"debug", Bool(&Config::debug)},
      {"trace", Bool(&Config::debug)},
      {"root", String(&Config::root)},
      {"insecure-entitlements", Strings(&Config::entitlements)},
      {"cdi.disabled", Bool(&Config::cdi_disabled)},
      {"cdi.specDirs", Strings(&Config::cdi_spec_dirs)},
      {"cdi.autoAllowed", Strings(&Config::cdi_auto_allowed)},
      {"log.format", String(&Config::log_format)},
      {"log.level", String(&Config::log_level)},
      {"frontend.dockerfile.v0.enabled", Bool(&Config::dockerfile_frontend)},
      {"frontend.gateway.v0.enabled", Bool(&Config::gateway_frontend)},
      {"frontend.gateway.v0.allowedRepositories", Strings(&Config::frontend_repositories)},
      {"grpc.address", Strings(&Config::addresses)},
      {"grpc.uid", Id(&Config::uid)},
      {"grpc.gid", Id(&Config::gid)},
      {"grpc.tls.cert", String(&Config::tls_cert)},
      {"grpc.tls.key", String(&Config::tls_key)},
      {"grpc.tls.ca", String(&Config::tls_ca)},
      {"dns.nameservers", Strings(&Config::dns_nameservers)},
      {"dns.options", Strings(&Config::dns_options)},
      {"dns.searchDomains", Strings(&Config::dns_search)},
      {"worker.oci.enabled",
       MustBeTrue("worker.oci.enabled = false has no effect: it is the only worker")},
      {"worker.oci.labels", Labels()},
      {"worker.oci.snapshotter", String(&Config::snapshotter)},
      {"worker.oci.binary", String(&Config::runtime_binary)},
      {"worker.oci.networkMode", String(&Config::network_mode)},
      {"worker.oci.cniConfigPath", String(&Config::cni_config_path)},
      {"worker.oci.cniBinaryPath", String(&Config::cni_binary_dir)},
      {"worker.oci.bridgeName", String(&Config::bridge_name)},
      {"worker.oci.bridgeSubnet", String(&Config::bridge_subnet)},
      {"worker.oci.defaultCgroupParent", String(&Config::cgroup_parent)},
      {"worker.oci.max-parallelism", Parallelism()},
      {"worker.oci.gc", GcEnabled()},
      {"worker.oci.gckeepstorage", KeepStorage()},
      {"worker.oci.reservedSpace", Space(&GcConfig::reserved)},
      {"worker.oci.maxUsedSpace", Space(&GcConfig::max_used)},
      {"worker.oci.minFreeSpace", Space(&GcConfig::min_free)},
      {"worker.oci.gcpolicy", Policies()},
      {"registry", ReadRegistries},
      {"system.maxRegistryConcurrency", RegistryConcurrency()},
  };
  return *readers;
}

absl::Status Walk(const toml::table& table, const std::string& prefix, Config* config,
                  std::set<std::string>* ignored) {
  for (const auto& [key, node] : table) {
    const std::string path = absl::StrCat(prefix, prefix.empty() ? "" : ".", KeyText(key));
    const auto reader = Readers().find(path);
    if (reader != Readers().end()) {
      const absl::Status status = reader->second(node, config);
      if (!status.ok())
        return absl::InvalidArgumentError(absl::StrCat("key ", path, ": ", status.message()));
    } else if (path == "worker.containerd") {
      ignored->insert(path);  // one line for the whole section
    } else if (node.is_table()) {
      const absl::Status status = Walk(*node.as_table(), path, config, ignored);
      if (!status.ok()) return status;
    } else {
      ignored->insert(path);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ApplyToml(absl::string_view text, absl::string_view name, Config* config) {
  toml::table table;
  try {
    table = toml::parse(std::string_view(text.data(), text.size()));
  } catch (const toml::parse_error& error) {
    std::ostringstream where;
    where << error.source().begin;
    return absl::InvalidArgumentError(absl::StrCat("config file ", name, ": ", where.str(), ": ",
                                                   std::string(error.description())));
  }
  std::set<std::string> ignored;
  const absl::Status status = Walk(table, "", config, &ignored);
  if (!status.ok())
    return absl::InvalidArgumentError(absl::StrCat("config file ", name, ": ", status.message()));
  if (!ignored.empty())
    config->warnings.push_back(
        absl::StrCat("config file ", name,
                     ": keys without effect in this daemon: ", absl::StrJoin(ignored, ", ")));
  return absl::OkStatus();
}

}  // namespace kiln::daemon
