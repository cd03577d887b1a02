#include "store/layer/layer_row.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "store/base/status_macros.h"
#include "store/codec.h"
#include "store/layer/layer.pb.h"

namespace kiln::store::internal {
namespace {

constexpr uint32_t kVersion = 1;

std::string RawOrEmpty(const Digest& digest) {
  return digest.empty() ? std::string() : std::string(digest.raw());
}

absl::StatusOr<Digest> DigestOrEmpty(const std::string& raw) {
  if (raw.empty()) return Digest();
  return Digest::FromRaw(raw);
}

}  // namespace

std::string EncodeLayerRow(const LayerRow& row) {
  pb::LayerRow out;
  out.set_version(kVersion);
  out.set_diff_id(RawOrEmpty(row.diff_id));
  out.set_no_layer(row.no_layer);
  if (row.created_at != absl::InfinitePast())
    out.set_created_at_ns(absl::ToUnixNanos(row.created_at) + 1);
  out.set_description(row.description);
  for (const LayerVariant& variant : row.variants) {
    pb::LayerVariant* to = out.add_variants();
    to->set_media_type(variant.descriptor.media_type);
    to->set_digest(std::string(variant.descriptor.digest.raw()));
    to->set_size_bytes(variant.descriptor.size_bytes);
    for (const auto& [key, value] : variant.descriptor.annotations)
      (*to->mutable_annotations())[key] = value;
    for (const std::string& url : variant.descriptor.urls) to->add_urls(url);
    for (const std::string& origin : variant.origins) to->add_origins(origin);
    to->set_own_diff_id(RawOrEmpty(variant.own_diff_id));
    if (variant.rewrite.has_value())
      to->set_rewrite_seconds(absl::ToUnixSeconds(*variant.rewrite) + 1);
    if (variant.level.has_value()) to->set_level_plus_two(*variant.level + 2);
  }
  return out.SerializeAsString();
}

absl::StatusOr<LayerRow> DecodeLayerRow(absl::string_view bytes) {
  pb::LayerRow in;
  if (!in.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return absl::DataLossError("the row of a layer is damaged");
  if (in.version() > kVersion)
    return absl::FailedPreconditionError(
        absl::StrCat("the row of a layer has version ", in.version(), ", known is ", kVersion));
  LayerRow out;
  KILN_ASSIGN_OR_RETURN(out.diff_id, DigestOrEmpty(in.diff_id()));
  out.no_layer = in.no_layer();
  if (in.created_at_ns() != 0) out.created_at = absl::FromUnixNanos(in.created_at_ns() - 1);
  out.description = in.description();
  for (const pb::LayerVariant& from : in.variants()) {
    LayerVariant variant;
    variant.descriptor.media_type = from.media_type();
    KILN_ASSIGN_OR_RETURN(variant.descriptor.digest, Digest::FromRaw(from.digest()));
    variant.descriptor.size_bytes = from.size_bytes();
    for (const auto& [key, value] : from.annotations()) variant.descriptor.annotations[key] = value;
    variant.descriptor.urls.assign(from.urls().begin(), from.urls().end());
    variant.origins.assign(from.origins().begin(), from.origins().end());
    KILN_ASSIGN_OR_RETURN(variant.own_diff_id, DigestOrEmpty(from.own_diff_id()));
    if (from.rewrite_seconds() != 0)
      variant.rewrite = absl::FromUnixSeconds(from.rewrite_seconds() - 1);
    if (from.level_plus_two() != 0) variant.level = from.level_plus_two() - 2;
    out.variants.push_back(std::move(variant));
  }
  return out;
}

std::string LayerRowPrefix(uint64_t snapshot) {
  std::string key(1, kLayerRow);
  AppendFixed64(&key, snapshot);
  return key;
}

std::string LayerRowKey(uint64_t snapshot, uint64_t base) {
  std::string key = LayerRowPrefix(snapshot);
  AppendFixed64(&key, base);
  return key;
}

std::optional<uint64_t> SnapshotOfRow(absl::string_view key) {
  Decoder in(key);
  in.Byte();
  const uint64_t snapshot = in.Fixed64();
  if (!in.ok()) return std::nullopt;
  return snapshot;
}

std::string LeaseOf(uint64_t snapshot) { return absl::StrCat(kLeasePrefix, snapshot); }

std::optional<uint64_t> SnapshotOfLease(absl::string_view lease) {
  uint64_t number = 0;
  if (!absl::ConsumePrefix(&lease, kLeasePrefix) || !absl::SimpleAtoi(lease, &number))
    return std::nullopt;
  return number;
}

std::string OciLayerType(absl::string_view media_type) {
  for (const absl::string_view docker :
       {"application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar"}) {
    absl::string_view rest = media_type;
    if (!absl::ConsumePrefix(&rest, docker)) continue;
    if (rest.empty()) return kOciLayerTar;
    if (rest == ".gzip" || rest == "+gzip") return kOciLayerGzip;
    if (rest == ".zstd" || rest == "+zstd") return kOciLayerZstd;
  }
  return std::string(media_type);
}

std::optional<Compression> CompressionOf(const Descriptor& descriptor) {
  const std::string type = OciLayerType(descriptor.media_type);
  if (type == kOciLayerTar) return Compression::kUncompressed;
  if (type == kOciLayerZstd) return Compression::kZstd;
  if (type != kOciLayerGzip) return std::nullopt;
  return descriptor.annotations.contains(kTocDigestAnnotation) ? Compression::kEstargz
                                                               : Compression::kGzip;
}

std::string MediaTypeOf(Compression compression) {
  switch (compression) {
    case Compression::kUncompressed:
      return kOciLayerTar;
    case Compression::kZstd:
      return kOciLayerZstd;
    case Compression::kGzip:
    case Compression::kEstargz:
      break;
  }
  return kOciLayerGzip;
}

}  // namespace kiln::store::internal
