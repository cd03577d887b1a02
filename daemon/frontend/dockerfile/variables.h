#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/frontend/dockerfile/stage_state.h"
#include "daemon/frontend/dockerfile/step_name.h"
#include "daemon/frontend/dockerfile/syntax/document.h"
#include "daemon/frontend/dockerfile/syntax/expand.h"
#include "daemon/image/platform.h"

namespace kiln::daemon::dockerfile {

// Looks variables up in a list; refers to it.
class EnvLookup {
 public:
  explicit EnvLookup(const EnvList& env) : env_(&env) {}
  std::optional<absl::string_view> operator()(absl::string_view name) const;

 private:
  const EnvList* env_;
};

// Sets a variable, as the last one.
void SetVariable(absl::string_view key, absl::string_view value, EnvList* env);
void EraseVariable(absl::string_view key, EnvList* env);
std::vector<std::string> KeysOf(const EnvList& env);

// BUILDPLATFORM, TARGETPLATFORM and the like (dockerfile.md 2.2), or what build args say instead.
// `target` is the stage that is built; "": an unnamed one.
EnvList PredefinedArgs(const Platform& build, const Platform& target_platform,
                       const std::string& target,
                       const std::map<std::string, std::string>& build_args);

// What FROM instructions see.
struct GlobalScope {
  EnvList env;
  std::map<std::string, ArgUse> args;  // those that the file declares
};

// Evaluates the ARGs before the first FROM, in order, on top of `predefined`. Errors have
// locations.
absl::StatusOr<GlobalScope> EvaluateGlobalArgs(
    const Document& document, EnvList predefined,
    const std::map<std::string, std::string>& build_args);

}  // namespace kiln::daemon::dockerfile
