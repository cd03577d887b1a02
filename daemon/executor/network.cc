#include "daemon/executor/network.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "store/base/fd.h"
#include "store/base/process.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

class HostNetwork final : public NetworkProvider {
 public:
  const char* name() const override { return "host"; }
  absl::StatusOr<std::unique_ptr<StepNetwork>> Make(const std::string&, const std::string&,
                                                    const CancelToken&) override {
    return nullptr;
  }
};

// A network namespace kept alive by a bind mount at `path`.
absl::Status MakeNamespace(const std::string& path) {
  KILN_RETURN_IF_ERROR(OpenFile(path, O_WRONLY | O_CREAT | O_EXCL, 0600).status());
  absl::Status status;
  // On a thread of its own, which ends at once: no other code of ours may run in the namespace.
  std::thread([&] {
    if (::unshare(CLONE_NEWNET) != 0) {
      status = ErrnoStatus(errno, "make a network namespace");
      return;
    }
    const std::string own = absl::StrCat("/proc/self/task/", ::syscall(SYS_gettid), "/ns/net");
    if (::mount(own.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0)
      status = ErrnoStatus(errno, absl::StrCat("bind a network namespace to ", path));
  }).join();
  if (!status.ok()) (void)::unlink(path.c_str());  // the error above is what matters
  return status;
}

void RemoveNamespace(const std::string& path) {
  if (::umount2(path.c_str(), MNT_DETACH) != 0 && errno != EINVAL)
    spdlog::warn("unmount {}: {}", path, std::strerror(errno));
  if (::unlink(path.c_str()) != 0 && errno != ENOENT)
    spdlog::warn("remove {}: {}", path, std::strerror(errno));
}

// Runs CNI plugins (CNI specification, "Execution Protocol") over a network configuration list.
class CniNetwork final : public NetworkProvider {
 public:
  CniNetwork(json list, std::string binary_dir, std::string state_dir)
      : list_(std::move(list)),
        binary_dir_(std::move(binary_dir)),
        state_dir_(std::move(state_dir)) {}

  const char* name() const override { return "cni"; }

  absl::StatusOr<std::unique_ptr<StepNetwork>> Make(const std::string& id,
                                                    const std::string& hostname,
                                                    const CancelToken& cancel) override {
    const std::string path = absl::StrCat(state_dir_, "/", id);
    KILN_RETURN_IF_ERROR(MakeNamespace(path));
    auto network = std::make_unique<Step>(this, id, path, hostname);
    KILN_ASSIGN_OR_RETURN(const json result, Annotate(Add(*network, cancel), "CNI setup error"));
    // Taking down needs it, also after a restart.
    const std::string file = ResultFile(id);
    KILN_ASSIGN_OR_RETURN(Fd out, OpenFile(file, O_WRONLY | O_CREAT | O_TRUNC, 0600));
    KILN_RETURN_IF_ERROR(Annotate(WriteAll(out.get(), result.dump()), file));
    return network;
  }

  // What a killed daemon left: DEL releases addresses and host interfaces.
  void CleanOld() {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(state_dir_, error))
      Step(this, entry.path().filename().string(), entry.path().string(), "");
  }

 private:
  class Step final : public StepNetwork {
   public:
    Step(CniNetwork* provider, std::string id, std::string path, std::string hostname)
        : provider_(provider),
          id_(std::move(id)),
          path_(std::move(path)),
          hostname_(std::move(hostname)) {}
    ~Step() override {
      provider_->Delete(*this);
      RemoveNamespace(path_);
    }
    const std::string& namespace_path() const override { return path_; }
    const std::string& id() const { return id_; }
    const std::string& hostname() const { return hostname_; }

   private:
    CniNetwork* const provider_;
    const std::string id_, path_, hostname_;
  };

  absl::StatusOr<json> RunPlugin(const char* command, const Step& step, const json& plugin,
                                 const json* previous, const char* interface,
                                 const CancelToken& cancel) {
    json config = plugin;
    config["name"] = list_["name"];
    config["cniVersion"] = list_.value("cniVersion", "0.3.1");
    if (previous != nullptr && !previous->is_null()) config["prevResult"] = *previous;
    if (!config.contains("type") || !config["type"].is_string())
      return absl::InvalidArgumentError("CNI configuration: a plugin has no type");
    const std::string type = config["type"];
    if (absl::StrContains(type, '/'))
      return absl::InvalidArgumentError(absl::StrCat("CNI configuration: invalid type ", type));

    KILN_ASSIGN_OR_RETURN(Pipe input, MakePipe());
    const std::string text = config.dump();
    // A configuration larger than the pipe would block before the plugin reads.
    ::fcntl(input.write.get(), F_SETPIPE_SZ, static_cast<int>(text.size() + 1));
    ::fcntl(input.write.get(), F_SETFL, O_NONBLOCK);
    KILN_RETURN_IF_ERROR(WriteAll(input.write.get(), text));
    input.write.Reset();

    ProcessOptions options;
    options.args = {absl::StrCat(binary_dir_, "/", type)};
    options.stdin_fd = input.read.get();
    std::vector<std::string> env = {
        absl::StrCat("CNI_COMMAND=", command),
        absl::StrCat("CNI_CONTAINERID=", step.id()),
        absl::StrCat("CNI_NETNS=", step.namespace_path()),
        absl::StrCat("CNI_IFNAME=", interface),
        absl::StrCat("CNI_PATH=", binary_dir_),
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
    if (!step.hostname().empty())
      env.push_back(absl::StrCat("CNI_ARGS=K8S_POD_NAME=", step.hostname(), ";IgnoreUnknown=1"));
    options.env = std::move(env);
    KILN_ASSIGN_OR_RETURN(const CommandOutput out, RunCommand(options, cancel));
    const json answer = json::parse(out.out, nullptr, /*allow_exceptions=*/false);
    if (!out.status.ok())
      return absl::UnknownError(
          absl::StrCat("plugin ", type, " ", command, ": ",
                       answer.is_object() ? answer.value("msg", out.status.ToString())
                                          : absl::StrCat(out.status.ToString(), ": ", out.err)));
    return answer.is_object() ? answer : json();
  }

  std::string ResultFile(const std::string& id) const {
    return absl::StrCat(state_dir_, "-results/", id);
  }

  absl::StatusOr<json> Add(const Step& step, const CancelToken& cancel) {
    KILN_RETURN_IF_ERROR(
        RunPlugin("ADD", step, {{"type", "loopback"}}, nullptr, "lo", cancel).status());
    json result;
    for (const json& plugin : list_["plugins"]) {
      KILN_ASSIGN_OR_RETURN(result, RunPlugin("ADD", step, plugin, &result, "eth0", cancel));
    }
    return result;
  }

  // In reverse order, all of them, whatever fails (CNI specification, "Deleting").
  void Delete(const Step& step) {
    const json& plugins = list_["plugins"];
    const std::string file = ResultFile(step.id());
    const json result =
        json::parse(ReadFileToString(file).value_or(""), nullptr, /*allow_exceptions=*/false);
    const json* const previous = result.is_object() ? &result : nullptr;
    for (auto it = plugins.rbegin(); it != plugins.rend(); ++it) {
      absl::StatusOr<json> done = RunPlugin("DEL", step, *it, previous, "eth0", CancelToken());
      if (!done.ok()) spdlog::warn("network of step {}: {}", step.id(), done.status().ToString());
    }
    (void)::unlink(file.c_str());  // absent when adding failed
  }

  const json list_;
  const std::string binary_dir_, state_dir_;
};

// A single plugin's configuration is a list of one.
absl::StatusOr<json> LoadConfig(const std::string& path) {
  KILN_ASSIGN_OR_RETURN(const std::string text,
                        Annotate(ReadFileToString(path, 1 << 20), "failed to read cni config"));
  json config = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object() || !config.contains("name"))
    return absl::InvalidArgumentError(absl::StrCat(path, ": no CNI network configuration"));
  if (!config.contains("plugins"))
    config = {{"name", config["name"]},
              {"cniVersion", config.value("cniVersion", "0.3.1")},
              {"plugins", json::array({config})}};
  if (!config["plugins"].is_array() || config["plugins"].empty())
    return absl::InvalidArgumentError(absl::StrCat(path, ": no plugins"));
  return config;
}

json BridgeConfig(const NetworkOptions& options, const std::string& state_dir) {
  return {
      {"name", "buildkit"},
      {"cniVersion", "0.4.0"},
      {"plugins",
       json::array(
           {{{"type", "bridge"},
             {"bridge", options.bridge_name},
             {"isDefaultGateway", true},
             {"ipMasq", true},
             {"hairpinMode", true},
             {"ipam",
              {{"type", "host-local"},
               {"dataDir", absl::StrCat(state_dir, "-addresses")},
               {"ranges", json::array({json::array({json{{"subnet", options.bridge_subnet}}})})}}}},
            {{"type", "firewall"}}})}};
}

}  // namespace

absl::StatusOr<std::unique_ptr<NetworkProvider>> MakeNetworkProvider(const NetworkOptions& options,
                                                                     const std::string& state_dir) {
  std::string mode = options.mode.empty() ? "auto" : options.mode;
  if (mode == "auto") mode = ::access(options.cni_config_path.c_str(), F_OK) == 0 ? "cni" : "host";
  if (mode == "host") return std::make_unique<HostNetwork>();
  if (mode != "cni" && mode != "bridge")
    return absl::InvalidArgumentError(absl::StrCat("invalid network mode: ", mode));
  std::string binaries = options.cni_binary_dir;
  // Debian's package keeps the plugins elsewhere.
  if (::access(binaries.c_str(), F_OK) != 0 && ::access("/usr/lib/cni", F_OK) == 0)
    binaries = "/usr/lib/cni";
  if (::access(binaries.c_str(), F_OK) != 0)
    return absl::NotFoundError(absl::StrCat("failed to read cni binary dir ", binaries));
  json config;
  if (mode == "cni") {
    KILN_ASSIGN_OR_RETURN(config, LoadConfig(options.cni_config_path));
  } else {
    config = BridgeConfig(options, state_dir);
  }
  std::error_code error;
  fs::create_directories(state_dir, error);
  if (!error) fs::create_directories(absl::StrCat(state_dir, "-results"), error);
  if (error) return absl::UnknownError(absl::StrCat("make ", state_dir, ": ", error.message()));
  auto provider = std::make_unique<CniNetwork>(std::move(config), binaries, state_dir);
  provider->CleanOld();
  return provider;
}

}  // namespace kiln::daemon
