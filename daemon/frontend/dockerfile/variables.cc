#include "daemon/frontend/dockerfile/variables.h"

#include <algorithm>
#include <utility>

#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {

std::optional<absl::string_view> EnvLookup::operator()(absl::string_view name) const {
  for (const auto& [key, value] : *env_) {
    if (key == name) return value;
  }
  return std::nullopt;
}

void EraseVariable(absl::string_view key, EnvList* env) {
  env->erase(
      std::remove_if(env->begin(), env->end(), [&](const auto& item) { return item.first == key; }),
      env->end());
}

void SetVariable(absl::string_view key, absl::string_view value, EnvList* env) {
  std::string kept(value);  // may be that of the variable itself
  EraseVariable(key, env);
  env->emplace_back(std::string(key), std::move(kept));
}

std::vector<std::string> KeysOf(const EnvList& env) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : env) keys.push_back(key);
  return keys;
}

EnvList PredefinedArgs(const Platform& build, const Platform& target_platform,
                       const std::string& target,
                       const std::map<std::string, std::string>& build_args) {
  Platform without_version = build;
  without_version.os_version.clear();
  without_version.os_features.clear();
  EnvList env = {{"BUILDPLATFORM", FormatPlatform(without_version)},
                 {"BUILDOS", build.os},
                 {"BUILDOSVERSION", build.os_version},
                 {"BUILDARCH", build.architecture},
                 {"BUILDVARIANT", build.variant},
                 {"TARGETPLATFORM", FormatPlatform(target_platform)},
                 {"TARGETOS", target_platform.os},
                 {"TARGETOSVERSION", target_platform.os_version},
                 {"TARGETARCH", target_platform.architecture},
                 {"TARGETVARIANT", target_platform.variant},
                 {"TARGETSTAGE", target.empty() ? "default" : target}};
  for (auto& [key, value] : env) {
    if (const auto given = build_args.find(key); given != build_args.end()) value = given->second;
  }
  return env;
}

absl::StatusOr<GlobalScope> EvaluateGlobalArgs(
    const Document& document, EnvList predefined,
    const std::map<std::string, std::string>& build_args) {
  GlobalScope scope;
  scope.env = std::move(predefined);
  ExpandOptions options;
  options.escape = document.escape;
  for (const Document::GlobalArg& global : document.global_args) {
    for (const ArgDefinition& arg : global.arg.args) {
      ArgUse use;
      use.definition = arg;
      use.lines = global.text.lines;
      std::optional<std::string> value;
      if (const auto given = build_args.find(arg.key); given != build_args.end()) {
        value = given->second;
      } else if (arg.value) {
        absl::StatusOr<Expansion> expansion =
            ExpandTraced(*arg.value, options, EnvLookup(scope.env));
        if (!expansion.ok()) return WithLocation(expansion.status(), global.text.lines);
        value = std::move(expansion->text);
        use.needs = std::move(expansion->set);
        // X=$X stands for what the former X needed.
        if (use.needs.erase(arg.key) > 0) {
          if (const auto former = scope.args.find(arg.key); former != scope.args.end()) {
            use.needs.insert(former->second.needs.begin(), former->second.needs.end());
          }
        }
      }
      if (value) {
        use.value = *value;
        SetVariable(arg.key, *value, &scope.env);
      }
      scope.args[arg.key] = std::move(use);
    }
  }
  return scope;
}

}  // namespace kiln::daemon::dockerfile
