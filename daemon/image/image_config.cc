#include "daemon/image/image_config.h"

#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "daemon/image/go_time.h"
#include "daemon/image/raw_json.h"
#include "proto/go_json.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr char kDefaultPath[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

std::string DefaultConfig(const Platform& platform) {
  GoJson json;
  json.BeginObject().Key("architecture").String(platform.architecture);
  json.Key("config").BeginObject();
  if (platform.os != "windows") json.Key("Env").BeginArray().String(kDefaultPath).EndArray();
  json.Key("WorkingDir").String("/").EndObject();
  json.Key("os").String(platform.os).OptString("variant", platform.variant);
  json.EndObject();
  return json.Take();
}

std::string RootfsJson(const std::vector<Digest>& diff_ids) {
  GoJson json;
  json.BeginObject().Key("type").String("layers").Key("diff_ids").BeginArray();
  for (const Digest& id : diff_ids) json.String(id.ToString());
  json.EndArray().EndObject();
  return json.Take();
}

std::string QuotedTime(const std::optional<GoTime>& time) {
  if (!time.has_value()) return "null";
  std::string out;
  AppendGoJsonString(time->ToString(), &out);
  return out;
}

absl::Status Bad(absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("invalid image config for export: ", why));
}

using Members = std::map<std::string, std::string>;

absl::StatusOr<Members> ReadMembers(absl::string_view config) {
  if (CompactJson(config) == "null")
    return absl::InvalidArgumentError("invalid null image config for export");
  const auto members = JsonMembers(config);
  if (!members.ok()) return Bad(members.status().message());
  return Members(members->begin(), members->end());
}

absl::Status CheckText(const Members& members, const char* name) {
  const auto found = members.find(name);
  if (found == members.end() || found->second == "null" || found->second == "\"\"")
    return Bad(absl::StrCat("missing ", name));
  if (found->second[0] != '"') return Bad(absl::StrCat(name, " is no text"));
  return absl::OkStatus();
}

// A time that is given is kept, but never later than the epoch.
absl::StatusOr<std::string> CreatedJson(const Members& members,
                                        const std::vector<HistoryItem>& history,
                                        const std::optional<absl::Time>& epoch) {
  const auto given = members.find("created");
  if (given == members.end()) {
    std::optional<GoTime> last;
    for (const HistoryItem& item : history)
      if (item.created.has_value()) last = item.created;
    return QuotedTime(last);
  }
  if (!epoch.has_value() || given->second == "null") return given->second;
  const nlohmann::json text = nlohmann::json::parse(given->second, nullptr, false);
  if (!text.is_string()) return Bad("created is no text");
  const auto time = GoTime::Parse(text.get<std::string>());
  if (!time.ok()) return Bad(absl::StrCat("failed to unmarshal creation time ", given->second));
  return time->time > *epoch ? QuotedTime(GoTime::Utc(*epoch)) : given->second;
}

}  // namespace

absl::StatusOr<ImageConfig> MakeImageConfig(const ImageConfigInput& input) {
  const std::string config =
      input.config.empty() ? DefaultConfig(input.default_platform) : input.config;
  KILN_ASSIGN_OR_RETURN(Members members, ReadMembers(config));
  KILN_RETURN_IF_ERROR(CheckText(members, "os"));
  KILN_RETURN_IF_ERROR(CheckText(members, "architecture"));

  ImageConfig out;
  KILN_ASSIGN_OR_RETURN(std::vector<HistoryItem> history, ParseHistory(config));
  history = NormalizeHistory(std::move(history), input.layers, &out.surplus_history);
  if (input.epoch.has_value()) {
    std::vector<HistoryItem> base;
    if (!input.base_config.empty()) {
      KILN_ASSIGN_OR_RETURN(base, ParseHistory(input.base_config));
    }
    ClampHistory(*input.epoch, base, &history);
  }
  members["rootfs"] = RootfsJson(input.diff_ids);
  members["history"] = HistoryToJson(history);
  KILN_ASSIGN_OR_RETURN(members["created"], CreatedJson(members, history, input.epoch));
  if (!input.inline_cache.empty()) {
    members["moby.buildkit.cache.v0"] =
        absl::StrCat("\"", absl::Base64Escape(input.inline_cache), "\"");
  }
  GoJson json;
  json.BeginObject();
  for (const auto& [name, value] : members) json.Key(name).Raw(value);
  json.EndObject();
  out.json = json.Take();
  return out;
}

std::string AttestationConfig(const std::vector<Digest>& layers) {
  GoJson json;
  json.BeginObject().Key("architecture").String("unknown").Key("os").String("unknown");
  json.Key("config").BeginObject().EndObject();
  json.Key("rootfs").Raw(RootfsJson(layers)).EndObject();
  return json.Take();
}

absl::StatusOr<std::vector<Digest>> DiffIds(absl::string_view config) {
  const nlohmann::json json = nlohmann::json::parse(config.begin(), config.end(), nullptr, false);
  if (!json.is_object() || !json.contains("rootfs") || !json["rootfs"].is_object())
    return absl::InvalidArgumentError("an image config without rootfs");
  std::vector<Digest> ids;
  const auto list = json["rootfs"].find("diff_ids");
  if (list == json["rootfs"].end() || list->is_null()) return ids;
  if (!list->is_array()) return absl::InvalidArgumentError("an image config without diff_ids");
  for (const auto& item : *list) {
    if (!item.is_string()) return absl::InvalidArgumentError("a diff id that is no text");
    KILN_ASSIGN_OR_RETURN(const Digest id, Digest::Parse(item.get<std::string>()));
    ids.push_back(id);
  }
  return ids;
}

}  // namespace kiln::daemon
