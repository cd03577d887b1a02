#include "daemon/registry/referrers.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "daemon/image/media_types.h"

namespace kiln::daemon {

namespace {

using Json = nlohmann::ordered_json;

Json Parse(absl::string_view text) { return Json::parse(text.begin(), text.end(), nullptr, false); }

std::string TextOf(const Json& object, const char* name) {
  if (!object.is_object()) return "";
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::optional<Referrer> ReferrerOf(const store::Descriptor& descriptor,
                                   absl::string_view manifest) {
  const Json json = Parse(manifest);
  if (!json.is_object() || !json.contains("subject")) return std::nullopt;
  const absl::StatusOr<Digest> subject = Digest::Parse(TextOf(json["subject"], "digest"));
  if (!subject.ok()) return std::nullopt;
  Json entry = {{"mediaType", descriptor.media_type},
                {"digest", descriptor.digest.ToString()},
                {"size", descriptor.size_bytes}};
  if (const auto annotations = json.find("annotations");
      annotations != json.end() && annotations->is_object())
    entry["annotations"] = *annotations;
  std::string type = TextOf(json, "artifactType");
  if (type.empty() && json.contains("config")) type = TextOf(json["config"], "mediaType");
  if (!type.empty()) entry["artifactType"] = type;
  return Referrer{*subject, Dump(entry)};
}

std::string ReferrersTag(const Digest& subject) { return absl::StrCat("sha256-", subject.hex()); }

absl::StatusOr<std::string> WithReferrer(absl::string_view index, const Referrer& referrer) {
  Json list = {{"schemaVersion", 2}, {"mediaType", kOciIndex}, {"manifests", Json::array()}};
  if (!index.empty()) {
    list = Parse(index);
    if (!list.is_object() || !list.contains("manifests") || !list["manifests"].is_array())
      return absl::FailedPreconditionError("what the registry has there is no index");
  }
  const Json entry = Parse(referrer.entry);
  for (const Json& each : list["manifests"])
    if (TextOf(each, "digest") == TextOf(entry, "digest")) return std::string(index);
  list["manifests"].push_back(entry);
  return Dump(list);
}

}  // namespace kiln::daemon
