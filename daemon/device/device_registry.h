#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "daemon/device/cdi_spec.h"

namespace kiln::daemon {

// A device that the machine offers.
struct Device {
  std::string name;         // qualified: "vendor.com/class=0"
  bool auto_allow = false;  // builds may use it without being granted it
  std::map<std::string, std::string> annotations;
};

// What a build asks for: "vendor.com/class=0", "vendor.com/class" (the first of that kind),
// "vendor.com/class=*" (all of that kind), or the value of the annotation
// org.mobyproject.buildkit.device.class.
struct DeviceRequest {
  std::string name;
  bool optional = false;

  friend bool operator==(const DeviceRequest&, const DeviceRequest&) = default;
};

// The devices that files of the Container Device Interface describe. Thread-safe: it keeps nothing
// but its configuration, the files are read at each call, so a device that an administrator adds is
// there for the next build.
class DeviceRegistry {
 public:
  // Of two files with one device, that in the later folder counts; a device that two files of one
  // folder have is not offered. `auto_allowed`: names or kinds.
  DeviceRegistry(std::vector<std::string> folders, std::vector<std::string> auto_allowed);

  // By name. Files that cannot be read are left out, and named in the log. Blocks.
  std::vector<Device> List() const;

  // The names of the devices that the requests mean, in their order, each once. kInvalidArgument:
  // `required device "X" is not registered`. Blocks.
  absl::StatusOr<std::vector<std::string>> Find(absl::Span<const DeviceRequest> requests) const;

  // What a container that gets the devices (qualified names) is changed by: a file's own edits
  // once, before those of its first device. kNotFound for one that is gone. Blocks.
  absl::StatusOr<DeviceEdits> Edits(absl::Span<const std::string> names) const;

 private:
  struct Entry;
  std::map<std::string, Entry> Read() const;

  const std::vector<std::string> folders_;
  const std::set<std::string> auto_allowed_;
};

}  // namespace kiln::daemon
