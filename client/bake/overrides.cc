#include "client/bake/overrides.h"

#include <fnmatch.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/csv.h"
#include "store/base/status_macros.h"

namespace kiln::client::bake {
namespace {

using Kind = TargetField::Kind;

// Settings have names of their own for some fields.
std::string FieldOf(absl::string_view key) {
  if (key == "secrets") return "secret";
  if (key == "platform") return "platforms";
  if (key == "outputs") return "output";
  return std::string(key);
}

absl::StatusOr<bool> ParseFlag(const std::string& key, const std::string& value) {
  for (const char* yes : {"1", "t", "T", "TRUE", "true", "True"})
    if (value == yes) return true;
  for (const char* no : {"0", "f", "F", "FALSE", "false", "False"})
    if (value == no) return false;
  return absl::InvalidArgumentError(
      absl::StrCat("invalid value ", value, " for boolean key ", key));
}

// The type of an output; "" if it can't be told.
std::string OutputType(const std::string& output) {
  const auto fields = SplitCsvFields(output, /*bare_allowed=*/true);
  if (!fields.ok()) return "";
  for (const auto& [key, value] : *fields)
    if (key == "type") return value;
  return "";
}

// With --push what is not for an engine stays as it is, but that images are pushed; without any
// such output one is added. --push=false takes pushing away.
void SetPush(bool push, Target* target) {
  std::vector<std::string>& outputs = target->lists["output"];
  if (!push) {
    outputs.erase(
        std::remove_if(outputs.begin(), outputs.end(),
                       [](const std::string& output) { return OutputType(output) == "registry"; }),
        outputs.end());
  }
  bool only_engines = true;
  for (std::string& output : outputs) {
    const std::string type = OutputType(output);
    only_engines = only_engines && type == "docker";
    if (type != "image") continue;
    // One that is there already would be printed.
    for (const char* before : {",push=true", ",push=false"})
      absl::StrReplaceAll({{before, ""}}, &output);
    absl::StrAppend(&output, push ? ",push=true" : ",push=false");
  }
  if (push && only_engines) outputs.push_back("type=image,push=true");
}

}  // namespace

absl::StatusOr<Overrides> Overrides::Parse(const Definition& definition,
                                           const PlanOptions& options) {
  Overrides overrides;
  for (const std::string& set : options.sets) {
    const size_t equals = set.find('=');
    absl::string_view left = absl::string_view(set).substr(0, equals);
    const bool append = absl::ConsumeSuffix(&left, "+");
    const std::vector<std::string> keys = absl::StrSplit(left, absl::MaxSplits('.', 2));
    if (keys.size() < 2)
      return absl::InvalidArgumentError(
          absl::StrCat("invalid override key ", left, ", expected target.name"));
    if (equals == std::string::npos && keys[1] != "args")
      return absl::InvalidArgumentError(
          absl::StrCat("invalid override ", set, ", expected target.name=value"));
    Override override{FieldOf(keys[1]), keys.size() == 3 ? keys[2] : "", append, {}};
    const TargetField* field = FindTargetField(override.key);
    const bool flag = override.key == "push" || override.key == "load";
    if ((field == nullptr && !flag) || override.key == "inherits")
      return absl::InvalidArgumentError(absl::StrCat("--set ", set, ": unknown key: ", keys[1]));
    if (field != nullptr && field->kind == Kind::kMap && keys.size() != 3)
      return absl::InvalidArgumentError(
          absl::StrCat("invalid key ", left, ", ", keys[1], " requires name"));
    if (equals != std::string::npos) {
      override.values.push_back(set.substr(equals + 1));
    } else if (const auto value = options.lookup(override.name)) {
      override.values.push_back(*value);
    } else {
      continue;  // an argument of the environment that is not there
    }
    bool matched = false;
    const bool exact = std::any_of(definition.targets.begin(), definition.targets.end(),
                                   [&](const Target& target) { return target.name == keys[0]; });
    for (const Target& target : definition.targets) {
      const bool match = exact ? target.name == keys[0]
                               : fnmatch(keys[0].c_str(), target.name.c_str(), FNM_PATHNAME) == 0;
      if (!match) continue;
      matched = true;
      std::vector<Override>& all = overrides.by_target_[target.name];
      const auto same = std::find_if(all.begin(), all.end(), [&](const Override& other) {
        return other.key == override.key && other.name == override.name;
      });
      const bool list = field != nullptr && field->kind == Kind::kList;
      if (same == all.end()) {
        all.push_back(override);
      } else if (list) {
        same->values.push_back(override.values[0]);
        same->append = append;
      } else {
        *same = override;
      }
    }
    if (!matched)
      return absl::InvalidArgumentError(
          absl::StrCat("could not find any target matching '", keys[0], "'"));
  }
  return overrides;
}

absl::Status Overrides::Apply(Target* target) const {
  const auto found = by_target_.find(target->name);
  if (found == by_target_.end()) return absl::OkStatus();
  for (const Override& override : found->second) KILN_RETURN_IF_ERROR(ApplyOne(override, target));
  return absl::OkStatus();
}

absl::Status Overrides::ApplyOne(const Override& override, Target* target) {
  const std::string& key = override.key;
  const std::string& value = override.values.back();
  if (key == "push" || key == "load") {
    KILN_ASSIGN_OR_RETURN(const bool on, ParseFlag(key, value));
    if (key == "push") SetPush(on, target);
    if (key == "load" && on) target->lists["output"].push_back("type=docker");
    return absl::OkStatus();
  }
  switch (FindTargetField(key)->kind) {
    case Kind::kText:
      target->texts[key] = value;
      break;
    case Kind::kFlag: {
      KILN_ASSIGN_OR_RETURN(target->flags[key], ParseFlag(key, value));
      break;
    }
    case Kind::kMap:
      target->maps[key][override.name] = value;
      break;
    case Kind::kList: {
      std::vector<std::string>& list = target->lists[key];
      // These say more about an image, or allow more; nothing takes them away.
      const bool adds = key == "attest" || key == "annotations" || key == "entitlements";
      if (!override.append && !adds) list.clear();
      list.insert(list.end(), override.values.begin(), override.values.end());
      break;
    }
  }
  return absl::OkStatus();
}

}  // namespace kiln::client::bake
