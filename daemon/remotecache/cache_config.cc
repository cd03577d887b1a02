#include "daemon/remotecache/cache_config.h"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>

#include "daemon/image/go_time.h"
#include "proto/go_json.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr char kZeroTime[] = "0001-01-01T00:00:00Z";

void WriteAnnotations(const LayerAnnotations& annotations, GoJson* json) {
  json->BeginObject().OptString("mediaType", annotations.media_type);
  if (annotations.diff_id.has_value()) json->Key("diffID").String(annotations.diff_id->ToString());
  json->OptInt("size", annotations.size_bytes);
  json->Key("createdAt").String(GoTimeText(annotations.created_at)).EndObject();
}

void WriteRecord(const CacheConfig::Record& record, GoJson* json) {
  json->BeginObject();
  if (!record.results.empty()) {
    json->Key("layers").BeginArray();
    for (const CacheConfig::Result& result : record.results) {
      json->BeginObject().Key("layer").Int(result.layer);
      json->Key("createdAt").String(GoTimeText(result.created_at)).EndObject();
    }
    json->EndArray();
  }
  if (!record.chains.empty()) {
    json->Key("chains").BeginArray();
    for (const CacheConfig::ChainResult& chain : record.chains) {
      json->BeginObject().Key("layers").BeginArray();
      for (int layer : chain.layers) json->Int(layer);
      json->EndArray().Key("createdAt").String(GoTimeText(chain.created_at)).EndObject();
    }
    json->EndArray();
  }
  json->Key("digest").String(record.digest.ToString());
  if (!record.inputs.empty()) {
    json->Key("inputs").BeginArray();
    for (const std::vector<CacheConfig::Input>& alternatives : record.inputs) {
      json->BeginArray();
      for (const CacheConfig::Input& input : alternatives)
        json->BeginObject()
            .OptString("selector", input.selector)
            .Key("link")
            .Int(input.link)
            .EndObject();
      json->EndArray();
    }
    json->EndArray();
  }
  json->EndObject();
}

void WriteRecords(const std::vector<CacheConfig::Record>& records, GoJson* json) {
  json->BeginArray();
  for (const CacheConfig::Record& record : records) WriteRecord(record, json);
  json->EndArray();
}

// The order of `count` things by `less`, stable: new place -> old place.
template <typename Less>
std::vector<int> Order(size_t count, const Less& less) {
  std::vector<int> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), less);
  return order;
}

std::vector<int> Inverse(const std::vector<int>& order) {
  std::vector<int> inverse(order.size());
  for (size_t i = 0; i < order.size(); ++i) inverse[order[i]] = static_cast<int>(i);
  return inverse;
}

void SortLayers(CacheConfig* config, std::vector<int>* places) {
  std::vector<CacheConfig::Layer>& layers = config->layers;
  const std::vector<int> order = Order(layers.size(), [&](int a, int b) {
    return std::tie(layers[a].blob, layers[a].parent) < std::tie(layers[b].blob, layers[b].parent);
  });
  *places = Inverse(order);
  std::vector<CacheConfig::Layer> sorted;
  sorted.reserve(layers.size());
  for (int old : order) {
    sorted.push_back(std::move(layers[old]));
    if (sorted.back().parent >= 0) sorted.back().parent = (*places)[sorted.back().parent];
  }
  layers = std::move(sorted);
}

// BuildKit's order says nothing of records that differ only deeper down. These keep the order they
// came in, which the caller has made the same for equal caches.
bool RecordLess(const std::vector<CacheConfig::Record>& records, const CacheConfig::Record& a,
                const CacheConfig::Record& b) {
  if (a.digest != b.digest) return a.digest < b.digest;
  if (a.inputs.size() != b.inputs.size()) return a.inputs.size() < b.inputs.size();
  for (size_t i = 0; i < a.inputs.size(); ++i) {
    if (a.inputs[i].size() != b.inputs[i].size()) return a.inputs[i].size() < b.inputs[i].size();
    for (size_t j = 0; j < a.inputs[i].size(); ++j) {
      const CacheConfig::Input &x = a.inputs[i][j], &y = b.inputs[i][j];
      if (x.selector != y.selector) return x.selector < y.selector;
      const Digest &to_x = records[x.link].digest, &to_y = records[y.link].digest;
      if (to_x != to_y) return to_x < to_y;
    }
  }
  return false;
}

}  // namespace

std::string GoTimeText(absl::Time time) {
  if (time == absl::InfinitePast()) return kZeroTime;
  return GoTime::Utc(absl::FromUnixNanos(absl::ToUnixNanos(time))).ToString();
}

absl::StatusOr<absl::Time> ParseGoTime(absl::string_view text) {
  if (text == kZeroTime) return absl::InfinitePast();
  KILN_ASSIGN_OR_RETURN(const GoTime time, GoTime::Parse(text));
  return time.time;
}

void SortCacheConfig(CacheConfig* config) {
  std::vector<int> places;
  SortLayers(config, &places);
  for (CacheConfig::Record& record : config->records) {
    for (CacheConfig::Result& result : record.results) result.layer = places[result.layer];
    for (CacheConfig::ChainResult& chain : record.chains)
      for (int& layer : chain.layers) layer = places[layer];
  }
  SortCacheRecords(&config->records);
}

void SortCacheRecords(std::vector<CacheConfig::Record>* list) {
  std::vector<CacheConfig::Record>& records = *list;
  // Alternatives first, so that the order of records does not depend on how these came.
  for (CacheConfig::Record& record : records) {
    for (std::vector<CacheConfig::Input>& alternatives : record.inputs) {
      std::sort(alternatives.begin(), alternatives.end(),
                [&](const CacheConfig::Input& a, const CacheConfig::Input& b) {
                  return std::tie(records[a.link].digest, a.selector, a.link) <
                         std::tie(records[b.link].digest, b.selector, b.link);
                });
      alternatives.erase(std::unique(alternatives.begin(), alternatives.end(),
                                     [](const CacheConfig::Input& a, const CacheConfig::Input& b) {
                                       return a.link == b.link && a.selector == b.selector;
                                     }),
                         alternatives.end());
    }
  }
  const std::vector<int> order = Order(
      records.size(), [&](int a, int b) { return RecordLess(records, records[a], records[b]); });
  const std::vector<int> places = Inverse(order);
  std::vector<CacheConfig::Record> sorted;
  sorted.reserve(records.size());
  for (int old : order) {
    sorted.push_back(std::move(records[old]));
    CacheConfig::Record& record = sorted.back();
    for (std::vector<CacheConfig::Input>& alternatives : record.inputs) {
      for (CacheConfig::Input& input : alternatives) input.link = places[input.link];
      std::sort(alternatives.begin(), alternatives.end(),
                [](const CacheConfig::Input& a, const CacheConfig::Input& b) {
                  return std::tie(a.link, a.selector) < std::tie(b.link, b.selector);
                });
    }
  }
  records = std::move(sorted);
}

std::string CacheConfigJson(const CacheConfig& config) {
  GoJson json;
  json.BeginObject();
  if (!config.layers.empty()) {
    json.Key("layers").BeginArray();
    for (const CacheConfig::Layer& layer : config.layers) {
      json.BeginObject().Key("blob").String(layer.blob.ToString());
      json.OptInt("parent", layer.parent);
      if (layer.annotations.has_value()) {
        json.Key("annotations");
        WriteAnnotations(*layer.annotations, &json);
      }
      json.EndObject();
    }
    json.EndArray();
  }
  if (!config.records.empty()) {
    json.Key("records");
    WriteRecords(config.records, &json);
  }
  json.EndObject();
  return json.Take();
}

std::string CacheRecordsJson(const std::vector<CacheConfig::Record>& records) {
  GoJson json;
  WriteRecords(records, &json);
  return json.Take();
}

}  // namespace kiln::daemon
