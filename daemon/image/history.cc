#include "daemon/image/history.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/go_json.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr char kAddedComment[] = "buildkit.exporter.image.v0";
constexpr char kUnknownStep[] = "created by buildkit";

std::optional<GoTime> ToGoTime(const std::optional<absl::Time>& time) {
  if (!time.has_value()) return std::nullopt;
  return GoTime::Utc(*time);
}

absl::StatusOr<HistoryItem> ReadItem(const nlohmann::json& object) {
  const auto bad = [](absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat("failed to unmarshal history from config: ", why));
  };
  if (!object.is_object()) return bad("an item is no object");
  HistoryItem item;
  for (const auto& [name, out] : {std::pair("created_by", &item.created_by),
                                  {"author", &item.author},
                                  {"comment", &item.comment}}) {
    const auto found = object.find(name);
    if (found == object.end() || found->is_null()) continue;
    if (!found->is_string()) return bad(absl::StrCat(name, " is no text"));
    *out = found->get<std::string>();
  }
  const auto created = object.find("created");
  if (created != object.end() && !created->is_null()) {
    if (!created->is_string()) return bad("created is no text");
    KILN_ASSIGN_OR_RETURN(item.created, GoTime::Parse(created->get<std::string>()));
  }
  const auto empty = object.find("empty_layer");
  if (empty != object.end() && !empty->is_null()) {
    if (!empty->is_boolean()) return bad("empty_layer is no bool");
    item.empty_layer = empty->get<bool>();
  }
  return item;
}

// Items without a time: the leading ones get that of the first new layer, or a command before it
// would seem as old as the base image; the others that of the item before.
void FillTimes(std::vector<HistoryItem>* history) {
  std::optional<GoTime> created;
  bool missing = false;
  for (const HistoryItem& item : *history) {
    if (!item.created.has_value()) {
      missing = true;
      continue;
    }
    created = item.created;
    if (missing) break;
  }
  missing = false;
  for (HistoryItem& item : *history) {
    if (!item.created.has_value()) {
      missing = true;
      item.created = created;
    } else if (missing) {
      created = item.created;
    }
  }
}

}  // namespace

absl::StatusOr<std::vector<HistoryItem>> ParseHistory(absl::string_view config) {
  const nlohmann::json json = nlohmann::json::parse(config.begin(), config.end(), nullptr, false);
  std::vector<HistoryItem> history;
  if (!json.is_object() || !json.contains("history") || json["history"].is_null()) return history;
  if (!json["history"].is_array())
    return absl::InvalidArgumentError("failed to unmarshal history from config: not a list");
  for (const auto& object : json["history"]) {
    KILN_ASSIGN_OR_RETURN(HistoryItem item, ReadItem(object));
    history.push_back(std::move(item));
  }
  return history;
}

std::string HistoryToJson(const std::vector<HistoryItem>& history) {
  GoJson json;
  json.BeginArray();
  for (const HistoryItem& item : history) {
    json.BeginObject();
    if (item.created.has_value()) json.Key("created").String(item.created->ToString());
    json.OptString("created_by", item.created_by).OptString("author", item.author);
    json.OptString("comment", item.comment).OptBool("empty_layer", item.empty_layer);
    json.EndObject();
  }
  json.EndArray();
  return json.Take();
}

std::vector<HistoryItem> NormalizeHistory(std::vector<HistoryItem> history,
                                          const std::vector<LayerFacts>& layers, bool* surplus) {
  size_t told = 0;
  *surplus = false;
  size_t steps = layers.size();
  for (const LayerFacts& layer : layers) steps += layer.steps_below + layer.steps_above;
  const bool knows_steps = static_cast<size_t>(std::count_if(
                               history.begin(), history.end(),
                               [](const HistoryItem& item) { return !item.empty_layer; })) >= steps;
  size_t skip = knows_steps && !layers.empty() ? layers[0].steps_below : 0;
  for (HistoryItem& item : history) {
    if (item.empty_layer) continue;
    if (skip > 0) {
      --skip;
      item.empty_layer = true;
    } else if (told == layers.size()) {
      item.empty_layer = true;
      *surplus = true;
    } else {
      ++told;
      if (knows_steps)
        skip = told < layers.size() ? layers[told].steps_below : layers.back().steps_above;
    }
  }
  for (size_t i = told; i < layers.size(); ++i) {
    HistoryItem item;
    item.created = ToGoTime(layers[i].created_at);
    item.created_by = layers[i].description.empty() ? kUnknownStep : layers[i].description;
    item.comment = kAddedComment;
    history.push_back(std::move(item));
  }
  size_t layer = 0;
  for (HistoryItem& item : history) {
    if (item.empty_layer) continue;
    if (!item.created.has_value()) item.created = ToGoTime(layers[layer].created_at);
    ++layer;
  }
  FillTimes(&history);
  return history;
}

void ClampHistory(absl::Time epoch, const std::vector<HistoryItem>& base,
                  std::vector<HistoryItem>* history) {
  size_t i = 0;
  while (i < history->size() && i < base.size() && (*history)[i] == base[i]) ++i;
  for (; i < history->size(); ++i) {
    HistoryItem& item = (*history)[i];
    if (!item.created.has_value() || item.created->time > epoch) item.created = GoTime::Utc(epoch);
  }
}

}  // namespace kiln::daemon
