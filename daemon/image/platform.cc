#include "daemon/image/platform.h"

#include <sys/utsname.h>

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "daemon/source/go_values.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr std::array kSystems = {"aix",     "android", "darwin",  "dragonfly", "freebsd", "hurd",
                                 "illumos", "ios",     "js",      "linux",     "nacl",    "netbsd",
                                 "openbsd", "plan9",   "solaris", "windows",   "zos"};
constexpr std::array kArchitectures = {
    "386",     "amd64", "amd64p32", "arm",    "armbe",    "arm64",     "arm64be", "ppc64",
    "ppc64le", "mips",  "mipsle",   "mips64", "mips64le", "mips64p32", "loong64", "mips64p32le",
    "ppc",     "riscv", "riscv64",  "s390",   "s390x",    "sparc",     "sparc64", "wasm"};

template <size_t N>
bool IsOneOf(absl::string_view name, const std::array<const char*, N>& names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string NormalizeOs(absl::string_view os) {
  const std::string lower = absl::AsciiStrToLower(os);
  return lower == "macos" ? "darwin" : lower;
}

void NormalizeArchitecture(std::string* arch, std::string* variant) {
  absl::AsciiStrToLower(arch);
  absl::AsciiStrToLower(variant);
  if (*arch == "i386") {
    *arch = "386";
    variant->clear();
  } else if (*arch == "x86_64" || *arch == "x86-64" || *arch == "amd64") {
    *arch = "amd64";
    if (*variant == "v1") variant->clear();
  } else if (*arch == "aarch64" || *arch == "arm64") {
    *arch = "arm64";
    if (*variant == "8" || *variant == "v8" || *variant == "v8.0") variant->clear();
    if (*variant == "9" || *variant == "9.0" || *variant == "v9.0") *variant = "v9";
  } else if (*arch == "armhf") {
    *arch = "arm";
    *variant = "v7";
  } else if (*arch == "armel") {
    *arch = "arm";
    *variant = "v6";
  } else if (*arch == "arm") {
    if (variant->empty() || *variant == "7") *variant = "v7";
    if (*variant == "5" || *variant == "6" || *variant == "8") variant->insert(0, "v");
  }
}

bool AllOf(absl::string_view text, absl::string_view extra) {
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return absl::ascii_isalnum(c) || extra.find(c) != absl::string_view::npos;
  });
}

absl::Status Invalid(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("invalid platform \"", text, "\": ", why));
}

// "linux", "windows(10.0.17763+win32k)".
absl::Status ParseOs(absl::string_view part, absl::string_view whole, Platform* platform) {
  const size_t open = part.find('(');
  const absl::string_view name = part.substr(0, open);
  if (name.empty() || !AllOf(name, "_-"))
    return Invalid(whole, absl::StrCat("\"", part, "\" is no operating system"));
  platform->os = NormalizeOs(name);
  if (open == absl::string_view::npos) return absl::OkStatus();
  absl::string_view options = part.substr(open + 1);
  if (!absl::ConsumeSuffix(&options, ")") || !AllOf(options, "_.%+-"))
    return Invalid(whole, absl::StrCat("\"", part, "\" is no operating system with a version"));
  const std::vector<absl::string_view> items = absl::StrSplit(options, '+');
  platform->os_version = PercentDecode(items[0]);
  for (size_t i = 1; i < items.size(); ++i) {
    if (items[i].empty()) return Invalid(whole, "empty os feature");
    platform->os_features.push_back(PercentDecode(items[i]));
  }
  return absl::OkStatus();
}

std::string EncodeOsOption(absl::string_view value) {
  return absl::StrReplaceAll(
      value, {{"%", "%25"}, {"+", "%2B"}, {"(", "%28"}, {")", "%29"}, {"/", "%2F"}});
}

// The number in "v7"; 0 when it is none.
int VariantNumber(absl::string_view variant) {
  absl::ConsumePrefix(&variant, "v");
  int number = 0;
  return absl::SimpleAtoi(variant, &number) ? number : 0;
}

Platform Like(const Platform& platform, absl::string_view arch, std::string variant) {
  Platform out = platform;
  out.architecture = std::string(arch);
  out.variant = std::move(variant);
  return out;
}

void AddArms(const Platform& like, int version, std::vector<Platform>* out) {
  for (; version >= 5; --version) out->push_back(Like(like, "arm", absl::StrCat("v", version)));
}

// What runs on a 64-bit arm: v9.n is v8.(n+5) with more. False for a variant that is not known.
bool AddArm64(const Platform& wanted, std::vector<Platform>* out) {
  absl::string_view version = wanted.variant.empty() ? "v8" : absl::string_view(wanted.variant);
  int minor = 0;
  if (!absl::ConsumePrefix(&version, "v") || version.empty()) return false;
  const int major = version[0] - '0';
  version.remove_prefix(1);
  if (!version.empty() && (!absl::ConsumePrefix(&version, ".") ||
                           !absl::SimpleAtoi(version, &minor) || minor < 0 || minor > 9))
    return false;
  if (major != 8 && (major != 9 || minor > 7)) return false;
  const auto add = [&](int level, int from) {
    for (; from >= 0; --from)
      out->push_back(
          Like(wanted, "arm64",
               from > 0 ? absl::StrCat("v", level, ".", from) : absl::StrCat("v", level)));
  };
  add(major, minor);
  if (major == 9) add(8, std::min(minor + 5, 9));
  return true;
}

// "10.0.17763.1" runs where another build of 10.0.17763 does.
bool SameWindowsBuild(absl::string_view wanted, absl::string_view offered) {
  if (wanted.empty() || offered.empty()) return true;
  const std::vector<absl::string_view> a = absl::StrSplit(wanted, absl::MaxSplits('.', 3));
  const std::vector<absl::string_view> b = absl::StrSplit(offered, absl::MaxSplits('.', 3));
  for (size_t i = 0; i < 3 && i < a.size(); ++i)
    if (i >= b.size() || a[i] != b[i]) return false;
  return true;
}

}  // namespace

absl::StatusOr<Platform> ParsePlatform(absl::string_view text) {
  if (absl::StrContains(text, "*")) return Invalid(text, "wildcards are not supported");
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '/');
  Platform platform;
  KILN_RETURN_IF_ERROR(ParseOs(parts[0], text, &platform));
  if (parts.size() > 3) return Invalid(text, "more than os/arch/variant");
  for (size_t i = 1; i < parts.size(); ++i)
    if (parts[i].empty() || !AllOf(parts[i], "_.-"))
      return Invalid(text, absl::StrCat("\"", parts[i], "\" is no name"));
  if (parts.size() == 1) {
    if (IsOneOf(platform.os, kSystems)) {
      platform.architecture = HostPlatform().architecture;
      if (HostPlatform().variant != "v7") platform.variant = HostPlatform().variant;
      return platform;
    }
    platform.architecture = std::string(parts[0]);
    platform.os = HostPlatform().os;
  } else {
    platform.architecture = std::string(parts[1]);
  }
  if (parts.size() == 3) platform.variant = std::string(parts[2]);
  NormalizeArchitecture(&platform.architecture, &platform.variant);
  if (parts.size() == 1 && !IsOneOf(platform.architecture, kArchitectures))
    return Invalid(text, "unknown operating system or architecture");
  if (parts.size() < 3 && platform.architecture == "arm" && platform.variant == "v7")
    platform.variant.clear();
  if (parts.size() == 3 && platform.architecture == "arm64" && platform.variant.empty())
    platform.variant = "v8";
  return platform;
}

std::string FormatPlatform(const Platform& platform) {
  if (platform.os.empty()) return "unknown";
  std::string out = platform.os;
  std::vector<std::string> features;
  for (const std::string& feature : platform.os_features)
    if (!feature.empty()) features.push_back(EncodeOsOption(feature));
  std::sort(features.begin(), features.end());
  features.erase(std::unique(features.begin(), features.end()), features.end());
  if (!platform.os_version.empty() || !features.empty())
    absl::StrAppend(&out, "(", EncodeOsOption(platform.os_version), features.empty() ? "" : "+",
                    absl::StrJoin(features, "+"), ")");
  for (const std::string& part : {platform.architecture, platform.variant})
    if (!part.empty()) absl::StrAppend(&out, "/", part);
  return out;
}

Platform NormalizePlatform(Platform platform) {
  platform.os = platform.os.empty() ? HostPlatform().os : NormalizeOs(platform.os);
  NormalizeArchitecture(&platform.architecture, &platform.variant);
  std::vector<std::string>& features = platform.os_features;
  std::sort(features.begin(), features.end());
  features.erase(std::unique(features.begin(), features.end()), features.end());
  return platform;
}

const Platform& HostPlatform() {
  static const Platform* const host = [] {
    auto* platform = new Platform;
    platform->os = "linux";
    utsname name = {};
    if (::uname(&name) == 0) platform->architecture = name.machine;
    // "armv7l", "armv6l": the kernel's name ends in the byte order.
    if (absl::StartsWith(platform->architecture, "armv")) {
      platform->variant = platform->architecture.substr(3, 2);
      platform->architecture = "arm";
    }
    NormalizeArchitecture(&platform->architecture, &platform->variant);
    return platform;
  }();
  return *host;
}

PlatformMatcher::PlatformMatcher(const Platform& wanted) {
  const Platform first = NormalizePlatform(wanted);
  if (first.architecture == "arm64" && AddArm64(first, &accepted_)) {
    AddArms(first, 8, &accepted_);
  } else {
    accepted_.push_back(first);
    if (first.architecture == "arm") AddArms(first, VariantNumber(first.variant) - 1, &accepted_);
    if (first.architecture == "amd64") {
      for (int version = VariantNumber(first.variant) - 1; version >= 1; --version)
        accepted_.push_back(Like(first, "amd64", absl::StrCat("v", version)));
      accepted_.push_back(Like(first, "386", ""));
    }
  }
  for (Platform& platform : accepted_)
    NormalizeArchitecture(&platform.architecture, &platform.variant);
}

std::optional<size_t> PlatformMatcher::Rank(const Platform& offered) const {
  if (offered.os.empty() || offered.architecture.empty()) return std::nullopt;
  Platform platform = NormalizePlatform(offered);
  std::vector<std::string>& features = platform.os_features;
  // Windows always offers it.
  if (platform.os == "windows")
    features.erase(std::remove(features.begin(), features.end(), "win32k"), features.end());
  for (size_t i = 0; i < accepted_.size(); ++i) {
    const Platform& accepted = accepted_[i];
    if (platform.os != accepted.os || platform.architecture != accepted.architecture ||
        platform.variant != accepted.variant)
      continue;
    if (platform.os == "windows" && !SameWindowsBuild(accepted.os_version, platform.os_version))
      continue;
    if (!std::includes(accepted.os_features.begin(), accepted.os_features.end(), features.begin(),
                       features.end()))
      continue;
    return i;
  }
  return std::nullopt;
}

}  // namespace kiln::daemon
