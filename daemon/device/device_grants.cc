#include "daemon/device/device_grants.h"

#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

absl::StatusOr<DeviceGrants> DeviceGrants::Parse(absl::Span<const std::string> entitlements) {
  DeviceGrants grants;
  for (absl::string_view entitlement : entitlements) {
    if (entitlement == "device") grants.all_ = true;
    if (!absl::ConsumePrefix(&entitlement, "device=")) continue;
    const std::vector<std::string> fields = absl::StrSplit(entitlement, ',');
    std::string alias;
    for (size_t i = 1; i < fields.size(); ++i) {
      const std::pair<std::string, std::string> field =
          absl::StrSplit(fields[i], absl::MaxSplits('=', 1));
      if (!absl::StrContains(fields[i], '='))
        return absl::InvalidArgumentError(
            absl::StrCat("invalid device config \"", fields[i], "\""));
      if (field.first != "alias")
        return absl::InvalidArgumentError(
            absl::StrCat("unknown device config key \"", field.first, "\""));
      alias = field.second;
    }
    if (alias.empty())
      grants.granted_.push_back({fields[0], /*optional=*/true});
    else
      grants.aliases_[alias] = fields[0];
  }
  return grants;
}

absl::StatusOr<std::vector<std::string>> DeviceGrants::Names(const DeviceRegistry& registry) const {
  std::vector<DeviceRequest> granted = granted_;
  for (const auto& [alias, name] : aliases_) granted.push_back({name, /*optional=*/true});
  KILN_ASSIGN_OR_RETURN(std::vector<std::string> names, registry.Find(granted));
  for (const Device& device : registry.List())
    if (device.auto_allow) names.push_back(device.name);
  return names;
}

absl::StatusOr<std::vector<DeviceRequest>> DeviceGrants::Grant(
    absl::Span<const DeviceRequest> requests, const DeviceRegistry& registry) const {
  if (all_) return std::vector<DeviceRequest>(requests.begin(), requests.end());
  std::vector<DeviceRequest> out, plain, aliased;
  for (const DeviceRequest& request : requests) {
    const auto alias = aliases_.find(request.name);
    if (alias == aliases_.end())
      plain.push_back(request);
    else
      aliased.push_back({alias->second, request.optional});
  }
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> renamed, registry.Find(aliased));
  for (const std::string& name : renamed) out.push_back({name, false});
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> wanted, registry.Find(plain));
  if (wanted.empty()) return out;
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> names, registry.Find(granted_));
  std::set<std::string> allowed(names.begin(), names.end());
  for (const Device& device : registry.List())
    if (device.auto_allow) allowed.insert(device.name);
  std::vector<std::string> forbidden;
  for (const std::string& name : wanted) {
    if (allowed.contains(name))
      out.push_back({name, false});
    else
      forbidden.push_back(name);
  }
  if (forbidden.empty()) return out;
  return absl::InvalidArgumentError(absl::StrCat(
      forbidden.size() == 1 ? "device " : "devices ", absl::StrJoin(forbidden, ", "),
      forbidden.size() == 1 ? " is" : " are", " requested by the build but not allowed"));
}

}  // namespace kiln::daemon
