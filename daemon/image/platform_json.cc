#include "daemon/image/platform_json.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "proto/go_json.h"

namespace kiln::daemon {

absl::StatusOr<Platform> PlatformFromJson(absl::string_view json) {
  const nlohmann::json object = nlohmann::json::parse(json.begin(), json.end(), nullptr, false);
  const auto bad = [json] {
    return absl::InvalidArgumentError(absl::StrCat("invalid platform value ", json));
  };
  if (!object.is_object()) return bad();
  Platform platform;
  const auto read = [&object](const char* name, std::string* out) {
    const auto found = object.find(name);
    if (found == object.end() || found->is_null()) return true;
    if (!found->is_string()) return false;
    *out = found->get<std::string>();
    return true;
  };
  if (!read("os", &platform.os) || !read("architecture", &platform.architecture) ||
      !read("variant", &platform.variant) || !read("os.version", &platform.os_version))
    return bad();
  const auto features = object.find("os.features");
  if (features == object.end() || features->is_null()) return platform;
  if (!features->is_array()) return bad();
  for (const auto& feature : *features) {
    if (!feature.is_string()) return bad();
    platform.os_features.push_back(feature.get<std::string>());
  }
  return platform;
}

std::string PlatformToJson(const Platform& platform) {
  GoJson json;
  json.BeginObject().Key("architecture").String(platform.architecture);
  json.Key("os").String(platform.os).OptString("os.version", platform.os_version);
  if (!platform.os_features.empty()) {
    json.Key("os.features").BeginArray();
    for (const std::string& feature : platform.os_features) json.String(feature);
    json.EndArray();
  }
  json.OptString("variant", platform.variant).EndObject();
  return json.Take();
}

}  // namespace kiln::daemon
