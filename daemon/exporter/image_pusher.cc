#include "daemon/exporter/image_pusher.h"

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "daemon/exporter/parallel.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr size_t kBlobsAtOnce = 4;  // for each registry, as its client allows

bool HasTagOrDigest(absl::string_view name) {
  if (const size_t slash = name.rfind('/'); slash != absl::string_view::npos)
    name.remove_prefix(slash + 1);
  return absl::StrContains(name, ":") || absl::StrContains(name, "@");
}

// A reader of a stored blob, from its start.
Registry::BlobReader ReaderOf(store::BlobStore* blobs, const Digest& digest) {
  return [blobs, digest, offset = int64_t{0}](char* out,
                                              size_t size) mutable -> absl::StatusOr<size_t> {
    KILN_ASSIGN_OR_RETURN(const size_t got,
                          blobs->ReadAt(digest, offset, absl::MakeSpan(out, size)));
    offset += static_cast<int64_t>(got);
    return got;
  };
}

}  // namespace

std::string ImagePusher::MountFrom(const store::LayerBlob& layer, const Reference& target) const {
  absl::string_view origin = layer.origin;
  if (absl::ConsumePrefix(&origin, absl::StrCat(target.domain, "/")) && origin != target.path)
    return std::string(origin);
  return seen_.OtherPath(layer.descriptor.digest, target);
}

absl::Status ImagePusher::Push(const WrittenImage& image, const PushRequest& request,
                               const BlobLease& lease) {
  bool trusted = false;
  absl::Status status = PushAll(image, request, lease, Trust::kSeen, &trusted);
  // Registries have many ways to say that a blob is missing, or that a tag is there already.
  if (!status.ok() && trusted && !request.call.cancel.Cancelled())
    status = PushAll(image, request, lease, Trust::kNothing, &trusted);
  return Annotate(status, absl::StrCat("failed to push ", request.name));
}

absl::Status ImagePusher::PushAll(const WrittenImage& image, const PushRequest& request,
                                  const BlobLease& lease, Trust trust, bool* trusted) {
  if (request.by_digest && HasTagOrDigest(request.name))
    return absl::InvalidArgumentError(
        absl::StrCat("can't push tagged ref ", request.name, " by digest"));
  KILN_ASSIGN_OR_RETURN(const Reference target, Reference::ParseFamiliar(request.name));

  std::vector<store::LayerBlob> blobs;
  int64_t total = 0;
  for (const store::LayerBlob& layer : image.layers)
    if (!IsForeignLayer(layer.descriptor.media_type)) blobs.push_back(layer);
  for (const store::Descriptor& blob : image.blobs) blobs.emplace_back().descriptor = blob;
  for (const store::LayerBlob& blob : blobs) total += blob.descriptor.size_bytes;

  Mutex mu;
  std::vector<int64_t> sent(blobs.size(), 0);
  int64_t all_sent = 0;
  const auto tell = [&](size_t i, int64_t bytes) {
    MutexLock lock(&mu);
    all_sent += bytes - sent[i];
    sent[i] = bytes;
    if (request.progress != nullptr) request.progress(all_sent, total);
  };
  std::atomic<bool> left_out = false;
  const auto is_there = [&](size_t i) {
    if (trust != Trust::kSeen || !seen_.IsFresh(blobs[i].descriptor.digest, target)) return false;
    left_out = true;
    tell(i, blobs[i].descriptor.size_bytes);
    return true;
  };
  std::vector<size_t> asked;
  for (size_t i = 0; i < blobs.size(); ++i)
    if (!is_there(i)) asked.push_back(i);
  const auto push = [&](size_t i) -> absl::Status {
    const store::LayerBlob& blob = blobs[i];
    const Digest& digest = blob.descriptor.digest;
    KILN_ASSIGN_OR_RETURN(const NamedLocks::Hold turn,
                          locks_.Acquire(absl::StrCat(target.Repository(), "@", digest.ToString()),
                                         request.call.cancel));
    if (is_there(i)) return absl::OkStatus();  // sent by another push meanwhile
    const auto open = [&]() -> absl::StatusOr<Registry::BlobReader> {
      if (!blob.origin.empty())
        KILN_RETURN_IF_ERROR(writer_->layers()->Ensure(blob, lease.name(), request.call.cancel));
      return ReaderOf(writer_->blobs(), digest);
    };
    KILN_RETURN_IF_ERROR(registry_
                             ->PushBlob(target, blob.descriptor, MountFrom(blob, target),
                                        request.call, open,
                                        [&tell, i](int64_t bytes) { tell(i, bytes); })
                             .status());
    seen_.Add(digest, target);
    tell(i, blob.descriptor.size_bytes);
    return absl::OkStatus();
  };
  KILN_RETURN_IF_ERROR(
      RunParallel(asked.size(), kBlobsAtOnce, [&](size_t i) { return push(asked[i]); }));
  *trusted = left_out;

  // Those of an index go as well, known or not: only their answers say whether the blobs are there.
  const auto put = left_out ? Registry::PutManifest::kAtOnce : Registry::PutManifest::kUnlessThere;
  for (size_t i = 0; i < image.manifests.size(); ++i) {
    const store::Descriptor& manifest = image.manifests[i];
    const bool root = i + 1 == image.manifests.size();
    KILN_ASSIGN_OR_RETURN(const std::string bytes,
                          ReadSmallBlob(*writer_->blobs(), manifest.digest));
    KILN_RETURN_IF_ERROR(registry_->PushManifest(target, manifest, bytes,
                                                 /*by_digest=*/!root || request.by_digest, put,
                                                 request.call));
  }
  return absl::OkStatus();
}

}  // namespace kiln::daemon
