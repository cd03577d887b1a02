#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/executor/executor.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// [worker.oci] networkMode, cniConfigPath, cniBinaryPath, bridgeName, bridgeSubnet.
struct NetworkOptions {
  // "auto" and "": cni when its configuration exists, else host. Also "cni", "host", "bridge".
  std::string mode = "auto";
  std::string cni_config_path = "/etc/buildkit/cni.json";
  std::string cni_binary_dir = "/opt/cni/bin";
  std::string bridge_name = "buildkit0";
  std::string bridge_subnet = "10.10.0.0/16";
};

// The network of one step; the destructor takes it down.
class StepNetwork {
 public:
  virtual ~StepNetwork() = default;
  // Namespace to join; empty: none of its own.
  virtual const std::string& namespace_path() const = 0;
};

// Gives steps with NetworkMode::kDefault their network. Thread-safe; blocking.
class NetworkProvider {
 public:
  virtual ~NetworkProvider() = default;
  // "cni" or "host".
  virtual const char* name() const = 0;
  // nullptr: the host's.
  virtual absl::StatusOr<std::unique_ptr<StepNetwork>> Make(const std::string& id,
                                                            const std::string& hostname,
                                                            const CancelToken& cancel) = 0;
};

// `state_dir` is the provider's own; namespaces that a killed daemon left there are taken down.
// kInvalidArgument for an unknown mode; kNotFound names a missing configuration or plugin folder.
absl::StatusOr<std::unique_ptr<NetworkProvider>> MakeNetworkProvider(const NetworkOptions& options,
                                                                     const std::string& state_dir);

}  // namespace kiln::daemon
