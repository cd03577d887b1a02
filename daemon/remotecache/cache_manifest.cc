#include "daemon/remotecache/cache_manifest.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/image/manifest.h"
#include "daemon/image/media_types.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr char kUncompressed[] = "containerd.io/uncompressed";
constexpr char kCreatedAt[] = "buildkit/createdat";
constexpr char kInlineMember[] = "moby.buildkit.cache.v0";

store::Descriptor DescriptorOf(const char* media_type, absl::string_view bytes) {
  return {media_type, Digest::Of(bytes), static_cast<int64_t>(bytes.size()), {}, {}};
}

// A layer from the descriptor of a cache or image; nullopt when nothing says what it unpacks to.
std::optional<store::LayerBlob> LayerOf(const store::Descriptor& descriptor,
                                        const std::string& origin) {
  store::LayerBlob layer;
  layer.descriptor = descriptor;
  layer.descriptor.media_type = MediaTypes{}.Layer(descriptor.media_type);
  layer.origin = origin;
  const auto& annotations = descriptor.annotations;
  if (const auto diff_id = annotations.find(kUncompressed); diff_id != annotations.end()) {
    const absl::StatusOr<Digest> digest = Digest::Parse(diff_id->second);
    if (!digest.ok()) return std::nullopt;
    layer.diff_id = *digest;
  } else if (layer.descriptor.media_type == store::kOciLayerTar) {
    layer.diff_id = descriptor.digest;
  } else {
    return std::nullopt;
  }
  if (const auto created = annotations.find(kCreatedAt); created != annotations.end())
    layer.created_at = ParseGoTime(created->second).value_or(absl::InfinitePast());
  layer.descriptor.annotations.erase(kUncompressed);
  layer.descriptor.annotations.erase(kCreatedAt);
  return layer;
}

// When and how the layers of an image came to be, from its history; shorter when that is.
void AddHistory(const nlohmann::json& config, std::vector<store::LayerBlob>* layers) {
  const auto history = config.find("history");
  if (history == config.end() || !history->is_array()) return;
  size_t next = 0;
  for (const auto& item : *history) {
    if (next >= layers->size()) return;
    if (!item.is_object()) return;
    const auto empty = item.find("empty_layer");
    if (empty != item.end() && empty->is_boolean() && empty->get<bool>()) continue;
    store::LayerBlob& layer = (*layers)[next++];
    if (const auto by = item.find("created_by"); by != item.end() && by->is_string())
      layer.description = by->get<std::string>();
    if (const auto at = item.find("created"); at != item.end() && at->is_string())
      layer.created_at = ParseGoTime(at->get<std::string>()).value_or(absl::InfinitePast());
  }
}

}  // namespace

CacheManifest MakeCacheManifest(const CacheExport& cache, const CacheManifestForm& form) {
  const MediaTypes types{form.oci_media_types};
  CacheManifest out;
  out.config_json = CacheConfigJson(cache.config);
  out.config = DescriptorOf(kCacheConfigMediaType, out.config_json);
  std::vector<ManifestEntry> entries;
  absl::flat_hash_set<Digest> seen;
  for (const CacheLayerBlob& layer : cache.layers) {
    store::Descriptor descriptor = layer.blob.descriptor;
    descriptor.media_type = types.Layer(descriptor.media_type);
    descriptor.annotations[kUncompressed] = layer.blob.diff_id.ToString();
    if (layer.blob.created_at != absl::InfinitePast())
      descriptor.annotations[kCreatedAt] = GoTimeText(layer.blob.created_at);
    entries.push_back({descriptor});
    if (!seen.insert(descriptor.digest).second) continue;
    out.layers.push_back(layer);
    out.layers.back().blob.descriptor = descriptor;
  }
  const char* media_type = form.image_manifest ? types.manifest() : types.index();
  if (form.image_manifest) {
    Manifest manifest;
    manifest.media_type = media_type;
    manifest.config = {out.config};
    manifest.layers = std::move(entries);
    out.json = manifest.ToCompactJson();
  } else {
    Index index;
    index.media_type = media_type;
    index.manifests = std::move(entries);
    index.manifests.push_back({out.config});
    out.json = index.ToCompactJson();
  }
  out.descriptor = DescriptorOf(media_type, out.json);
  return out;
}

absl::StatusOr<FetchedManifest> ReadCacheManifest(absl::string_view json,
                                                  const std::string& origin) {
  KILN_ASSIGN_OR_RETURN(const std::vector<ManifestEntry> entries, References(json));
  const nlohmann::json parsed = nlohmann::json::parse(json.begin(), json.end(), nullptr, false);
  const bool is_image = parsed.contains("config");
  FetchedManifest out;
  for (const ManifestEntry& entry : entries)
    if (entry.descriptor.media_type == kCacheConfigMediaType) out.config = entry.descriptor;
  for (size_t i = 0; i < entries.size(); ++i) {
    const store::Descriptor& descriptor = entries[i].descriptor;
    if (descriptor.media_type == kCacheConfigMediaType) continue;
    if (out.config.has_value()) {
      if (is_image && i == 0) continue;  // a config beside one that is a layer
      if (auto layer = LayerOf(descriptor, origin); layer.has_value())
        out.layers.push_back(*std::move(layer));
    } else if (!is_image) {
      out.manifests.push_back(descriptor);
    } else if (i == 0) {
      out.image_config = descriptor;
    } else {
      out.image_layers.push_back(descriptor);
    }
  }
  return out;
}

absl::StatusOr<std::optional<ImportedConfig>> ReadInlineCache(
    absl::string_view image_config, absl::Span<const store::Descriptor> layers,
    const std::string& origin) {
  const nlohmann::json config =
      nlohmann::json::parse(image_config.begin(), image_config.end(), nullptr, false);
  if (!config.is_object()) return absl::InvalidArgumentError("image config: not a JSON object");
  const auto cache = config.find(kInlineMember);
  if (cache == config.end() || !cache->is_string() || layers.empty()) return std::nullopt;
  std::string records;
  if (!absl::Base64Unescape(cache->get<std::string>(), &records))
    return absl::InvalidArgumentError(
        absl::StrCat("image config: \"", kInlineMember, "\" is not base64"));
  const auto rootfs = config.find("rootfs");
  if (rootfs == config.end() || !rootfs->is_object()) return std::nullopt;
  const auto diff_ids = rootfs->find("diff_ids");
  if (diff_ids == rootfs->end() || !diff_ids->is_array() || diff_ids->size() != layers.size())
    return std::nullopt;

  std::vector<store::LayerBlob> blobs;
  for (size_t i = 0; i < layers.size(); ++i) {
    if (!(*diff_ids)[i].is_string())
      return absl::InvalidArgumentError("image config: a diff id that is no text");
    store::LayerBlob blob;
    blob.descriptor = layers[i];
    blob.descriptor.media_type = MediaTypes{}.Layer(layers[i].media_type);
    blob.origin = origin;
    KILN_ASSIGN_OR_RETURN(blob.diff_id, Digest::Parse((*diff_ids)[i].get<std::string>()));
    blobs.push_back(std::move(blob));
  }
  AddHistory(config, &blobs);
  ImportedConfig out;
  for (size_t i = 0; i < blobs.size(); ++i) {
    out.config.layers.push_back(
        {blobs[i].descriptor.digest, static_cast<int>(i) - 1, std::nullopt});
    out.blobs.emplace(blobs[i].descriptor.digest, blobs[i]);
  }
  KILN_ASSIGN_OR_RETURN(out.config.records, ParseCacheRecords(records));
  KILN_RETURN_IF_ERROR(CheckCacheResults(out.config));
  return out;
}

}  // namespace kiln::daemon
