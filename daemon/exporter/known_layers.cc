#include "daemon/exporter/known_layers.h"

#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/image/manifest.h"
#include "daemon/image/read_manifest.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

absl::StatusOr<std::set<Digest>> ParseKnownLayers(const std::string& value) {
  std::set<Digest> known;
  for (const absl::string_view text : absl::StrSplit(value, ',', absl::SkipEmpty())) {
    const absl::StatusOr<Digest> digest = Digest::Parse(text);
    if (!digest.ok())
      return absl::InvalidArgumentError(
          absl::StrCat("invalid ", kKnownLayers, ": ", digest.status().message()));
    known.insert(*digest);
  }
  return known;
}

absl::Status DropKnownLayers(const std::set<Digest>& known, store::BlobStore& blobs,
                             WrittenImage* image) {
  if (known.empty() || !image->config.has_value()) return absl::OkStatus();
  KILN_ASSIGN_OR_RETURN(const std::string manifest,
                        ReadSmallBlob(blobs, image->root.descriptor.digest));
  KILN_ASSIGN_OR_RETURN(const std::vector<ManifestEntry> references, References(manifest));
  std::map<Digest, Digest> diff_ids;
  for (const store::LayerBlob& layer : image->layers)
    diff_ids.emplace(layer.descriptor.digest, layer.diff_id);
  std::set<Digest> wanted;
  Digest chain;
  for (size_t i = 1; i < references.size(); ++i) {  // the config is first
    const Digest& blob = references[i].descriptor.digest;
    const auto diff_id = diff_ids.find(blob);
    if (diff_id == diff_ids.end())
      return absl::InternalError(
          absl::StrCat("the manifest names an unknown layer ", blob.ToString()));
    chain = i == 1 ? diff_id->second : ChainId({chain, diff_id->second});
    if (!known.contains(blob) && !known.contains(chain)) wanted.insert(blob);
  }
  std::erase_if(image->layers, [&](const store::LayerBlob& layer) {
    return !wanted.contains(layer.descriptor.digest);
  });
  return absl::OkStatus();
}

}  // namespace kiln::daemon
