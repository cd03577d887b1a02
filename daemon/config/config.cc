#include "daemon/config/config.h"

#include <unistd.h>

#include <cstdlib>
#include <functional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

enum class Kind { kBool, kValue };
// What a flag does with its value ("true" or "false" for a bool).
using Setter = std::function<absl::Status(const std::string& value, Config* config)>;

struct Flag {
  const char* name;
  Kind kind;
  const char* help;  // "" = accepted without effect
  Setter set;
};

Setter Text(std::string Config::*member) {
  return [member](const std::string& value, Config* config) {
    config->*member = value;
    return absl::OkStatus();
  };
}

Setter Flagged(bool Config::*member) {
  return [member](const std::string& value, Config* config) {
    config->*member = value == "true";
    return absl::OkStatus();
  };
}

Setter Append(std::vector<std::string> Config::*member) {
  return [member](const std::string& value, Config* config) {
    for (absl::string_view part : absl::StrSplit(value, ',', absl::SkipEmpty()))
      (config->*member).emplace_back(part);
    return absl::OkStatus();
  };
}

absl::Status SetLabels(const std::string& value, Config* config) {
  for (absl::string_view part : absl::StrSplit(value, ',', absl::SkipEmpty())) {
    const std::pair<std::string, std::string> label = absl::StrSplit(part, absl::MaxSplits('=', 1));
    if (!absl::StrContains(part, "="))
      return absl::InvalidArgumentError(absl::StrCat("label \"", part, "\" is not key=value"));
    config->labels[label.first] = label.second;
  }
  return absl::OkStatus();
}

absl::Status SetParallelism(const std::string& value, Config* config) {
  if (value == "num-cpu") {
    config->max_parallelism = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
    return absl::OkStatus();
  }
  if (!absl::SimpleAtoi(value, &config->max_parallelism) || config->max_parallelism < 0)
    return absl::InvalidArgumentError(
        absl::StrCat("\"", value, "\" is neither a number nor num-cpu"));
  return absl::OkStatus();
}

absl::Status SetGc(const std::string& value, Config* config) {
  config->gc.enabled = value == "true";
  return absl::OkStatus();
}

// Megabytes, or an amount with its unit.
absl::Status SetKeepStorage(const std::string& value, Config* config) {
  int64_t megabytes = 0;
  const std::string text =
      absl::SimpleAtoi(value, &megabytes) ? absl::StrCat(megabytes, "MB") : value;
  KILN_ASSIGN_OR_RETURN(config->gc.reserved, ParseDiskSpace(text));
  return absl::OkStatus();
}

absl::Status SetMode(const std::string& value, Config* config) {
  char* end = nullptr;
  const unsigned long mode = strtoul(value.c_str(), &end, 8);
  if (value.empty() || *end != '\0' || mode > 0777)
    return absl::InvalidArgumentError(absl::StrCat("\"", value, "\" is not an octal mode"));
  config->socket_mode = static_cast<uint32_t>(mode);
  return absl::OkStatus();
}

absl::Status SetOciWorker(const std::string& value, Config* config) {
  if (value != "auto" && value != "true")
    config->warnings.push_back(
        absl::StrCat("--oci-worker=", value, " has no effect: it is the only worker"));
  return absl::OkStatus();
}

const std::vector<Flag>& Flags() {
  static const auto* const flags = new std::vector<Flag>{
      {"help", Kind::kBool, "show this text", Flagged(&Config::help)},
      {"h", Kind::kBool, "", Flagged(&Config::help)},
      {"version", Kind::kBool, "print the version", Flagged(&Config::version)},
      {"v", Kind::kBool, "", Flagged(&Config::version)},
      {"config", Kind::kValue, "configuration file (buildkitd.toml)", nullptr},
      {"debug", Kind::kBool, "log debug messages", Flagged(&Config::debug)},
      {"trace", Kind::kBool, "the same as --debug", Flagged(&Config::debug)},
      {"root", Kind::kValue, "folder that keeps everything", Text(&Config::root)},
      {"addr", Kind::kValue, "listening address (unix://, tcp://, fd://); may be repeated",
       Append(&Config::addresses)},
      {"group", Kind::kValue, "group of unix sockets, name or number", Text(&Config::group)},
      {"socket-mode", Kind::kValue, "mode of unix sockets, octal (default 0660)", SetMode},
      {"log-format", Kind::kValue, "text or json", Text(&Config::log_format)},
      {"log-level", Kind::kValue, "trace, debug, info, warn, error", Text(&Config::log_level)},
      {"tlscert", Kind::kValue, "server certificate (PEM)", Text(&Config::tls_cert)},
      {"tlskey", Kind::kValue, "its key", Text(&Config::tls_key)},
      {"tlscacert", Kind::kValue, "authority that client certificates must come from",
       Text(&Config::tls_ca)},
      {"allow-insecure-entitlement", Kind::kValue,
       "what builds may ask for: network.host, security.insecure", Append(&Config::entitlements)},
      {"cdi-disabled", Kind::kBool, "steps get no devices", Flagged(&Config::cdi_disabled)},
      {"cdi-spec-dir", Kind::kValue, "folder of Container Device Interface files",
       Append(&Config::cdi_spec_dirs)},
      {"oci-worker", Kind::kValue, "accepted: there is only this worker", SetOciWorker},
      {"oci-worker-labels", Kind::kValue, "labels of the worker, key=value", SetLabels},
      {"oci-worker-snapshotter", Kind::kValue, "auto, overlayfs or native",
       Text(&Config::snapshotter)},
      {"oci-worker-net", Kind::kValue, "network of steps: auto, cni, host, bridge",
       Text(&Config::network_mode)},
      {"oci-cni-config-path", Kind::kValue, "CNI configuration", Text(&Config::cni_config_path)},
      {"oci-cni-binary-dir", Kind::kValue, "folder of CNI plugins", Text(&Config::cni_binary_dir)},
      {"oci-worker-binary", Kind::kValue, "OCI runtime (default: crun, else runc)",
       Text(&Config::runtime_binary)},
      {"oci-max-parallelism", Kind::kValue, "steps that run at a time, or num-cpu", SetParallelism},
      {"oci-worker-gc", Kind::kBool, "remove old cache (default true)", SetGc},
      {"oci-worker-gc-keepstorage", Kind::kValue, "cache kept in any case, MB", SetKeepStorage},
      // Accepted, named in a warning.
      {"rootless", Kind::kBool, "", nullptr},
      {"debugaddr", Kind::kValue, "", nullptr},
      {"otel-socket-path", Kind::kValue, "", nullptr},
      {"proxy-network", Kind::kBool, "", nullptr},
      {"save-cache-debug", Kind::kBool, "", nullptr},
      {"oci-worker-proxy-snapshotter-path", Kind::kValue, "", nullptr},
      {"oci-worker-platform", Kind::kValue, "", nullptr},
      {"oci-cni-pool-size", Kind::kValue, "", nullptr},
      {"oci-worker-apparmor-profile", Kind::kValue, "", nullptr},
      {"oci-worker-selinux", Kind::kBool, "", nullptr},
      {"oci-worker-rootless", Kind::kBool, "", nullptr},
      {"oci-worker-no-process-sandbox", Kind::kBool, "", nullptr},
      {"containerd-worker", Kind::kValue, "", nullptr},
      {"containerd-worker-addr", Kind::kValue, "", nullptr},
      {"containerd-worker-labels", Kind::kValue, "", nullptr},
      {"containerd-worker-platform", Kind::kValue, "", nullptr},
      {"containerd-worker-namespace", Kind::kValue, "", nullptr},
      {"containerd-worker-runtime", Kind::kValue, "", nullptr},
      {"containerd-worker-net", Kind::kValue, "", nullptr},
      {"containerd-cni-config-path", Kind::kValue, "", nullptr},
      {"containerd-cni-binary-dir", Kind::kValue, "", nullptr},
      {"containerd-cni-pool-size", Kind::kValue, "", nullptr},
      {"containerd-worker-snapshotter", Kind::kValue, "", nullptr},
      {"containerd-worker-apparmor-profile", Kind::kValue, "", nullptr},
      {"containerd-worker-selinux", Kind::kBool, "", nullptr},
      {"containerd-worker-rootless", Kind::kBool, "", nullptr},
      {"containerd-max-parallelism", Kind::kValue, "", nullptr},
      {"containerd-worker-gc", Kind::kBool, "", nullptr},
      {"containerd-worker-gc-keepstorage", Kind::kValue, "", nullptr},
  };
  return *flags;
}

const Flag* FindFlag(absl::string_view name) {
  for (const Flag& flag : Flags())
    if (flag.name == name) return &flag;
  return nullptr;
}

struct Given {
  const Flag* flag;
  std::string value;
};

absl::StatusOr<std::vector<Given>> Split(absl::Span<const std::string> args) {
  std::vector<Given> given;
  for (size_t i = 0; i < args.size(); ++i) {
    absl::string_view text = args[i];
    if (!absl::ConsumePrefix(&text, "-"))
      return absl::InvalidArgumentError(absl::StrCat("unexpected argument \"", args[i], "\""));
    absl::ConsumePrefix(&text, "-");
    const size_t equals = text.find('=');
    const Flag* flag = FindFlag(text.substr(0, equals));
    if (flag == nullptr)
      return absl::InvalidArgumentError(absl::StrCat("flag provided but not defined: ", args[i]));
    if (equals != absl::string_view::npos) {
      given.push_back({flag, std::string(text.substr(equals + 1))});
    } else if (flag->kind == Kind::kBool) {
      given.push_back({flag, "true"});
    } else if (++i < args.size()) {
      given.push_back({flag, args[i]});
    } else {
      return absl::InvalidArgumentError(absl::StrCat("flag needs an argument: --", flag->name));
    }
    if (flag->kind == Kind::kBool) {
      bool value = false;
      if (!absl::SimpleAtob(given.back().value, &value))
        return absl::InvalidArgumentError(
            absl::StrCat("invalid boolean value \"", given.back().value, "\" for --", flag->name));
      given.back().value = value ? "true" : "false";
    }
  }
  return given;
}

// The file that --config names, or the default one if it is there.
absl::Status ApplyFile(const std::vector<Given>& given, Config* config) {
  std::string path;
  for (const Given& item : given)
    if (std::string("config") == item.flag->name) path = item.value;
  const bool explicit_path = !path.empty();
  if (!explicit_path) {
    const char* home = getenv("HOME");
    if (geteuid() == 0) {
      path = "/etc/buildkit/buildkitd.toml";
    } else if (home != nullptr) {
      path = absl::StrCat(home, "/.config/buildkit/buildkitd.toml");
    } else {
      return absl::OkStatus();
    }
  }
  const absl::StatusOr<std::string> text = ReadFileToString(path);
  if (!text.ok()) {
    if (!explicit_path && absl::IsNotFound(text.status())) return absl::OkStatus();
    return Annotate(text.status(), "config file");
  }
  return ApplyToml(*text, path, config);
}

absl::Status Check(const Config& config) {
  const auto one_of = [](absl::string_view what, const std::string& value,
                         std::initializer_list<absl::string_view> allowed) {
    for (absl::string_view item : allowed)
      if (value == item) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("unknown ", what, " \"", value, "\""));
  };
  KILN_RETURN_IF_ERROR(one_of("log format", config.log_format, {"text", "json"}));
  KILN_RETURN_IF_ERROR(one_of("log level", config.log_level,
                              {"", "trace", "debug", "info", "warn", "warning", "error"}));
  KILN_RETURN_IF_ERROR(
      one_of("snapshotter", config.snapshotter, {"", "auto", "overlayfs", "native"}));
  for (const std::string& entitlement : config.entitlements)
    KILN_RETURN_IF_ERROR(
        one_of("entitlement", entitlement, {"network.host", "security.insecure", "device"}));
  if (config.tls_cert.empty() != config.tls_key.empty())
    return absl::InvalidArgumentError("TLS needs both a certificate and its key");
  if (config.tls_cert.empty() && !config.tls_ca.empty())
    return absl::InvalidArgumentError("TLS with a client authority needs a certificate and a key");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Config> LoadConfig(absl::Span<const std::string> args) {
  KILN_ASSIGN_OR_RETURN(const std::vector<Given> given, Split(args));
  Config config;
  KILN_RETURN_IF_ERROR(ApplyFile(given, &config));
  bool addresses_given = false, entitlements_given = false, cdi_dirs_given = false;
  for (const auto& [flag, value] : given) {
    const absl::string_view name = flag->name;
    // A list on the command line replaces the file's, it does not add to it.
    if (name == "addr" && !std::exchange(addresses_given, true)) config.addresses.clear();
    if (name == "allow-insecure-entitlement" && !std::exchange(entitlements_given, true))
      config.entitlements.clear();
    if (name == "cdi-spec-dir" && !std::exchange(cdi_dirs_given, true))
      config.cdi_spec_dirs.clear();
    if (flag->set != nullptr) {
      KILN_RETURN_IF_ERROR(Annotate(flag->set(value, &config), absl::StrCat("--", name)));
    } else if (name != "config") {
      config.warnings.push_back(absl::StrCat("--", name, " has no effect in this daemon"));
    }
  }
  KILN_RETURN_IF_ERROR(Check(config));
  return config;
}

std::string HelpText() {
  std::string text =
      "kilnd - build daemon\n\nusage: kilnd [flags]\n\n"
      "Takes buildkitd's flags and reads its buildkitd.toml.\n\nflags:\n";
  for (const Flag& flag : Flags()) {
    if (*flag.help == '\0') continue;
    const std::string name =
        absl::StrCat("  --", flag.name, flag.kind == Kind::kValue ? " VALUE" : "");
    absl::StrAppend(&text, name, std::string(name.size() < 36 ? 36 - name.size() : 1, ' '),
                    flag.help, "\n");
  }
  return text;
}

}  // namespace kiln::daemon
