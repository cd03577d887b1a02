#include "daemon/exporter/archive_source.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/exporter/memory_file.h"
#include "daemon/registry/reference.h"
#include "proto/go_json.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr char kLayout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";

std::string BlobPath(const Digest& digest) { return absl::StrCat("blobs/sha256/", digest.hex()); }

// `docker load` looks only at this file.
std::string DockerManifest(const Digest& config, const std::vector<Digest>& layers,
                           const std::vector<std::string>& names) {
  GoJson json;
  json.BeginArray().BeginObject().Key("Config").String(BlobPath(config));
  json.Key("RepoTags");
  if (names.empty()) {
    json.Null();
  } else {
    json.BeginArray();
    for (const std::string& name : names) {
      const auto reference = Reference::ParseFamiliar(name);
      json.String(reference.ok() ? reference->Familiar() : name);
    }
    json.EndArray();
  }
  json.Key("Layers").BeginArray();
  for (const Digest& layer : layers) json.String(BlobPath(layer));
  json.EndArray().EndObject().EndArray();
  return json.Take();
}

}  // namespace

std::string LayoutIndex(const ArchiveNames& names) {
  Index index;
  index.media_type = kOciIndex;
  if (names.names.empty()) index.manifests.push_back(names.root);
  for (const std::string& name : names.names) {
    ManifestEntry entry = names.root;
    entry.descriptor.annotations["io.containerd.image.name"] = name;
    const auto reference = Reference::ParseFamiliar(name);
    if (reference.ok() && !reference->tag.empty())
      entry.descriptor.annotations["org.opencontainers.image.ref.name"] = reference->tag;
    index.manifests.push_back(std::move(entry));
  }
  return index.ToCompactJson();
}

absl::StatusOr<std::unique_ptr<ArchiveSource>> ArchiveSource::Create(store::BlobStore* blobs,
                                                                     const WrittenImage& image,
                                                                     const ArchiveNames& names) {
  std::unique_ptr<ArchiveSource> source(new ArchiveSource(blobs));
  for (const char* directory : {"blobs", "blobs/sha256"})
    source->files_[directory] = {fsutil::kModeDir | 0755, 0, "", std::nullopt};
  for (const store::Descriptor& manifest : image.manifests)
    KILN_RETURN_IF_ERROR(source->AddBlob(manifest.digest));
  for (const store::Descriptor& blob : image.blobs)
    KILN_RETURN_IF_ERROR(source->AddBlob(blob.digest));
  for (const store::LayerBlob& layer : image.layers)
    if (!IsForeignLayer(layer.descriptor.media_type))
      KILN_RETURN_IF_ERROR(source->AddBlob(layer.descriptor.digest));
  source->AddFile("oci-layout", 0444, kLayout);
  source->AddFile("index.json", 0644, LayoutIndex(names));
  if (!names.docker) return source;
  if (!image.config.has_value())
    return absl::InvalidArgumentError(
        "docker exporter does not currently support exporting manifest lists");
  KILN_ASSIGN_OR_RETURN(const std::string manifest,
                        ReadSmallBlob(*blobs, image.root.descriptor.digest));
  KILN_ASSIGN_OR_RETURN(const std::vector<ManifestEntry> references, References(manifest));
  std::vector<Digest> layers;
  for (size_t i = 1; i < references.size(); ++i) layers.push_back(references[i].descriptor.digest);
  source->AddFile("manifest.json", 0644, DockerManifest(*image.config, layers, names.names));
  return source;
}

absl::Status ArchiveSource::AddBlob(const Digest& digest) {
  const std::string path = BlobPath(digest);
  if (files_.contains(path)) return absl::OkStatus();
  KILN_ASSIGN_OR_RETURN(const int64_t size, blobs_->Size(digest));
  files_[path] = {0444, size, "", digest};
  return absl::OkStatus();
}

void ArchiveSource::AddFile(const std::string& name, uint32_t mode, std::string bytes) {
  const auto size = static_cast<int64_t>(bytes.size());
  files_[name] = {mode, size, std::move(bytes), std::nullopt};
}

absl::Status ArchiveSource::Walk(const std::function<absl::Status(fsutil::Stat* stat)>& visit) {
  for (const auto& [path, file] : files_) {
    fsutil::Stat stat;
    stat.path = path;
    stat.mode = file.mode;
    stat.size = file.size;
    KILN_RETURN_IF_ERROR(visit(&stat));
  }
  return absl::OkStatus();
}

absl::StatusOr<Fd> ArchiveSource::Open(const std::string& path) {
  const auto found = files_.find(path);
  if (found == files_.end())
    return absl::NotFoundError(absl::StrCat(path, " is not part of the archive"));
  if (found->second.digest.has_value()) return blobs_->OpenBlob(*found->second.digest);
  return MemoryFile(found->second.bytes);
}

}  // namespace kiln::daemon
