#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "daemon/device/device_registry.h"

namespace kiln::daemon {

// Which devices a build was granted by its entitlements (llb.md 1.6.3). A value.
class DeviceGrants {
 public:
  // Of entitlements, those about devices: "device" grants every one; "device=NAME" one, in all the
  // forms of a DeviceRequest; "device=NAME,alias=OTHER" gives NAME to steps that ask for OTHER.
  // kInvalidArgument for fields that are none of these.
  static absl::StatusOr<DeviceGrants> Parse(absl::Span<const std::string> entitlements);

  // The qualified names that Grant can come to without every device granted: what was granted, and
  // what needs no grant. Blocks as the registry does.
  absl::StatusOr<std::vector<std::string>> Names(const DeviceRegistry& registry) const;

  // The devices of a step that asks for `requests`: qualified names, or as they are where every
  // device is granted. kInvalidArgument: `device X is requested by the build but not allowed`, and
  // the registry's errors. Blocks as the registry does.
  absl::StatusOr<std::vector<DeviceRequest>> Grant(absl::Span<const DeviceRequest> requests,
                                                   const DeviceRegistry& registry) const;

 private:
  bool all_ = false;
  std::vector<DeviceRequest> granted_;
  std::map<std::string, std::string> aliases_;  // what steps ask for, what they get
};

}  // namespace kiln::daemon
