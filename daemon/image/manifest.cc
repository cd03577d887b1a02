#include "daemon/image/manifest.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "daemon/image/platform_json.h"
#include "daemon/image/raw_json.h"
#include "proto/go_json.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

void WriteTexts(const char* name, const std::map<std::string, std::string>& texts, GoJson* json) {
  if (texts.empty()) return;
  json->Key(name).BeginObject();
  for (const auto& [key, value] : texts) json->Key(key).String(value);
  json->EndObject();
}

void WriteEntry(const ManifestEntry& entry, GoJson* json) {
  const store::Descriptor& descriptor = entry.descriptor;
  json->BeginObject();
  json->Key("mediaType").String(descriptor.media_type);
  json->Key("digest").String(descriptor.digest.ToString());
  json->Key("size").Int(descriptor.size_bytes);
  if (!descriptor.urls.empty()) {
    json->Key("urls").BeginArray();
    for (const std::string& url : descriptor.urls) json->String(url);
    json->EndArray();
  }
  WriteTexts("annotations", descriptor.annotations, json);
  if (!entry.data.empty()) json->Key("data").Bytes(entry.data);
  if (entry.platform.has_value()) json->Key("platform").Raw(PlatformToJson(*entry.platform));
  json->OptString("artifactType", entry.artifact_type);
  json->EndObject();
}

void WriteEntries(const char* name, const std::vector<ManifestEntry>& entries, GoJson* json) {
  json->Key(name).BeginArray();
  for (const ManifestEntry& entry : entries) WriteEntry(entry, json);
  json->EndArray();
}

absl::Status NotADescriptor(absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("invalid descriptor: ", why));
}

absl::StatusOr<ManifestEntry> ReadEntry(const nlohmann::json& object) {
  if (!object.is_object()) return NotADescriptor("not a JSON object");
  const auto text = [&object](const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  ManifestEntry entry;
  entry.descriptor.media_type = text("mediaType");
  KILN_ASSIGN_OR_RETURN(entry.descriptor.digest, Digest::Parse(text("digest")));
  const auto size = object.find("size");
  if (size == object.end() || !size->is_number_integer() || size->get<int64_t>() < 0)
    return NotADescriptor("its size is missing or no number");
  entry.descriptor.size_bytes = size->get<int64_t>();
  const auto urls = object.find("urls");
  if (urls != object.end() && urls->is_array()) {
    for (const auto& url : *urls)
      if (url.is_string()) entry.descriptor.urls.push_back(url.get<std::string>());
  }
  const auto annotations = object.find("annotations");
  if (annotations != object.end() && annotations->is_object()) {
    for (const auto& [key, value] : annotations->items())
      if (value.is_string()) entry.descriptor.annotations[key] = value.get<std::string>();
  }
  absl::Base64Unescape(text("data"), &entry.data);
  entry.artifact_type = text("artifactType");
  const auto platform = object.find("platform");
  if (platform != object.end() && platform->is_object()) {
    KILN_ASSIGN_OR_RETURN(entry.platform, PlatformFromJson(platform->dump()));
  }
  return entry;
}

}  // namespace

std::string DescriptorToJson(const ManifestEntry& entry) {
  GoJson json;
  WriteEntry(entry, &json);
  return json.Take();
}

absl::StatusOr<ManifestEntry> DescriptorFromJson(absl::string_view json) {
  return ReadEntry(nlohmann::json::parse(json.begin(), json.end(), nullptr, false));
}

std::string Manifest::ToCompactJson() const {
  GoJson json;
  json.BeginObject().Key("schemaVersion").Int(2).Key("mediaType").String(media_type);
  json.OptString("artifactType", artifact_type).Key("config");
  WriteEntry(config, &json);
  WriteEntries("layers", layers, &json);
  if (subject.has_value()) {
    json.Key("subject");
    WriteEntry(*subject, &json);
  }
  WriteTexts("annotations", annotations, &json);
  json.EndObject();
  return json.Take();
}

std::string Manifest::ToJson() const { return IndentJson(ToCompactJson()); }

std::string Index::ToCompactJson() const {
  GoJson json;
  json.BeginObject().Key("schemaVersion").Int(2).Key("mediaType").String(media_type);
  WriteEntries("manifests", manifests, &json);
  WriteTexts("annotations", annotations, &json);
  json.EndObject();
  return json.Take();
}

std::string Index::ToJson() const { return IndentJson(ToCompactJson()); }

absl::StatusOr<std::vector<ManifestEntry>> References(absl::string_view text) {
  const nlohmann::json json = nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
  if (!json.is_object()) return absl::InvalidArgumentError("a manifest that is no JSON object");
  std::vector<ManifestEntry> entries;
  if (json.contains("config")) {
    KILN_ASSIGN_OR_RETURN(ManifestEntry entry, ReadEntry(json["config"]));
    entries.push_back(std::move(entry));
  } else if (!json.contains("manifests")) {
    return absl::InvalidArgumentError("neither a manifest nor an index");
  }
  for (const char* list : {"layers", "manifests"}) {
    const auto found = json.find(list);
    if (found == json.end() || found->is_null()) continue;
    if (!found->is_array())
      return absl::InvalidArgumentError(absl::StrCat("a manifest whose ", list, " are no list"));
    for (const auto& item : *found) {
      KILN_ASSIGN_OR_RETURN(ManifestEntry entry, ReadEntry(item));
      entries.push_back(std::move(entry));
    }
  }
  return entries;
}

}  // namespace kiln::daemon
