#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/bake/definition.h"

namespace kiln::client::bake {

// What one run builds: targets with all they inherit, and those they build on.
struct Plan {
  std::map<std::string, Group> groups;
  std::map<std::string, Target> targets;
};

struct PlanOptions {
  std::vector<std::string> names;  // targets and groups; empty: "default"
  std::vector<std::string> sets;   // "PATTERN.KEY=VALUE", or "…+=VALUE" to add to a list
  std::function<std::optional<std::string>(const std::string& name)> lookup;  // the environment
};

// Picks the targets, applies what --set says, and follows the links between contexts
// ("target:NAME"). kInvalidArgument for a name that is not defined, a wrong setting, a circle.
absl::StatusOr<Plan> MakePlan(const Definition& definition, const PlanOptions& options);

// The plan as JSON, indented, as `bake --print` shows it.
std::string PlanJson(const Plan& plan);

// The name of the target that a context refers to; "" if it does not.
std::string LinkedTarget(const std::string& context);
// True for an address that the daemon reads: a repository or the web.
bool IsRemoteAddress(const std::string& context);

}  // namespace kiln::client::bake
