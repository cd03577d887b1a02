#include "daemon/remotecache/cache_export.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "daemon/exporter/parallel.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr size_t kResultsAtOnce = 4;

CacheConfig::Record RecordOf(const WalkedKey& key) {
  CacheConfig::Record record;
  record.digest = key.digest;
  for (const std::vector<WalkedKey::Link>& links : key.inputs) {
    std::vector<CacheConfig::Input>& alternatives = record.inputs.emplace_back();
    for (const WalkedKey::Link& link : links) alternatives.push_back({link.selector, link.key});
  }
  return record;
}

}  // namespace

absl::StatusOr<std::vector<std::vector<CacheLayerBlob>>> CollectLayers(
    absl::Span<const WalkedKey> keys, CacheMode mode, ResultLayers& layers,
    std::vector<absl::Time>* created_at) {
  std::vector<std::vector<CacheLayerBlob>> found(keys.size());
  created_at->assign(keys.size(), absl::InfinitePast());
  // What is asked for first makes layers that the others then have.
  const auto collect = [&](bool of_root) {
    std::vector<size_t> wanted;
    for (size_t i = 0; i < keys.size(); ++i)
      if (keys[i].of_root == of_root && !keys[i].results.empty()) wanted.push_back(i);
    return RunParallel(wanted.size(), kResultsAtOnce, [&](size_t n) -> absl::Status {
      const size_t i = wanted[n];
      for (const KeyResult& result : keys[i].results) {
        absl::StatusOr<std::vector<CacheLayerBlob>> chain =
            layers.LayersOf(result, of_root || mode == CacheMode::kMax);
        if (absl::IsNotFound(chain.status())) continue;
        KILN_RETURN_IF_ERROR(chain.status());
        found[i] = *std::move(chain);
        (*created_at)[i] = result.created_at;
        break;
      }
      return absl::OkStatus();
    });
  };
  KILN_RETURN_IF_ERROR(collect(true));
  KILN_RETURN_IF_ERROR(collect(false));
  return found;
}

absl::StatusOr<CacheExport> MakeCacheExport(absl::Span<const WalkedKey> keys, CacheMode mode,
                                            ResultLayers& layers) {
  std::vector<absl::Time> created_at;
  KILN_ASSIGN_OR_RETURN(const auto chains, CollectLayers(keys, mode, layers, &created_at));
  CacheExport out;
  absl::flat_hash_map<std::pair<Digest, int>, int> places;  // blob, parent -> layer
  absl::flat_hash_map<Digest, const CacheLayerBlob*> blobs;
  for (size_t i = 0; i < keys.size(); ++i) {
    CacheConfig::Record record = RecordOf(keys[i]);
    int top = -1;
    for (const CacheLayerBlob& layer : chains[i]) {
      const Digest& digest = layer.blob.descriptor.digest;
      const auto [place, is_new] =
          places.emplace(std::pair(digest, top), static_cast<int>(out.config.layers.size()));
      if (is_new) out.config.layers.push_back({digest, top, std::nullopt});
      blobs.emplace(digest, &layer);
      top = place->second;
    }
    if (top >= 0) record.results.push_back({top, created_at[i]});
    out.config.records.push_back(std::move(record));
  }
  SortCacheConfig(&out.config);
  for (const CacheConfig::Layer& layer : out.config.layers)
    out.layers.push_back(*blobs.at(layer.blob));
  return out;
}

absl::StatusOr<std::string> MakeInlineCache(absl::Span<const WalkedKey> keys,
                                            absl::Span<const Digest> diff_ids,
                                            ResultLayers& layers) {
  std::vector<absl::Time> created_at;
  KILN_ASSIGN_OR_RETURN(const auto chains,
                        CollectLayers(keys, CacheMode::kMin, layers, &created_at));
  absl::flat_hash_map<Digest, int> places;
  for (size_t i = 0; i < diff_ids.size(); ++i) places[diff_ids[i]] = static_cast<int>(i);
  std::vector<CacheConfig::Record> records;
  bool any = false;
  for (size_t i = 0; i < keys.size(); ++i) {
    CacheConfig::Record record = RecordOf(keys[i]);
    bool prefix = chains[i].size() <= diff_ids.size(), known = true;
    std::vector<int> chain;
    for (size_t n = 0; n < chains[i].size(); ++n) {
      const Digest& diff_id = chains[i][n].blob.diff_id;
      prefix = prefix && diff_id == diff_ids[n];
      const auto place = places.find(diff_id);
      known = known && place != places.end();
      if (known) chain.push_back(place->second);
    }
    if (!chains[i].empty() && prefix) {
      record.results.push_back({static_cast<int>(chains[i].size()) - 1, created_at[i]});
    } else if (!chains[i].empty() && known) {
      record.chains.push_back({std::move(chain), created_at[i]});
    }
    any = any || !record.results.empty() || !record.chains.empty();
    records.push_back(std::move(record));
  }
  if (!any) return std::string();
  SortCacheRecords(&records);
  return CacheRecordsJson(records);
}

}  // namespace kiln::daemon
