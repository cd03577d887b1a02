#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "daemon/frontend/dockerfile/stage_state.h"
#include "daemon/image/platform.h"

namespace kiln::daemon::dockerfile {

using EnvList = std::vector<std::pair<std::string, std::string>>;

// What decides on the prefix of a step's name, beside its stage.
struct StepNaming {
  bool show_platform = false;        // several platforms are built
  std::optional<Platform> platform;  // of the step; nullopt: none
  const EnvList* env = nullptr;      // for TARGETPLATFORM and the like; null: nothing is set
  bool is_trigger = false;
};

// "[linux/amd64->arm64 build 2/5] ONBUILD text" (dockerfile.md 2.0); counts the stage's steps.
std::string StepName(StageState& stage, absl::string_view text, const StepNaming& naming);

// The text with its first word in upper case.
std::string UpperKeyword(std::string text);

}  // namespace kiln::daemon::dockerfile
