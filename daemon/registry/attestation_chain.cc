#include "daemon/registry/attestation_chain.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/image/manifest.h"
#include "daemon/image/media_types.h"
#include "daemon/image/read_manifest.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr size_t kMaxBytes = 12 << 20;
constexpr char kReferenceType[] = "vnd.docker.reference.type";
constexpr char kReferenceDigest[] = "vnd.docker.reference.digest";
constexpr char kPredicateType[] = "in-toto.io/predicate-type";
constexpr char kProvenance02[] = "https://slsa.dev/provenance/v0.2";
constexpr char kProvenance1[] = "https://slsa.dev/provenance/v1";
constexpr char kInToto[] = "application/vnd.in-toto+json";
// Kinds of signatures, the better one first.
constexpr const char* kSignatures[] = {"application/vnd.dev.sigstore.bundle.v0.3+json",
                                       "application/vnd.dev.cosign.artifact.sig.v1+json"};

std::string Annotation(const ManifestEntry& entry, const char* name) {
  const auto found = entry.descriptor.annotations.find(name);
  return found == entry.descriptor.annotations.end() ? "" : found->second;
}

// Docker's hardened images keep provenance beside the index, as referrers of each image.
bool IsHardened(absl::string_view index, const std::vector<ManifestEntry>& images) {
  const auto json = nlohmann::json::parse(index.begin(), index.end(), nullptr, false);
  const auto title = nlohmann::json::json_pointer("/annotations/org.opencontainers.image.title");
  return std::all_of(images.begin(), images.end(),
                     [](const ManifestEntry& entry) {
                       return !Annotation(entry, "com.docker.dhi.build.id").empty();
                     }) &&
         json.contains(title) && json[title].is_string() &&
         absl::StartsWith(json[title].get_ref<const std::string&>(), "dhi/");
}

class ChainReader {
 public:
  ChainReader(const AttestationReader& from, AttestationChain* chain)
      : from_(from), chain_(chain) {}

  // Reads the object into the chain.
  absl::StatusOr<absl::string_view> Add(const store::Descriptor& descriptor) {
    const auto known = chain_->blobs.find(descriptor.digest);
    if (known != chain_->blobs.end()) return absl::string_view(known->second.bytes);
    const auto limit = [&] {
      return absl::ResourceExhaustedError(absl::StrCat(
          "attestation chain of ", chain_->root.ToString(), ": more than ", kMaxBytes, " bytes"));
    };
    if (descriptor.size_bytes > static_cast<int64_t>(kMaxBytes - size_)) return limit();
    KILN_ASSIGN_OR_RETURN(std::string bytes, from_.read(descriptor));
    if (bytes.size() > kMaxBytes - size_) return limit();
    size_ += bytes.size();
    AttestationChain::Blob& blob = chain_->blobs[descriptor.digest];
    blob = {descriptor, std::move(bytes)};
    return absl::string_view(blob.bytes);
  }

  // What the manifest consists of, without its config.
  absl::StatusOr<std::vector<ManifestEntry>> Layers(const store::Descriptor& manifest) {
    KILN_ASSIGN_OR_RETURN(const absl::string_view bytes, Add(manifest));
    absl::StatusOr<ReadManifest> read = ParseManifest(bytes, manifest.media_type);
    KILN_RETURN_IF_ERROR(
        Annotate(read.status(), absl::StrCat("manifest ", manifest.digest.ToString())));
    return std::move(read->layers);
  }

  // Manifests that speak of `subject`.
  absl::StatusOr<std::vector<ManifestEntry>> Referrers(const Digest& subject) {
    KILN_ASSIGN_OR_RETURN(const std::string index, from_.referrers(subject));
    if (index.empty()) return std::vector<ManifestEntry>();
    absl::StatusOr<std::vector<ManifestEntry>> list = References(index);
    KILN_RETURN_IF_ERROR(
        Annotate(list.status(), absl::StrCat("list of what refers to ", subject.ToString())));
    return list;
  }

 private:
  const AttestationReader& from_;
  AttestationChain* const chain_;
  size_t size_ = 0;
};

// The image that suits the platform best; entries that name none come last.
absl::StatusOr<store::Descriptor> ImageOf(const std::vector<ManifestEntry>& entries,
                                          const Digest& root, const Platform& platform) {
  const PlatformMatcher matcher(platform);
  std::optional<size_t> best;
  const ManifestEntry* found = nullptr;
  for (const ManifestEntry& entry : entries) {
    if (!IsManifest(entry.descriptor.media_type)) continue;
    std::optional<size_t> rank = SIZE_MAX;
    if (entry.platform.has_value()) rank = matcher.Rank(*entry.platform);
    if (!rank.has_value() || (best.has_value() && *rank >= *best)) continue;
    best = rank;
    found = &entry;
  }
  if (found != nullptr) return found->descriptor;
  return absl::FailedPreconditionError(
      absl::StrCat("no match for platform in manifest: ", root.ToString(), " has none for ",
                   FormatPlatform(platform)));
}

absl::StatusOr<std::optional<store::Descriptor>> AttestationsOf(
    ChainReader& reader, const std::vector<ManifestEntry>& entries, bool hardened,
    const Digest& image) {
  if (hardened) {
    KILN_ASSIGN_OR_RETURN(const std::vector<ManifestEntry> referrers, reader.Referrers(image));
    for (const ManifestEntry& entry : referrers) {
      const std::string type = Annotation(entry, kPredicateType);
      if (entry.artifact_type == kInToto && (type == kProvenance02 || type == kProvenance1))
        return std::make_optional(entry.descriptor);
    }
    return absl::NotFoundError(
        absl::StrCat("no provenance refers to the hardened image ", image.ToString()));
  }
  for (const ManifestEntry& entry : entries)
    if (Annotation(entry, kReferenceType) == "attestation-manifest" &&
        Annotation(entry, kReferenceDigest) == image.ToString())
      return std::make_optional(entry.descriptor);
  return std::optional<store::Descriptor>();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const AttestationChain>> ReadAttestationChain(
    const AttestationReader& from, const store::Descriptor& root, const Platform& platform,
    const std::vector<std::string>& predicate_types) {
  auto chain = std::make_shared<AttestationChain>();
  chain->root = root.digest;
  ChainReader reader(from, chain.get());
  KILN_ASSIGN_OR_RETURN(const absl::string_view bytes, reader.Add(root));
  absl::StatusOr<ReadManifest> index = ParseManifest(bytes, root.media_type);
  KILN_RETURN_IF_ERROR(Annotate(index.status(), absl::StrCat("index ", root.digest.ToString())));
  KILN_ASSIGN_OR_RETURN(const store::Descriptor image,
                        ImageOf(index->manifests, root.digest, platform));
  chain->image_manifest = image.digest;
  KILN_ASSIGN_OR_RETURN(
      const std::optional<store::Descriptor> attestations,
      AttestationsOf(reader, index->manifests, IsHardened(bytes, index->manifests), image.digest));
  if (!attestations.has_value()) return chain;
  chain->attestation_manifest = attestations->digest;
  KILN_ASSIGN_OR_RETURN(const std::vector<ManifestEntry> statements, reader.Layers(*attestations));
  for (const ManifestEntry& statement : statements) {
    const std::string type = Annotation(statement, kPredicateType);
    if (!type.empty() &&
        std::find(predicate_types.begin(), predicate_types.end(), type) != predicate_types.end())
      KILN_RETURN_IF_ERROR(reader.Add(statement.descriptor).status());
  }
  KILN_ASSIGN_OR_RETURN(const std::vector<ManifestEntry> signatures,
                        reader.Referrers(attestations->digest));
  for (const char* kind : kSignatures) {
    const auto found =
        std::find_if(signatures.begin(), signatures.end(),
                     [&](const ManifestEntry& entry) { return entry.artifact_type == kind; });
    if (found == signatures.end()) continue;
    KILN_ASSIGN_OR_RETURN(const std::vector<ManifestEntry> parts, reader.Layers(found->descriptor));
    for (const ManifestEntry& part : parts)
      KILN_RETURN_IF_ERROR(reader.Add(part.descriptor).status());
    chain->signature_manifests = {found->descriptor.digest};
    break;
  }
  return chain;
}

}  // namespace kiln::daemon
