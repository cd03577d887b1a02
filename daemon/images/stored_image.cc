#include "daemon/images/stored_image.h"

#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/image/platform_json.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr size_t kMaxManifests = 10000;  // of one image

// Walks from the root; what hangs on a manifest comes before it.
class Reading {
 public:
  Reading(store::BlobStore& blobs, const store::NamedImage& named) : blobs_(blobs) {
    for (const auto& layer : named.remote_layers) remote_[layer.descriptor.digest] = &layer;
  }

  absl::Status Visit(const store::Descriptor& descriptor) {
    if (!seen_.insert(descriptor.digest).second) return absl::OkStatus();
    if (seen_.size() > kMaxManifests)
      return absl::InvalidArgumentError("an image of too many parts");
    if (!IsIndex(descriptor.media_type) && !IsManifest(descriptor.media_type)) {
      AddBlob(descriptor);
      return absl::OkStatus();
    }
    const auto bytes = ReadSmallBlob(blobs_, descriptor.digest);
    if (absl::IsNotFound(bytes.status()))
      return absl::DataLossError(
          absl::StrCat("manifest ", descriptor.digest.ToString(), " is not stored any more"));
    KILN_RETURN_IF_ERROR(bytes.status());
    KILN_ASSIGN_OR_RETURN(const std::vector<ManifestEntry> references, References(*bytes));
    for (const ManifestEntry& entry : references) KILN_RETURN_IF_ERROR(Visit(entry.descriptor));
    if (IsManifest(descriptor.media_type) && !references.empty())
      image.config = references[0].descriptor.digest;
    image.manifests.push_back(descriptor);
    return absl::OkStatus();
  }

  WrittenImage image;

 private:
  void AddBlob(const store::Descriptor& descriptor) {
    const auto remote = remote_.find(descriptor.digest);
    if (remote == remote_.end() && !IsForeignLayer(descriptor.media_type)) {
      image.blobs.push_back(descriptor);
      return;
    }
    store::LayerBlob layer;
    layer.descriptor = descriptor;
    if (remote != remote_.end()) {
      layer.diff_id = remote->second->diff_id;
      layer.origin = remote->second->origin;
    }
    image.layers.push_back(std::move(layer));
  }

  store::BlobStore& blobs_;
  std::map<Digest, const store::NamedImage::RemoteLayer*> remote_;
  std::set<Digest> seen_;
};

}  // namespace

absl::StatusOr<WrittenImage> ReadStoredImage(store::BlobStore& blobs,
                                             const store::NamedImage& image) {
  Reading reading(blobs, image);
  KILN_RETURN_IF_ERROR(Annotate(reading.Visit(image.root), absl::StrCat("image ", image.name)));
  reading.image.root.descriptor = image.root;
  return std::move(reading.image);
}

absl::StatusOr<ImageSummary> Summarize(store::BlobStore& blobs, const store::NamedImage& image) {
  KILN_ASSIGN_OR_RETURN(const WrittenImage parts, ReadStoredImage(blobs, image));
  ImageSummary summary;
  for (const auto* list : {&parts.manifests, &parts.blobs})
    for (const store::Descriptor& part : *list) summary.size_bytes += part.size_bytes;
  for (const store::LayerBlob& layer : parts.layers) {
    summary.size_bytes += layer.descriptor.size_bytes;
    if (absl::IsNotFound(blobs.Size(layer.descriptor.digest).status()))
      summary.missing_bytes += layer.descriptor.size_bytes;
  }
  std::set<std::string> platforms;
  for (const store::Descriptor& manifest : parts.manifests) {
    if (!IsManifest(manifest.media_type)) continue;
    KILN_ASSIGN_OR_RETURN(const std::string bytes, ReadSmallBlob(blobs, manifest.digest));
    KILN_ASSIGN_OR_RETURN(const auto references, References(bytes));
    const auto config = ReadSmallBlob(blobs, references[0].descriptor.digest);
    if (!config.ok()) continue;
    const auto platform = PlatformFromJson(*config);
    if (!platform.ok() || platform->os.empty() || platform->os == "unknown") continue;
    platforms.insert(FormatPlatform(NormalizePlatform(*platform)));
  }
  summary.platforms.assign(platforms.begin(), platforms.end());
  return summary;
}

}  // namespace kiln::daemon
