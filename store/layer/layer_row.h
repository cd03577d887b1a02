#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/digest.h"
#include "store/layer/layer_store.h"

namespace kiln::store::internal {

// One way in which a layer is stored. A plain value.
struct LayerVariant {
  Descriptor descriptor;
  std::vector<std::string> origins;  // newest first
  // Of the level it was made with; nullopt: it was pulled.
  std::optional<int> level;
  // Set when times later than this were changed.
  std::optional<absl::Time> rewrite;
  // Of what it unpacks to, when that is not the layer's tar: times were changed, or it is estargz
  // made here, which has its table of contents in it. Else empty.
  Digest own_diff_id;
};

// What is known of one change as an image layer.
struct LayerRow {
  Digest diff_id;         // empty: no blob was made or named yet
  bool no_layer = false;  // nothing changed
  absl::Time created_at = absl::InfinitePast();
  std::string description;
  std::vector<LayerVariant> variants;  // in the order in which they came to be known
};

std::string EncodeLayerRow(const LayerRow& row);
// kDataLoss when the bytes are no row; kFailedPrecondition when a newer version wrote it.
absl::StatusOr<LayerRow> DecodeLayerRow(absl::string_view bytes);

// Keys in the refs family: 'l', snapshot (8), base (8).
inline constexpr char kLayerRow = 'l';
std::string LayerRowPrefix(uint64_t snapshot);
std::string LayerRowKey(uint64_t snapshot, uint64_t base);
std::optional<uint64_t> SnapshotOfRow(absl::string_view key);

// The lease that holds the blobs of a snapshot, and the number in its name.
inline constexpr char kLeasePrefix[] = "snapshot/";
std::string LeaseOf(uint64_t snapshot);
std::optional<uint64_t> SnapshotOfLease(absl::string_view lease);

// OCI form of a layer type: docker's names and foreign types are translated.
std::string OciLayerType(absl::string_view media_type);
// By the media type; estargz is told by its annotation. nullopt: unknown.
std::optional<Compression> CompressionOf(const Descriptor& descriptor);
std::string MediaTypeOf(Compression compression);

}  // namespace kiln::store::internal
