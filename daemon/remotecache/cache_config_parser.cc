#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "daemon/remotecache/cache_config.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr size_t kMaxJsonBytes = size_t{64} << 20;
constexpr size_t kMaxDepth = 64;  // in members that we skip, too

// Where in the text the reader is.
enum class Place {
  kStart,
  kConfig,
  kLayers,
  kLayer,
  kAnnotations,
  kRecords,
  kRecord,
  kResults,
  kResult,
  kChains,
  kChain,
  kChainLayers,
  kInputs,
  kAlternatives,
  kInput,
  kSkipped,
};

// Takes the events of the JSON reader and fills the value as they come: no tree of the text is ever
// in memory, so what hostile text can cost is bounded by its length.
class Reader : public nlohmann::json_sax<nlohmann::json> {
 public:
  Reader(CacheConfig* config, Place root) : config_(*config), root_(root) {}

  absl::Status status() const { return status_; }

  // As if the member were not there; a null list is empty.
  bool null() override {
    switch (Top()) {
      case Place::kInputs:
        Record().inputs.emplace_back();
        return true;
      case Place::kLayers:
      case Place::kRecords:
      case Place::kResults:
      case Place::kChains:
      case Place::kChainLayers:
      case Place::kAlternatives:
        return Refuse("null in a list");
      default:
        return true;
    }
  }
  bool boolean(bool) override { return Skip("a boolean"); }
  bool number_integer(number_integer_t value) override { return Number(value); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<number_unsigned_t>(INT64_MAX)) return Refuse("a number is too large");
    return Number(static_cast<int64_t>(value));
  }
  bool number_float(number_float_t, const string_t&) override { return Skip("a fraction"); }
  bool binary(binary_t&) override { return Refuse("binary data"); }
  bool key(string_t& name) override {
    key_ = name;
    return true;
  }

  bool string(string_t& text) override {
    const Place place = Top();
    if (place == Place::kLayer && key_ == "blob") return ReadDigest(text, &Layer().blob);
    if (place == Place::kRecord && key_ == "digest") return ReadDigest(text, &Record().digest);
    if (place == Place::kInput && key_ == "selector") {
      Record().inputs.back().back().selector = text;
      return true;
    }
    if (key_ == "createdAt") {
      if (place == Place::kResult) return ReadTime(text, &Record().results.back().created_at);
      if (place == Place::kChain) return ReadTime(text, &Record().chains.back().created_at);
      if (place == Place::kAnnotations) return ReadTime(text, &Layer().annotations->created_at);
    }
    if (place == Place::kAnnotations && key_ == "mediaType") {
      Layer().annotations->media_type = text;
      return true;
    }
    if (place == Place::kAnnotations && key_ == "diffID") {
      if (text.empty()) return true;
      return ReadDigest(text, &Layer().annotations->diff_id.emplace());
    }
    return Skip("a text");
  }

  bool start_object(size_t) override {
    const Place place = Top();
    if (stack_.empty() && root_ == Place::kConfig) return Enter(Place::kConfig);
    switch (place) {
      case Place::kLayers:
        config_.layers.push_back({Digest(), 0, std::nullopt});  // an absent parent is 0
        return Enter(Place::kLayer);
      case Place::kRecords:
        config_.records.emplace_back();
        return Enter(Place::kRecord);
      case Place::kResults:
        Record().results.push_back({0, absl::InfinitePast()});
        return Enter(Place::kResult);
      case Place::kChains:
        Record().chains.push_back({{}, absl::InfinitePast()});
        return Enter(Place::kChain);
      case Place::kAlternatives:
        Record().inputs.back().emplace_back();
        return Enter(Place::kInput);
      case Place::kLayer:
        if (key_ != "annotations") break;
        Layer().annotations.emplace();
        return Enter(Place::kAnnotations);
      default:
        break;
    }
    return EnterSkipped("an object");
  }

  bool start_array(size_t) override {
    const Place place = Top();
    if (stack_.empty() && root_ == Place::kRecords) return Enter(Place::kRecords);
    if (place == Place::kConfig && key_ == "layers") return Enter(Place::kLayers);
    if (place == Place::kConfig && key_ == "records") return Enter(Place::kRecords);
    if (place == Place::kRecord && key_ == "layers") return Enter(Place::kResults);
    if (place == Place::kRecord && key_ == "chains") return Enter(Place::kChains);
    if (place == Place::kRecord && key_ == "inputs") return Enter(Place::kInputs);
    if (place == Place::kChain && key_ == "layers") return Enter(Place::kChainLayers);
    if (place == Place::kInputs) {
      Record().inputs.emplace_back();
      return Enter(Place::kAlternatives);
    }
    return EnterSkipped("a list");
  }

  bool end_object() override { return Leave(); }
  bool end_array() override { return Leave(); }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return Refuse(absl::StrCat("malformed JSON at byte ", position));
  }

 private:
  Place Top() const { return stack_.empty() ? Place::kStart : stack_.back(); }
  CacheConfig::Layer& Layer() { return config_.layers.back(); }
  CacheConfig::Record& Record() { return config_.records.back(); }

  bool Refuse(absl::string_view why) {
    if (status_.ok()) status_ = absl::InvalidArgumentError(absl::StrCat("cache config: ", why));
    return false;
  }

  bool Enter(Place place) {
    if (stack_.size() >= kMaxDepth) return Refuse("nested too deeply");
    stack_.push_back(place);
    key_.clear();
    return true;
  }
  bool Leave() {
    stack_.pop_back();
    key_.clear();
    return true;
  }

  // Members that we do not know are passed over, as Go does; in a place where one kind of value is
  // due anything else is a fault.
  bool Skippable() const {
    switch (Top()) {
      case Place::kSkipped:
        return true;
      case Place::kConfig:
        return key_ != "layers" && key_ != "records";
      case Place::kLayer:
        return key_ != "blob" && key_ != "parent" && key_ != "annotations";
      case Place::kAnnotations:
        return key_ != "mediaType" && key_ != "diffID" && key_ != "size" && key_ != "createdAt";
      case Place::kRecord:
        return key_ != "layers" && key_ != "chains" && key_ != "digest" && key_ != "inputs";
      case Place::kResult:
        return key_ != "layer" && key_ != "createdAt";
      case Place::kChain:
        return key_ != "layers" && key_ != "createdAt";
      case Place::kInput:
        return key_ != "selector" && key_ != "link";
      default:
        return false;
    }
  }
  bool Skip(absl::string_view what) {
    return Skippable() || Refuse(absl::StrCat("unexpected ", what, Where()));
  }
  bool EnterSkipped(absl::string_view what) { return Skip(what) && Enter(Place::kSkipped); }
  std::string Where() const {
    return key_.empty() ? std::string() : absl::StrCat(" in \"", key_.substr(0, 40), "\"");
  }

  bool Number(int64_t value) {
    const Place place = Top();
    if (place == Place::kAnnotations && key_ == "size") {
      if (value < 0) return Refuse("a negative size");
      Layer().annotations->size_bytes = value;
      return true;
    }
    int* index = nullptr;
    if (place == Place::kLayer && key_ == "parent") index = &Layer().parent;
    if (place == Place::kResult && key_ == "layer") index = &Record().results.back().layer;
    if (place == Place::kInput && key_ == "link") index = &Record().inputs.back().back().link;
    if (place == Place::kChainLayers) index = &Record().chains.back().layers.emplace_back();
    if (index == nullptr) return Skip("a number");
    if (value < -1 || value > INT32_MAX)
      return Refuse(absl::StrCat("index ", value, " is out of range", Where()));
    *index = static_cast<int>(value);
    return true;
  }

  bool ReadDigest(const std::string& text, Digest* out) {
    absl::StatusOr<Digest> digest = Digest::Parse(text);
    if (!digest.ok()) {
      if (status_.ok()) status_ = Annotate(digest.status(), "cache config");
      return false;
    }
    *out = *digest;
    return true;
  }
  bool ReadTime(const std::string& text, absl::Time* out) {
    const absl::StatusOr<absl::Time> time = ParseGoTime(text);
    if (!time.ok()) return Refuse(time.status().message());
    *out = *time;
    return true;
  }

  CacheConfig& config_;
  const Place root_;
  std::vector<Place> stack_;
  std::string key_;
  absl::Status status_;
};

absl::Status Fault(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("cache config: ", what));
}

bool InRange(int index, size_t size) { return index >= 0 && static_cast<size_t>(index) < size; }

absl::Status CheckLayers(const std::vector<CacheConfig::Layer>& layers) {
  // A chain that runs into a layer of this walk loops; into one of an earlier walk, it is fine.
  std::vector<int> walk(layers.size(), -1);
  for (size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].blob.empty()) return Fault(absl::StrCat("layer ", i, " has no blob"));
    int at = static_cast<int>(i);
    while (at != -1) {
      if (!InRange(at, layers.size())) return Fault(absl::StrCat("invalid layer index ", at));
      if (walk[at] == static_cast<int>(i)) return Fault("invalid looping layer");
      if (walk[at] != -1) break;
      walk[at] = static_cast<int>(i);
      at = layers[at].parent;
    }
  }
  return absl::OkStatus();
}

// Records whose inputs are all done are taken away until none is left; what stays loops.
absl::Status CheckRecords(const std::vector<CacheConfig::Record>& records) {
  std::vector<std::vector<int>> consumers(records.size());
  std::vector<size_t> open(records.size(), 0);
  for (size_t i = 0; i < records.size(); ++i) {
    if (records[i].digest.empty()) return Fault(absl::StrCat("record ", i, " has no digest"));
    for (const std::vector<CacheConfig::Input>& alternatives : records[i].inputs) {
      if (alternatives.empty()) return Fault(absl::StrCat("invalid empty input for record ", i));
      for (const CacheConfig::Input& input : alternatives) {
        if (!InRange(input.link, records.size()))
          return Fault(absl::StrCat("invalid record ID: ", input.link));
        consumers[input.link].push_back(static_cast<int>(i));
        ++open[i];
      }
    }
  }
  std::vector<int> done;
  for (size_t i = 0; i < records.size(); ++i)
    if (open[i] == 0) done.push_back(static_cast<int>(i));
  for (size_t next = 0; next < done.size(); ++next)
    for (int consumer : consumers[done[next]])
      if (--open[consumer] == 0) done.push_back(consumer);
  return done.size() == records.size() ? absl::OkStatus() : Fault("invalid looping record");
}

absl::Status Read(absl::string_view json, Place root, CacheConfig* config) {
  if (json.size() > kMaxJsonBytes)
    return absl::ResourceExhaustedError(absl::StrCat(
        "cache config of ", json.size(), " bytes; at most ", kMaxJsonBytes, " are read"));
  Reader reader(config, root);
  const bool whole = nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
  KILN_RETURN_IF_ERROR(reader.status());
  if (!whole) return Fault("malformed JSON");
  return CheckRecords(config->records);
}

}  // namespace

absl::Status CheckCacheResults(const CacheConfig& config) {
  for (const CacheConfig::Record& record : config.records) {
    for (const CacheConfig::Result& result : record.results)
      if (!InRange(result.layer, config.layers.size()))
        return Fault(absl::StrCat("invalid layer index ", result.layer));
    for (const CacheConfig::ChainResult& chain : record.chains)
      for (int layer : chain.layers)
        if (!InRange(layer, config.layers.size()))
          return Fault(absl::StrCat("invalid layer index ", layer));
  }
  return absl::OkStatus();
}

absl::StatusOr<CacheConfig> ParseCacheConfig(absl::string_view json) {
  CacheConfig config;
  KILN_RETURN_IF_ERROR(Read(json, Place::kConfig, &config));
  KILN_RETURN_IF_ERROR(CheckLayers(config.layers));
  KILN_RETURN_IF_ERROR(CheckCacheResults(config));
  return config;
}

absl::StatusOr<std::vector<CacheConfig::Record>> ParseCacheRecords(absl::string_view json) {
  CacheConfig config;
  KILN_RETURN_IF_ERROR(Read(json, Place::kRecords, &config));
  return std::move(config.records);
}

}  // namespace kiln::daemon
