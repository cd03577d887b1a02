#include "daemon/frontend/dockerfile/step_name.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace kiln::daemon::dockerfile {
namespace {

// The platform that the variables of a stage say it builds for.
std::optional<Platform> TargetOf(const EnvList& env) {
  Platform platform;
  bool any = false;
  for (const auto& [key, value] : env) {
    if (key == "TARGETPLATFORM") {
      if (const auto parsed = ParsePlatform(value); parsed.ok()) return *parsed;
    }
    std::string* part = key == "TARGETOS"        ? &platform.os
                        : key == "TARGETARCH"    ? &platform.architecture
                        : key == "TARGETVARIANT" ? &platform.variant
                                                 : nullptr;
    if (part == nullptr) continue;
    *part = value;
    any = true;
  }
  if (!any) return std::nullopt;
  return platform;
}

// "->arm64" when a stage that runs on `base` builds for something else.
std::string CrossSuffix(const Platform& base, const EnvList* env) {
  std::optional<Platform> target;
  if (env != nullptr) target = TargetOf(*env);
  if (!target) return "";
  if (target->os.empty()) target->os = base.os;
  if (target->architecture.empty()) target->architecture = base.architecture;
  const Platform to = NormalizePlatform(*target);
  if (to.os != base.os) return absl::StrCat("->", FormatPlatform(to));
  if (to.architecture == base.architecture) return "";
  return absl::StrCat("->", to.architecture, to.variant.empty() ? "" : "/", to.variant);
}

}  // namespace

std::string StepName(StageState& stage, absl::string_view text, const StepNaming& naming) {
  if (stage.step_total == 0) return std::string(text);
  std::string name;
  name.reserve(stage.name.size() + text.size() + 32);  // most names, in one piece
  name.push_back('[');
  if (naming.show_platform && naming.platform) {
    absl::StrAppend(&name, FormatPlatform(*naming.platform),
                    CrossSuffix(*naming.platform, naming.env), " ");
  }
  if (!stage.name.empty()) absl::StrAppend(&name, stage.name, " ");
  const absl::AlphaNum total(stage.step_total), number(++stage.step_index);
  if (number.size() < total.size()) name.append(total.size() - number.size(), ' ');
  absl::StrAppend(&name, number, "/", total, "] ");
  absl::StrAppend(&name, naming.is_trigger ? "ONBUILD " : "", text);
  return name;
}

std::string UpperKeyword(std::string text) {
  for (char& c : text) {
    if (c == ' ') break;
    c = absl::ascii_toupper(static_cast<unsigned char>(c));
  }
  return text;
}

}  // namespace kiln::daemon::dockerfile
