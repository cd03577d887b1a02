#include "client/llb/constraints.h"

#include <sys/utsname.h>

#include <utility>

#include "absl/strings/ascii.h"

namespace kiln::client::llb {

Platform NormalizePlatform(Platform platform) {
  platform.os = absl::AsciiStrToLower(platform.os);
  if (platform.os == "macos") platform.os = "darwin";
  std::string& arch = platform.architecture;
  std::string& variant = platform.variant;
  arch = absl::AsciiStrToLower(arch);
  variant = absl::AsciiStrToLower(variant);
  if (arch == "x86_64" || arch == "x86-64") arch = "amd64";
  if (arch == "i386") arch = "386", variant.clear();
  if (arch == "amd64" && variant == "v1") variant.clear();
  if (arch == "aarch64") arch = "arm64";
  if (arch == "arm64" && (variant == "8" || variant == "v8" || variant == "v8.0")) {
    variant.clear();
  }
  if (arch == "arm64" && (variant == "9" || variant == "9.0" || variant == "v9.0")) variant = "v9";
  if (arch == "armhf") arch = "arm", variant = "v7";
  if (arch == "armel") arch = "arm", variant = "v6";
  if (arch == "arm" && (variant.empty() || variant == "7")) variant = "v7";
  if (arch == "arm" && (variant == "5" || variant == "6" || variant == "8")) {
    variant.insert(0, "v");
  }
  return platform;
}

Platform HostPlatform() {
  Platform platform;
  platform.os = "linux";
  struct utsname name = {};
  if (uname(&name) == 0) platform.architecture = name.machine;
  if (platform.architecture == "armv7l") platform.architecture = "arm", platform.variant = "v7";
  if (platform.architecture == "armv6l") platform.architecture = "arm", platform.variant = "v6";
  if (platform.architecture == "i686") platform.architecture = "386";
  return NormalizePlatform(std::move(platform));
}

void OpMetadata::Merge(const OpMetadata& other) {
  ignore_cache |= other.ignore_cache;
  for (const auto& [key, value] : other.description) description.Set(key, value);
  if (other.export_cache) export_cache = other.export_cache;
  if (other.progress_group) progress_group = other.progress_group;
  if (other.linux_resources) linux_resources = other.linux_resources;
  locations.insert(locations.end(), other.locations.begin(), other.locations.end());
}

bool OpMetadata::empty() const {
  return !ignore_cache && description.empty() && !export_cache && !progress_group &&
         !linux_resources && locations.empty();
}

Constraints Named(std::string name) {
  Constraints constraints;
  constraints.metadata.description.Set("llb.customname", std::move(name));
  return constraints;
}

Constraints IgnoreCache(Constraints base) {
  base.metadata.ignore_cache = true;
  return base;
}

}  // namespace kiln::client::llb
