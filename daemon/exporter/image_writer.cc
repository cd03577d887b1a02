#include "daemon/exporter/image_writer.h"

#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/attest/spdx.h"
#include "daemon/attest/statement.h"
#include "daemon/exporter/layer_files.h"
#include "daemon/exporter/parallel.h"
#include "daemon/image/image_config.h"
#include "daemon/image/platform_json.h"
#include "daemon/image/raw_json.h"
#include "daemon/registry/reference.h"
#include "daemon/source/transfer_progress.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr char kConfigKey[] = "containerimage.config";
constexpr char kBaseConfigKey[] = "containerimage.base.config";
constexpr char kRewrittenKey[] = "buildkit/rewritten-timestamp";
constexpr char kSpdx[] = "https://spdx.dev/Document";
constexpr size_t kPlatformsAtOnce = 4;
constexpr size_t kFetchesAtOnce = 4;

struct ResultPlatform {
  std::string id;
  Platform platform;
};

std::string MetadataFor(const std::map<std::string, std::string>& metadata, const char* key,
                        const std::string& platform_id) {
  auto found = metadata.find(absl::StrCat(key, "/", platform_id));
  if (found == metadata.end()) found = metadata.find(key);
  return found == metadata.end() ? "" : found->second;
}

// A result that names no platform has that of its config, else that of this machine.
absl::StatusOr<ResultPlatform> ImpliedPlatform(const std::string& config) {
  Platform platform;
  if (!config.empty() && config != "null") {
    auto read = PlatformFromJson(config);
    if (read.ok()) platform = *std::move(read);
    if (platform.os.empty() != platform.architecture.empty())
      return absl::InvalidArgumentError(
          "invalid image config: os and architecture must be specified together");
  }
  if (platform.os.empty()) platform = HostPlatform();
  platform = NormalizePlatform(std::move(platform));
  return ResultPlatform{FormatPlatform(platform), platform};
}

absl::StatusOr<std::vector<ResultPlatform>> ResultPlatforms(
    const ExportSource& source, const std::map<std::string, std::string>& metadata) {
  std::vector<ResultPlatform> platforms;
  for (const ExportSource::Platform& given : source.platforms) {
    KILN_ASSIGN_OR_RETURN(Platform platform, PlatformFromJson(given.json));
    if (platform.os.empty() || platform.architecture.empty())
      return absl::InvalidArgumentError(
          absl::StrCat("invalid platform value ", given.json, " for exporter"));
    platforms.push_back({given.id, NormalizePlatform(std::move(platform))});
  }
  if (!platforms.empty()) return platforms;
  if (source.is_map)
    return absl::InvalidArgumentError("unable to export multiple refs, missing platforms mapping");
  const auto config = metadata.find(kConfigKey);
  KILN_ASSIGN_OR_RETURN(ResultPlatform implied,
                        ImpliedPlatform(config == metadata.end() ? "" : config->second));
  platforms.push_back(std::move(implied));
  return platforms;
}

// Annotations that tell only this program something are left out of manifests.
std::map<std::string, std::string> PublicAnnotations(
    const std::map<std::string, std::string>& annotations, bool oci) {
  std::map<std::string, std::string> out;
  if (!oci) return out;
  for (const auto& [key, value] : annotations) {
    if (key == "containerd.io/uncompressed" || key == "buildkit/createdat" ||
        key == "buildkit/description" ||
        absl::StartsWith(key, "containerd.io/distribution.source."))
      continue;
    out[key] = value;
  }
  return out;
}

// Marks one piece of work in the status stream.
TransferProgress Step(const ExportContext& context, std::string id) {
  return TransferProgress(*context.progress, std::move(id), "");
}

// One Write. Platforms are worked on in parallel; the order of what comes out does not depend on
// it.
class Writing {
 public:
  Writing(store::LayerStore* layers, const ExportSource& source, const ImageOptions& options,
          const ImagePlan& plan, const ExportContext& context, BlobLease& lease)
      : layers_(layers),
        source_(source),
        options_(options),
        plan_(plan),
        context_(context),
        lease_(lease) {}

  absl::StatusOr<WrittenImage> Run() {
    KILN_ASSIGN_OR_RETURN(platforms_, ResultPlatforms(source_, plan_.metadata));
    KILN_RETURN_IF_ERROR(CheckAnnotations());
    const bool indexed = source_.is_map || HasAttachable();
    if (!indexed && platforms_.size() > 1)
      return absl::InvalidArgumentError(
          "cannot export multiple platforms without multi-platform enabled");
    const AnnotationSet common = plan_.annotations.For(nullptr);
    if (!indexed && (!common.index.empty() || !common.index_descriptor.empty()))
      return absl::InvalidArgumentError(
          "index annotations not supported for single platform export");
    if (indexed && !plan_.types.oci && HasAttachable())
      return absl::InvalidArgumentError("cannot export attestations with \"oci-mediatypes=false\"");

    parts_.resize(platforms_.size());
    {
      const TransferProgress step = Step(context_, "exporting layers");
      KILN_RETURN_IF_ERROR(RunParallel(platforms_.size(), kPlatformsAtOnce,
                                       [this](size_t i) { return MakeLayers(i); }));
    }
    for (size_t i = 0; i < platforms_.size(); ++i) KILN_RETURN_IF_ERROR(WriteManifest(i));
    if (!indexed) {
      image_.root = parts_[0].manifest;
      image_.config = parts_[0].config.descriptor.digest;
      return std::move(image_);
    }
    for (size_t i = 0; i < platforms_.size(); ++i) KILN_RETURN_IF_ERROR(WriteAttestations(i));
    KILN_RETURN_IF_ERROR(WriteIndex(common));
    return std::move(image_);
  }

 private:
  struct Part {
    std::vector<store::LayerBlob> layers;
    std::optional<absl::Time> epoch;
    std::string base_config;
    ManifestEntry config, manifest;
    std::optional<ManifestEntry> attestations;
  };

  // What is attached to a platform; nullptr: nothing.
  const std::vector<Attestation>* AttestationsOf(const std::string& platform_id) const {
    if (!options_.attestations) return nullptr;
    return source_.FindAttestations(platform_id);
  }

  bool HasAttachable() const {
    for (const ResultPlatform& platform : platforms_) {
      const std::vector<Attestation>* all = AttestationsOf(platform.id);
      if (all == nullptr) continue;
      for (const Attestation& attestation : *all)
        if (options_.attestation_inline || !attestation.inline_only()) return true;
    }
    return false;
  }

  absl::Status CheckAnnotations() const {
    for (const std::string& named : plan_.annotations.platforms()) {
      bool known = false;
      for (const ResultPlatform& platform : platforms_)
        known |= FormatPlatform(platform.platform) == named || platform.id == named;
      if (!known)
        return absl::InvalidArgumentError(
            absl::StrCat("invalid annotation: no platform ", named, " found in source"));
    }
    return absl::OkStatus();
  }

  void Warn(const char* text) {
    solver::Warning warning;
    warning.short_text = text;
    context_.progress->Warn(std::move(warning));
  }

  absl::Status MakeLayers(size_t i) {
    Part& part = parts_[i];
    KILN_ASSIGN_OR_RETURN(const store::RefPtr ref, source_.FindRef(platforms_[i].id));
    KILN_ASSIGN_OR_RETURN(part.epoch, options_.epoch.For(source_, platforms_[i].id));
    part.base_config = MetadataFor(plan_.metadata, kBaseConfigKey, platforms_[i].id);
    store::LayerFormat format = options_.layers;
    std::vector<Digest> base;
    if (options_.rewrite_timestamp && part.epoch.has_value()) {
      format.rewrite_timestamp = part.epoch;
      if (!part.base_config.empty()) {
        KILN_ASSIGN_OR_RETURN(base, DiffIds(part.base_config));
      }
      format.rewrite_from = base.size();
    } else if (options_.rewrite_timestamp) {
      Warn("rewrite-timestamp has no effect: no SOURCE_DATE_EPOCH is given");
    }
    KILN_ASSIGN_OR_RETURN(part.layers, layers_->Layers(ref, format, context_.cancel));
    if (!format.rewrite_timestamp.has_value()) return absl::OkStatus();
    // The result need not stand on all of its base image: what is not the base's is rewritten.
    size_t same = 0;
    while (same < base.size() && same < part.layers.size() &&
           part.layers[same].diff_id == base[same])
      ++same;
    if (same < base.size() && same < part.layers.size()) {
      format.rewrite_from = same;
      KILN_ASSIGN_OR_RETURN(part.layers, layers_->Layers(ref, format, context_.cancel));
    }
    for (size_t n = same; n < part.layers.size(); ++n)
      part.layers[n].descriptor.annotations.try_emplace(
          kRewrittenKey, absl::StrCat(absl::ToUnixSeconds(*part.epoch)));
    return absl::OkStatus();
  }

  store::Descriptor PublicLayer(const store::Descriptor& descriptor) const {
    store::Descriptor out = descriptor;
    if (!options_.prefer_nondist_layers) {
      out.media_type = DistributableLayer(out.media_type);
      out.urls.clear();
    }
    out.media_type = plan_.types.Layer(out.media_type);
    out.annotations = PublicAnnotations(out.annotations, plan_.types.oci);
    return out;
  }

  absl::StatusOr<ManifestEntry> Store(const std::string& media_type, const std::string& bytes) {
    ManifestEntry entry;
    entry.descriptor.media_type = media_type;
    entry.descriptor.size_bytes = static_cast<int64_t>(bytes.size());
    KILN_ASSIGN_OR_RETURN(entry.descriptor.digest, lease_.Put(bytes));
    return entry;
  }

  void AddBlob(const store::Descriptor& descriptor) {
    if (seen_.insert(descriptor.digest).second) image_.blobs.push_back(descriptor);
  }

  absl::Status WriteManifest(size_t i) {
    Part& part = parts_[i];
    const ResultPlatform& platform = platforms_[i];
    ImageConfigInput input;
    input.config = MetadataFor(plan_.metadata, kConfigKey, platform.id);
    input.base_config = part.base_config;
    input.default_platform = source_.is_map ? platform.platform : HostPlatform();
    input.epoch = part.epoch;
    Manifest manifest;
    manifest.media_type = plan_.types.manifest();
    for (const store::LayerBlob& layer : part.layers) {
      input.diff_ids.push_back(layer.diff_id);
      LayerFacts facts;
      if (layer.created_at != absl::InfinitePast()) facts.created_at = layer.created_at;
      facts.description = layer.description;
      facts.steps_below = layer.steps_below;
      facts.steps_above = layer.steps_above;
      input.layers.push_back(std::move(facts));
      ManifestEntry entry;
      entry.descriptor = PublicLayer(layer.descriptor);
      if (seen_.insert(entry.descriptor.digest).second) {
        image_.layers.push_back(layer);
        image_.layers.back().descriptor = entry.descriptor;
      }
      if (layer.origin.empty()) KILN_RETURN_IF_ERROR(lease_.Hold(layer.descriptor.digest));
      manifest.layers.push_back(std::move(entry));
    }
    if (context_.inline_cache != nullptr) {
      KILN_ASSIGN_OR_RETURN(input.inline_cache, context_.inline_cache(platform.id, input.diff_ids));
    }
    KILN_ASSIGN_OR_RETURN(const ImageConfig config, MakeImageConfig(input));
    if (config.surplus_history) Warn("invalid image config with unaccounted layers");
    KILN_ASSIGN_OR_RETURN(part.config, Store(plan_.types.config(), config.json));
    AddBlob(part.config.descriptor);
    manifest.config = part.config;
    const AnnotationSet annotations = plan_.annotations.For(&platform.platform);
    manifest.annotations = annotations.manifest;
    KILN_ASSIGN_OR_RETURN(part.manifest, Store(manifest.media_type, manifest.ToJson()));
    {
      const TransferProgress step =
          Step(context_,
               absl::StrCat("exporting manifest ", part.manifest.descriptor.digest.ToString()));
    }
    {
      const TransferProgress step = Step(
          context_, absl::StrCat("exporting config ", part.config.descriptor.digest.ToString()));
    }
    part.manifest.platform = platform.platform;
    part.manifest.descriptor.annotations = annotations.manifest_descriptor;
    image_.manifests.push_back(part.manifest.descriptor);
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<StatementSubject>> DefaultSubjects(const Platform& platform,
                                                                const Digest& manifest) const {
    std::vector<StatementSubject> subjects;
    for (const absl::string_view name : absl::StrSplit(plan_.names, ',', absl::SkipEmpty())) {
      KILN_ASSIGN_OR_RETURN(const Reference reference, Reference::ParseFamiliar(name));
      subjects.push_back({ImagePurl("docker", reference, &platform), manifest});
    }
    // An image without a name has one, too: a statement about nothing is worth nothing.
    if (subjects.empty()) subjects.push_back({"_", manifest});
    return subjects;
  }

  // Lists of what the image consists of name files; the layer of each is known only now.
  absl::Status NameLayers(const Part& part, std::vector<LoadedAttestation>* attestations) {
    LayerFiles files(layers_, &lease_, part.layers);
    for (LoadedAttestation& each : *attestations) {
      if (!each.is_core_sbom() || each.predicate_type != kSpdx) continue;
      KILN_ASSIGN_OR_RETURN(each.predicate,
                            NameLayersInSpdx(each.predicate, [&](const std::string& path) {
                              return files.Find(path, context_.cancel);
                            }));
    }
    return absl::OkStatus();
  }

  absl::Status WriteAttestations(size_t i) {
    const std::vector<Attestation>* attestations = AttestationsOf(platforms_[i].id);
    if (attestations == nullptr) return absl::OkStatus();
    const store::Descriptor& target = parts_[i].manifest.descriptor;
    KILN_ASSIGN_OR_RETURN(const auto subjects,
                          DefaultSubjects(platforms_[i].platform, target.digest));
    KILN_ASSIGN_OR_RETURN(auto loaded, LoadAttestations(*attestations, context_.cancel));
    KILN_RETURN_IF_ERROR(NameLayers(parts_[i], &loaded));
    Manifest manifest;
    manifest.media_type = plan_.types.manifest();
    std::vector<Digest> digests;
    for (const LoadedAttestation& attestation : loaded) {
      KILN_ASSIGN_OR_RETURN(ManifestEntry layer,
                            Store(kInToto, StatementToJson(attestation, subjects)));
      layer.descriptor.annotations["in-toto.io/predicate-type"] = attestation.predicate_type;
      AddBlob(layer.descriptor);
      digests.push_back(layer.descriptor.digest);
      manifest.layers.push_back(std::move(layer));
    }
    if (plan_.artifact) {
      manifest.artifact_type = kAttestationManifest;
      KILN_ASSIGN_OR_RETURN(manifest.config, Store(kOciEmpty, "{}"));
      AddBlob(manifest.config.descriptor);
      manifest.config.data = "{}";
      ManifestEntry subject;
      subject.descriptor.media_type = target.media_type;
      subject.descriptor.digest = target.digest;
      subject.descriptor.size_bytes = target.size_bytes;
      manifest.subject = std::move(subject);
    } else {
      KILN_ASSIGN_OR_RETURN(manifest.config,
                            Store(plan_.types.config(), AttestationConfig(digests)));
      AddBlob(manifest.config.descriptor);
    }
    KILN_ASSIGN_OR_RETURN(ManifestEntry entry, Store(manifest.media_type, manifest.ToJson()));
    const TransferProgress step = Step(context_, absl::StrCat("exporting attestation manifest ",
                                                              entry.descriptor.digest.ToString()));
    image_.manifests.push_back(entry.descriptor);
    Platform unknown;
    unknown.os = unknown.architecture = "unknown";
    entry.platform = unknown;
    entry.descriptor.annotations = {
        {"vnd.docker.reference.type", "attestation-manifest"},
        {"vnd.docker.reference.digest", target.digest.ToString()},
    };
    parts_[i].attestations = std::move(entry);
    return absl::OkStatus();
  }

  absl::Status WriteIndex(const AnnotationSet& annotations) {
    Index index;
    index.media_type = plan_.types.index();
    index.annotations = annotations.index;
    for (const Part& part : parts_) index.manifests.push_back(part.manifest);
    for (const Part& part : parts_)
      if (part.attestations.has_value()) index.manifests.push_back(*part.attestations);
    KILN_ASSIGN_OR_RETURN(image_.root, Store(index.media_type, index.ToJson()));
    const TransferProgress step =
        Step(context_,
             absl::StrCat("exporting manifest list ", image_.root.descriptor.digest.ToString()));
    image_.root.descriptor.annotations = annotations.index_descriptor;
    image_.manifests.push_back(image_.root.descriptor);
    return absl::OkStatus();
  }

  store::LayerStore* const layers_;
  const ExportSource& source_;
  const ImageOptions& options_;
  const ImagePlan& plan_;
  const ExportContext& context_;
  BlobLease& lease_;
  std::vector<ResultPlatform> platforms_;
  std::vector<Part> parts_;  // as platforms_
  std::set<Digest> seen_;    // what image_ lists, manifests left out
  WrittenImage image_;
};

}  // namespace

absl::StatusOr<WrittenImage> ImageWriter::Write(const ExportSource& source,
                                                const ImageOptions& options, const ImagePlan& plan,
                                                const ExportContext& context, BlobLease& lease) {
  return Writing(layers_, source, options, plan, context, lease).Run();
}

absl::Status ImageWriter::Complete(const WrittenImage& image, const BlobLease& lease,
                                   const CancelToken& cancel) {
  return RunParallel(image.layers.size(), kFetchesAtOnce, [&](size_t i) -> absl::Status {
    if (IsForeignLayer(image.layers[i].descriptor.media_type)) return absl::OkStatus();
    return layers_->Ensure(image.layers[i], lease.name(), cancel);
  });
}

}  // namespace kiln::daemon
