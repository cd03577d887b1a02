#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::daemon {

// What an image runs on (OCI image-spec, platform). A plain value; "" is "not given".
struct Platform {
  std::string os, architecture, variant, os_version;
  std::vector<std::string> os_features;

  friend bool operator==(const Platform& a, const Platform& b) {
    return a.os == b.os && a.architecture == b.architecture && a.variant == b.variant &&
           a.os_version == b.os_version && a.os_features == b.os_features;
  }
  friend bool operator!=(const Platform& a, const Platform& b) { return !(a == b); }
};

// "os[(version[+feature…])]/arch[/variant]", or one of os and arch alone: the rest is the host's.
// Names are normalized, except that a plain "linux/arm" has no variant and an explicit
// "linux/arm64/v8" keeps it. kInvalidArgument names the text and what is wrong with it.
absl::StatusOr<Platform> ParsePlatform(absl::string_view text);

// The inverse: what platform ids of a result are made of. "unknown" without an OS.
std::string FormatPlatform(const Platform& platform);

// One spelling for each platform: "x86_64" is amd64, "arm" is arm/v7, "arm64/v8" is arm64; an OS
// that is not given is the host's; features sorted, each once.
Platform NormalizePlatform(Platform platform);

// Of this machine, normalized.
const Platform& HostPlatform();

// Judges what is offered (by an index, an image config) for one wanted platform: amd64 runs 386,
// arm64 runs the 32-bit arms, newer variants run older ones. Immutable.
class PlatformMatcher {
 public:
  explicit PlatformMatcher(const Platform& wanted);

  // 0 is what was asked for, greater is worse; nullopt: does not run there.
  std::optional<size_t> Rank(const Platform& offered) const;
  bool Matches(const Platform& offered) const { return Rank(offered).has_value(); }

 private:
  std::vector<Platform> accepted_;  // normalized, best first
};

}  // namespace kiln::daemon
