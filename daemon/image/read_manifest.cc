#include "daemon/image/read_manifest.h"

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/image/media_types.h"
#include "daemon/image/platform_json.h"
#include "daemon/image/raw_json.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

using nlohmann::json;

constexpr size_t kMaxLayers = 4096;
constexpr size_t kMaxManifests = 10'000;

absl::Status Invalid(absl::string_view why) { return absl::InvalidArgumentError(why); }

// JSON without repeated members: two readers might see two values.
absl::StatusOr<json> ParseStrict(absl::string_view text) {
  std::vector<std::set<std::string>> names;  // of the objects that are open
  std::string repeated;
  bool too_deep = false;
  const auto watch = [&](int depth, json::parse_event_t event, json& value) {
    if (depth > kMaxJsonDepth) too_deep = true;
    if (event == json::parse_event_t::object_start) names.emplace_back();
    if (event == json::parse_event_t::object_end) names.pop_back();
    if (event == json::parse_event_t::key &&
        !names.back().insert(value.get_ref<const std::string&>()).second)
      repeated = value.get_ref<const std::string&>();
    return !too_deep;
  };
  json value = json::parse(text.begin(), text.end(), watch, false);
  if (too_deep) return Invalid(absl::StrCat("JSON nests deeper than ", kMaxJsonDepth));
  if (value.is_discarded()) return Invalid("not valid JSON");
  if (!repeated.empty()) return Invalid(absl::StrCat("JSON with \"", repeated, "\" twice"));
  if (!value.is_object()) return Invalid("not a JSON object");
  return value;
}

// A member that must be there as an array or not at all; null counts as not.
absl::StatusOr<const json*> ArrayOf(const json& object, const char* name, size_t limit) {
  auto it = object.find(name);
  if (it == object.end() || it->is_null()) return nullptr;
  if (!it->is_array()) return Invalid(absl::StrCat("\"", name, "\" is no array"));
  if (it->size() > limit)
    return Invalid(absl::StrCat("\"", name, "\" has ", it->size(), " items, more than ", limit));
  return &*it;
}

absl::StatusOr<std::string> TextOf(const json& object, const char* name) {
  auto it = object.find(name);
  if (it == object.end() || it->is_null()) return std::string();
  if (!it->is_string()) return Invalid(absl::StrCat("\"", name, "\" is no text"));
  return it->get<std::string>();
}

absl::StatusOr<ManifestEntry> EntryOf(const json& value, absl::string_view what) {
  absl::StatusOr<ManifestEntry> entry = DescriptorFromJson(value.dump());
  if (!entry.ok()) return Annotate(entry.status(), what);
  if (entry->descriptor.size_bytes <= 0)
    return Invalid(absl::StrCat(what, ": its size is ", entry->descriptor.size_bytes));
  return entry;
}

absl::Status ReadEntries(const json& object, const char* name, size_t limit,
                         std::vector<ManifestEntry>* out) {
  KILN_ASSIGN_OR_RETURN(const json* const items, ArrayOf(object, name, limit));
  if (items == nullptr) return absl::OkStatus();
  for (size_t i = 0; i < items->size(); ++i) {
    KILN_ASSIGN_OR_RETURN(ManifestEntry entry,
                          EntryOf((*items)[i], absl::StrCat(name, "[", i, "]")));
    out->push_back(std::move(entry));
  }
  return absl::OkStatus();
}

bool IsSchema1(absl::string_view media_type) {
  return media_type == "text/plain" || absl::StrContains(media_type, "distribution.manifest.v1+");
}

}  // namespace

absl::StatusOr<ReadManifest> ParseManifest(absl::string_view text, absl::string_view media_type) {
  KILN_ASSIGN_OR_RETURN(const json object, ParseStrict(text));
  KILN_ASSIGN_OR_RETURN(const std::string declared, TextOf(object, "mediaType"));
  if (IsSchema1(media_type) || IsSchema1(declared) ||
      (object.contains("fsLayers") && object.contains("history")))
    return absl::FailedPreconditionError("an image in schema 1, which is not supported");
  const auto has = [&](const char* name) {
    return object.contains(name) && !object[name].is_null();
  };
  ReadManifest out;
  out.is_index = has("manifests");
  if (out.is_index && (has("config") || has("layers")))
    return Invalid("it has the members of a manifest and those of an index");
  if (!out.is_index && !has("config") && !has("layers"))
    return Invalid("neither a manifest nor an index");
  out.media_type = !declared.empty() ? declared : out.is_index ? kDockerIndex : kDockerManifest;
  for (const absl::string_view type : {absl::string_view(out.media_type), media_type}) {
    if (out.is_index ? IsManifest(type) : IsIndex(type))
      return Invalid(absl::StrCat("it is called ", type, " but has the members of ",
                                  out.is_index ? "an index" : "a manifest"));
  }
  if (!IsIndex(out.media_type) && !IsManifest(out.media_type))
    return Invalid(absl::StrCat("media type ", out.media_type, " is no image's"));
  if (out.is_index) {
    KILN_RETURN_IF_ERROR(ReadEntries(object, "manifests", kMaxManifests, &out.manifests));
    return out;
  }
  if (!has("config")) return Invalid("a manifest without a config");
  KILN_ASSIGN_OR_RETURN(out.config, EntryOf(object["config"], "config"));
  KILN_RETURN_IF_ERROR(ReadEntries(object, "layers", kMaxLayers, &out.layers));
  for (ManifestEntry& layer : out.layers)
    layer.descriptor.media_type = MediaTypes{true}.Layer(layer.descriptor.media_type);
  return out;
}

absl::StatusOr<ReadConfig> ParseConfig(absl::string_view text) {
  KILN_ASSIGN_OR_RETURN(const json object, ParseStrict(text));
  ReadConfig out;
  KILN_ASSIGN_OR_RETURN(out.platform, PlatformFromJson(text));
  auto rootfs = object.find("rootfs");
  if (rootfs != object.end() && rootfs->is_object()) {
    KILN_ASSIGN_OR_RETURN(out.rootfs_type, TextOf(*rootfs, "type"));
    KILN_ASSIGN_OR_RETURN(const json* const ids, ArrayOf(*rootfs, "diff_ids", kMaxLayers));
    for (size_t i = 0; ids != nullptr && i < ids->size(); ++i) {
      if (!(*ids)[i].is_string()) return Invalid("\"diff_ids\" holds what is no text");
      absl::StatusOr<Digest> id = Digest::Parse((*ids)[i].get_ref<const std::string&>());
      KILN_RETURN_IF_ERROR(Annotate(id.status(), absl::StrCat("diff_ids[", i, "]")));
      out.diff_ids.push_back(*id);
    }
  }
  auto history = object.find("history");
  if (history != object.end() && history->is_array()) {
    for (const json& item : *history) {
      if (!item.is_object()) return Invalid("\"history\" holds what is no object");
      auto empty = item.find("empty_layer");
      if (empty != item.end() && empty->is_boolean() && empty->get<bool>()) continue;
      absl::Time created = absl::InfinitePast();
      KILN_ASSIGN_OR_RETURN(const std::string time, TextOf(item, "created"));
      if (!absl::ParseTime(absl::RFC3339_full, time, &created, nullptr))
        created = absl::InfinitePast();
      out.created.push_back(created);
    }
  }
  out.created.resize(out.diff_ids.size(), absl::InfinitePast());
  return out;
}

Digest ChainId(const std::vector<Digest>& diff_ids) {
  Digest chain;
  for (size_t i = 0; i < diff_ids.size(); ++i)
    chain = i == 0 ? diff_ids[0]
                   : Digest::Of(absl::StrCat(chain.ToString(), " ", diff_ids[i].ToString()));
  return chain;
}

}  // namespace kiln::daemon
