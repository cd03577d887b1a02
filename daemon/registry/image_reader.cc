#include "daemon/registry/image_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/image/media_types.h"
#include "daemon/session/session_blob.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr int kMaxDepth = 8;
constexpr int64_t kMaxManifest = 4 << 20;
constexpr int64_t kMaxConfig = 8 << 20;
constexpr size_t kMaxKeptBytes = 32 << 20;

std::string NameOf(const ImageLocation& location, const Digest& digest) {
  return absl::StrCat(location.reference.Repository(), "@", digest.ToString());
}

std::string KeptKey(const ImageLocation& location, const Digest& digest) {
  return absl::StrCat(location.Origin(), " ", digest.ToString());
}

std::string Pack(const store::Descriptor& root) {
  return absl::StrCat(root.digest.ToString(), " ", root.size_bytes, " ", root.media_type);
}

absl::StatusOr<store::Descriptor> Unpack(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, absl::MaxSplits(' ', 2));
  store::Descriptor root;
  KILN_ASSIGN_OR_RETURN(root.digest, Digest::Parse(parts[0]));
  if (parts.size() != 3 || !absl::SimpleAtoi(parts[1], &root.size_bytes))
    return absl::InternalError("a root that does not unpack");
  root.media_type = std::string(parts[2]);
  return root;
}

absl::Status CheckMode(const std::string& mode) {
  if (mode.empty() || mode == "default" || mode == "pull" || mode == "local")
    return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("invalid resolvemode: ", mode));
}

}  // namespace

std::string ImageLocation::Origin() const {
  return oci_layout ? absl::StrCat("oci-layout:", store_id) : reference.Repository();
}

std::vector<std::string> ImageLocation::Sessions(
    const std::vector<std::string>& of_the_build) const {
  if (store_session_id.empty()) return of_the_build;
  std::vector<std::string> out = {store_session_id};
  for (const std::string& id : of_the_build)
    if (id != store_session_id) out.push_back(id);
  return out;
}

// ---- objects ----

bool ImageReader::FindKept(const std::string& key, std::string* media_type, std::string* bytes) {
  MutexLock lock(&mu_);
  auto it = kept_.find(key);
  if (it == kept_.end()) return false;
  uses_.splice(uses_.begin(), uses_, it->second.use);
  *media_type = it->second.media_type;
  *bytes = it->second.bytes;
  return true;
}

void ImageReader::Keep(const std::string& key, const std::string& media_type,
                       const std::string& bytes) {
  MutexLock lock(&mu_);
  if (kept_.count(key) != 0 || bytes.size() > kMaxKeptBytes / 4) return;
  uses_.push_front(key);
  kept_[key] = {media_type, bytes, uses_.begin()};
  kept_bytes_ += bytes.size();
  while (kept_bytes_ > kMaxKeptBytes) {
    auto oldest = kept_.find(uses_.back());
    kept_bytes_ -= oldest->second.bytes.size();
    kept_.erase(oldest);
    uses_.pop_back();
  }
}

absl::StatusOr<std::string> ImageReader::ReadLayout(const ImageLocation& location,
                                                    const store::Descriptor& descriptor,
                                                    int64_t limit, const RegistryCall& call) {
  std::string bytes;
  const std::string store = absl::StrCat("oci:", location.store_id);
  KILN_RETURN_IF_ERROR(sessions_->Any(
      location.Sessions(call.session_ids), call.cancel, [&](Session& session) -> absl::Status {
        bytes.clear();
        return ReadSessionBlob(session, store, descriptor.digest, 0, call.cancel,
                               [&](absl::string_view data) -> absl::Status {
                                 if (static_cast<int64_t>(bytes.size() + data.size()) > limit)
                                   return absl::ResourceExhaustedError(
                                       absl::StrCat("it is larger than ", limit, " bytes"));
                                 bytes.append(data.data(), data.size());
                                 return absl::OkStatus();
                               });
      }));
  const Digest got = Digest::Of(bytes);
  if (got == descriptor.digest) return bytes;
  return absl::DataLossError(absl::StrCat("digest mismatch: the client sent ", got.ToString()));
}

absl::StatusOr<std::string> ImageReader::Read(const ImageLocation& location,
                                              const store::Descriptor& descriptor,
                                              const RegistryCall& call) {
  if (location.oci_layout) {
    const bool is_config =
        descriptor.media_type == kOciConfig || descriptor.media_type == kDockerConfig;
    return Annotate(ReadLayout(location, descriptor, is_config ? kMaxConfig : kMaxManifest, call),
                    NameOf(location, descriptor.digest));
  }
  const std::string key = KeptKey(location, descriptor.digest);
  KILN_ASSIGN_OR_RETURN(const NamedLocks::Hold hold, reading_.Acquire(key, call.cancel));
  std::string type, bytes;
  if (FindKept(key, &type, &bytes)) return bytes;
  KILN_ASSIGN_OR_RETURN(bytes, registry_->FetchSmall(location.reference, descriptor, call));
  Keep(key, descriptor.media_type, bytes);
  return bytes;
}

// ---- roots ----

absl::StatusOr<store::Descriptor> ImageReader::FindRoot(const ImageLocation& location,
                                                        const RegistryCall& call) {
  const std::optional<Digest>& digest = location.reference.digest;
  store::Descriptor root;
  if (location.oci_layout) {
    if (!digest.has_value())
      return absl::InvalidArgumentError(absl::StrCat(
          "oci-layout reference \"", location.reference.ToString(), "\" must have a digest"));
    root.digest = *digest;
    const std::string store = absl::StrCat("oci:", location.store_id);
    KILN_RETURN_IF_ERROR(sessions_->Any(
        location.Sessions(call.session_ids), call.cancel, [&](Session& session) -> absl::Status {
          KILN_ASSIGN_OR_RETURN(root.size_bytes,
                                SessionBlobSize(session, store, *digest, call.cancel));
          return absl::OkStatus();
        }));
    return root;
  }
  std::string bytes;
  if (digest.has_value() && FindKept(KeptKey(location, *digest), &root.media_type, &bytes)) {
    root.digest = *digest;
    root.size_bytes = static_cast<int64_t>(bytes.size());
    return root;
  }
  return registry_->Resolve(location.reference, call);
}

absl::StatusOr<store::Descriptor> ImageReader::Root(const ImageLocation& location,
                                                    const RegistryCall& call,
                                                    solver::JobValues* job) {
  origins_->Note(location.Origin(), location.Sessions(call.session_ids), call.cancel);
  return job == nullptr ? FindRoot(location, call) : RootOfJob(location, call, *job);
}

absl::StatusOr<store::Descriptor> ImageReader::RootOfJob(const ImageLocation& location,
                                                         const RegistryCall& call,
                                                         solver::JobValues& job) {
  const std::string key =
      absl::StrCat("image root\n", location.Origin(), "\n", location.store_session_id, "\n",
                   location.reference.ToString());
  KILN_ASSIGN_OR_RETURN(
      const std::string packed, job.GetOrMake(key, [&]() -> absl::StatusOr<std::string> {
        KILN_ASSIGN_OR_RETURN(const store::Descriptor root, FindRoot(location, call));
        return Pack(root);
      }));
  return Unpack(packed);
}

// ---- images ----

absl::StatusOr<ChosenImagePtr> ImageReader::ReadImage(const ImageLocation& location,
                                                      const ReadManifest& manifest,
                                                      const PlatformMatcher* matcher,
                                                      const RegistryCall& call) {
  auto image = std::make_shared<ChosenImage>();
  KILN_ASSIGN_OR_RETURN(image->config, Read(location, manifest.config.descriptor, call));
  const std::string what =
      absl::StrCat("image config ", NameOf(location, manifest.config.descriptor.digest));
  absl::StatusOr<ReadConfig> facts = ParseConfig(image->config);
  KILN_RETURN_IF_ERROR(Annotate(facts.status(), what));
  image->facts = *std::move(facts);
  if (matcher != nullptr && !matcher->Matches(image->facts.platform)) return nullptr;
  for (const ManifestEntry& layer : manifest.layers) image->layers.push_back(layer.descriptor);
  if (image->facts.diff_ids.size() != image->layers.size())
    return absl::FailedPreconditionError(absl::StrCat(what, ": ", image->facts.diff_ids.size(),
                                                      " diff ids for ", image->layers.size(),
                                                      " layers"));
  return ChosenImagePtr(std::move(image));
}

// Null when nothing below is for the platform. `check_config`: no index has said so far what
// platform it is for.
absl::StatusOr<ChosenImagePtr> ImageReader::ChooseBelow(const ImageLocation& location,
                                                        const store::Descriptor& descriptor,
                                                        const PlatformMatcher& matcher,
                                                        bool check_config, int depth,
                                                        const RegistryCall& call) {
  const std::string name = NameOf(location, descriptor.digest);
  if (depth > kMaxDepth)
    return absl::FailedPreconditionError(
        absl::StrCat("index ", name, " is nested deeper than ", kMaxDepth));
  KILN_ASSIGN_OR_RETURN(const std::string bytes, Read(location, descriptor, call));
  absl::StatusOr<ReadManifest> manifest = ParseManifest(bytes, descriptor.media_type);
  KILN_RETURN_IF_ERROR(Annotate(manifest.status(), absl::StrCat("manifest ", name)));
  if (!manifest->is_index)
    return ReadImage(location, *manifest, check_config ? &matcher : nullptr, call);

  // Those that say what they are for, best first; then those that do not.
  std::vector<std::pair<size_t, const ManifestEntry*>> candidates;
  for (const ManifestEntry& entry : manifest->manifests) {
    const std::string& type = entry.descriptor.media_type;
    if (!IsIndex(type) && !IsManifest(type)) continue;
    std::optional<size_t> rank = SIZE_MAX;
    if (entry.platform.has_value()) rank = matcher.Rank(*entry.platform);
    if (rank.has_value()) candidates.emplace_back(*rank, &entry);
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  absl::Status missing;
  for (const auto& [rank, entry] : candidates) {
    absl::StatusOr<ChosenImagePtr> image =
        ChooseBelow(location, entry->descriptor, matcher, rank == SIZE_MAX, depth + 1, call);
    if (image.ok() && *image != nullptr) return image;
    // An index may list what was not copied along.
    if (!image.ok() && !absl::IsNotFound(image.status())) return image;
    missing.Update(image.status());
  }
  if (!missing.ok()) return missing;
  return nullptr;
}

absl::StatusOr<ChosenImagePtr> ImageReader::Choose(const ImageLocation& location,
                                                   const store::Descriptor& root,
                                                   const Platform& platform,
                                                   const RegistryCall& call) {
  absl::StatusOr<ChosenImagePtr> image =
      ChooseBelow(location, root, PlatformMatcher(platform), false, 0, call);
  if (!image.ok() || *image != nullptr) return image;
  return absl::FailedPreconditionError(
      absl::StrCat("no match for platform in manifest: ", NameOf(location, root.digest),
                   " has none for ", FormatPlatform(platform)));
}

absl::Status ImageReader::ResolveAhead(const std::string& reference, solver::JobValues& job,
                                       const CancelToken& cancel) {
  ImageLocation location;
  KILN_ASSIGN_OR_RETURN(location.reference, Reference::ParseFamiliar(reference));
  RegistryCall call;
  call.once = true;
  call.cancel = cancel;
  return RootOfJob(location, call, job).status();
}

absl::StatusOr<ResolvedImage> ImageReader::Resolve(const ImageQuery& query, solver::JobValues* job,
                                                   const CancelToken& cancel) {
  KILN_RETURN_IF_ERROR(CheckMode(query.resolve_mode));
  ImageLocation location;
  location.oci_layout = query.oci_layout;
  location.store_id = query.store_id;
  location.store_session_id = query.store_session_id;
  if (query.oci_layout) {
    KILN_ASSIGN_OR_RETURN(location.reference, Reference::ParseStrict(query.reference));
  } else {
    KILN_ASSIGN_OR_RETURN(location.reference, Reference::ParseFamiliar(query.reference));
  }
  Platform platform = HostPlatform();
  if (!query.platform.empty()) {
    KILN_ASSIGN_OR_RETURN(platform, ParsePlatform(query.platform));
  }
  RegistryCall call;
  call.session_ids = query.session_ids;
  call.cancel = cancel;
  call.log = query.log;
  KILN_ASSIGN_OR_RETURN(const store::Descriptor root, Root(location, call, job));
  ResolvedImage resolved;
  resolved.reference = location.reference.ToString();
  resolved.digest = root.digest;
  if (!query.no_config) {
    KILN_ASSIGN_OR_RETURN(const ChosenImagePtr image, Choose(location, root, platform, call));
    resolved.config = image->config;
  }
  if (query.attestation_chain && !query.oci_layout && root.media_type == kOciIndex) {
    const AttestationReader from{
        [&](const store::Descriptor& descriptor) { return Read(location, descriptor, call); },
        [&](const Digest& subject) {
          return registry_->FetchReferrers(location.reference, subject, call);
        }};
    KILN_ASSIGN_OR_RETURN(resolved.attestations,
                          ReadAttestationChain(from, root, platform, query.predicate_types));
  }
  return resolved;
}

}  // namespace kiln::daemon
