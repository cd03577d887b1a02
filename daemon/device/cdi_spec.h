#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/executor/executor.h"

namespace kiln::daemon {

// What devices change in a container, in order (containerEdits).
struct DeviceEdits {
  std::vector<std::string> env;
  std::vector<DeviceNode> nodes;
  std::vector<ContainerMount> mounts;
  std::vector<RuntimeHook> hooks;
  std::vector<uint32_t> groups;  // additional ones of the process

  void Append(const DeviceEdits& other);
};

// One file of the Container Device Interface (versions 0.3 to 1.1).
struct CdiSpec {
  struct Device {
    std::string name;                                // "0"
    std::map<std::string, std::string> annotations;  // the spec's under its own
    DeviceEdits edits;
  };
  std::string kind;   // "vendor.com/class"
  DeviceEdits edits;  // of every container that gets one of the devices
  std::vector<Device> devices;
};

// Reads YAML or JSON, which YAML includes. kInvalidArgument says what is wrong and where;
// kUnimplemented names an edit that steps cannot have: network devices, Intel RDT.
absl::StatusOr<CdiSpec> ParseCdiSpec(absl::string_view text);

// "vendor.com/class", as the interface spells it.
bool IsCdiKind(absl::string_view kind);

}  // namespace kiln::daemon
