#include "client/bake/plan.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "client/bake/overrides.h"
#include "store/base/status_macros.h"

namespace kiln::client::bake {
namespace {

constexpr int kMaxInheritance = 200;
constexpr char kLink[] = "target:";
constexpr char kWorkingDirectory[] = "cwd://";

template <typename T>
void AddOnce(const T& value, std::vector<T>* to) {
  if (std::find(to->begin(), to->end(), value) == to->end()) to->push_back(value);
}

// "a/../b/" → "b", as Go cleans a path.
std::string CleanPath(const std::string& path) {
  std::string clean = std::filesystem::path(path).lexically_normal().string();
  while (clean.size() > 1 && clean.back() == '/') clean.pop_back();
  return clean.empty() ? "." : clean;
}

class Planner {
 public:
  Planner(const Definition& definition, const PlanOptions& options, const Overrides& overrides)
      : options_(options), overrides_(overrides) {
    for (const Target& target : definition.targets) targets_[target.name] = &target;
    for (const Group& group : definition.groups) groups_.emplace(group.name, &group);
  }

  absl::StatusOr<Plan> Make() {
    std::vector<std::string> names = options_.names;
    if (names.empty()) names.push_back("default");
    // Service names of compose files may hold dots; names of targets may not.
    for (std::string& name : names) name = absl::StrReplaceAll(name, {{".", "_"}});
    for (const std::string& name : names) {
      std::vector<std::string> targets;
      std::set<std::string> visited;
      Members(name, &visited, &targets);
      for (const std::string& target : targets) {
        KILN_ASSIGN_OR_RETURN(plan_.targets[target], Resolve(target));
      }
    }
    for (const std::string& name : names) {
      if (name == "default" && plan_.groups.count(name) != 0) continue;
      Group& group = plan_.groups["default"];
      group.name = "default";
      AddOnce(name, &group.targets);
    }
    if (const auto group = plan_.groups.find("default"); group != plan_.groups.end())
      std::sort(group->second.targets.begin(), group->second.targets.end());
    std::vector<std::string> built;
    for (const auto& [name, target] : plan_.targets) built.push_back(name);
    for (const std::string& name : built) {
      std::vector<std::string> path;
      KILN_RETURN_IF_ERROR(Link(name, &path));
    }
    for (auto& [name, target] : plan_.targets) KILN_RETURN_IF_ERROR(Complete(&target));
    return std::move(plan_);
  }

 private:
  // The targets of a group, nested ones too, each once; groups that are seen go into the plan.
  void Members(const std::string& name, std::set<std::string>* visited,
               std::vector<std::string>* targets) {
    const auto group = groups_.find(name);
    if (group == groups_.end()) {
      AddOnce(name, targets);
      return;
    }
    if (!visited->insert(name).second) return;
    Group& kept = plan_.groups[name];
    kept.name = name;
    kept.description = group->second->description;
    for (const std::string& member : group->second->targets) AddOnce(member, &kept.targets);
    for (const std::string& member : group->second->targets) Members(member, visited, targets);
  }

  absl::StatusOr<Target> Resolve(const std::string& name) {
    std::map<std::string, std::optional<Target>> visited;
    KILN_RETURN_IF_ERROR(Inherit(name, &visited));
    Target target = *std::move(visited[name]);
    target.lists.erase("inherits");
    target.texts.try_emplace("context", ".");
    target.texts.try_emplace("dockerfile", "Dockerfile");
    return target;
  }

  // Makes visited[name] the target with all that it inherits below it. What is there without a
  // value is being made: in a circle, it adds nothing when it comes round again.
  absl::Status Inherit(const std::string& name,
                       std::map<std::string, std::optional<Target>>* visited) {
    if (!visited->try_emplace(name).second) return absl::OkStatus();
    const auto found = targets_.find(name);
    if (found == targets_.end())
      return absl::InvalidArgumentError(absl::StrCat("failed to find target ", name));
    if (++depth_ > kMaxInheritance)
      return absl::InvalidArgumentError(absl::StrCat("target ", name, " inherits too deeply"));
    Target result;
    for (const std::string& parent : found->second->List("inherits")) {
      KILN_RETURN_IF_ERROR(Inherit(parent, visited));
      if ((*visited)[parent]) result.Merge(*(*visited)[parent]);
    }
    --depth_;
    result.Merge(*found->second);
    result.name = name;
    KILN_RETURN_IF_ERROR(overrides_.Apply(&result));
    result.Normalize();
    if (result.Text("network") == "host")
      AddOnce(std::string("network.host"), &result.lists["entitlements"]);
    (*visited)[name] = std::move(result);
    return absl::OkStatus();
  }

  absl::Status Link(const std::string& name, std::vector<std::string>* path) {
    if (followed_.count(name) != 0) return absl::OkStatus();
    path->push_back(name);
    const std::map<std::string, std::string> contexts = plan_.targets[name].Map("contexts");
    for (const auto& [context, value] : contexts) {
      const std::string other = LinkedTarget(value);
      if (other.empty()) continue;
      if (other == name)
        return absl::InvalidArgumentError(absl::StrCat("target ", name, " cannot link to itself"));
      if (std::find(path->begin(), path->end(), other) != path->end())
        return absl::InvalidArgumentError(absl::StrCat("infinite loop from ", name, " to ", other));
      if (plan_.targets.count(other) == 0) {
        KILN_ASSIGN_OR_RETURN(Target target, Resolve(other));
        target.lists["output"] = {"type=cacheonly"};
        target.linked = true;
        plan_.targets[other] = std::move(target);
      }
      KILN_RETURN_IF_ERROR(Link(other, path));
      KILN_RETURN_IF_ERROR(CheckLink(plan_.targets[other], &plan_.targets[name]));
    }
    path->pop_back();
    followed_.insert(name);
    return absl::OkStatus();
  }

  static absl::Status CheckLink(const Target& linked, Target* target) {
    for (const std::string& entitlement : linked.List("entitlements"))
      AddOnce(entitlement, &target->lists["entitlements"]);
    const std::vector<std::string>& here = target->List("platforms");
    const std::vector<std::string>& there = linked.List("platforms");
    if (here.size() <= 1 || there.size() <= 1) return absl::OkStatus();
    for (const std::string& platform : here)
      if (std::find(there.begin(), there.end(), platform) == there.end())
        return absl::InvalidArgumentError(absl::StrCat(
            "target ", linked.name, " can't be used by ", target->name, " because its platforms ",
            absl::StrJoin(there, ","), " lack some of ", absl::StrJoin(here, ",")));
    return absl::OkStatus();
  }

  absl::Status Complete(Target* target) {
    std::string& context = target->texts["context"];
    if (context == "-") return absl::InvalidArgumentError("context from stdin not allowed in bake");
    if (target->Text("dockerfile") == "-")
      return absl::InvalidArgumentError("dockerfile from stdin not allowed in bake");
    if (!IsRemoteAddress(context))
      context = CleanPath(std::string(absl::StripPrefix(context, kWorkingDirectory)));
    // The time that a build is said to be made at, for all of them.
    const auto epoch = options_.lookup("SOURCE_DATE_EPOCH");
    if (epoch && !epoch->empty()) target->maps["args"].try_emplace("SOURCE_DATE_EPOCH", *epoch);
    return absl::OkStatus();
  }

  const PlanOptions& options_;
  const Overrides& overrides_;
  std::map<std::string, const Target*> targets_;
  std::map<std::string, const Group*> groups_;
  int depth_ = 0;                   // of inheritance
  std::set<std::string> followed_;  // targets whose links are in the plan
  Plan plan_;
};

}  // namespace

std::string LinkedTarget(const std::string& context) {
  return absl::StartsWith(context, kLink) ? context.substr(sizeof(kLink) - 1) : "";
}

bool IsRemoteAddress(const std::string& context) {
  for (const absl::string_view scheme :
       {"http://", "https://", "git://", "ssh://", "git@", "github.com/"})
    if (absl::StartsWith(context, scheme)) return true;
  return false;
}

absl::StatusOr<Plan> MakePlan(const Definition& definition, const PlanOptions& options) {
  KILN_ASSIGN_OR_RETURN(const Overrides overrides, Overrides::Parse(definition, options));
  return Planner(definition, options, overrides).Make();
}

}  // namespace kiln::client::bake
