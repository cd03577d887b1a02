#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/image/manifest.h"
#include "daemon/image/platform.h"
#include "proto/digest.h"

namespace kiln::daemon {

// A manifest or index that somebody else wrote.
struct ReadManifest {
  std::string media_type;  // declared, else docker's word for what it is
  bool is_index = false;
  // Of an index.
  std::vector<ManifestEntry> manifests = {};
  // Of a manifest. Layer types in OCI's words.
  ManifestEntry config = {};
  std::vector<ManifestEntry> layers = {};
};

// Reads a manifest strictly: what its members say, what it declares and `media_type` (how its
// descriptor or the registry calls it; "" or a type that is no manifest's: not known) must be one
// thing. kInvalidArgument for what is no manifest, nests deeper than 64, repeats a member, or goes
// past 4,096 layers or 10,000 manifests; kFailedPrecondition for schema 1; kUnimplemented for
// digests other than sha256. O(bytes).
absl::StatusOr<ReadManifest> ParseManifest(absl::string_view json, absl::string_view media_type);

// What the daemon needs of an image config.
struct ReadConfig {
  Platform platform;
  std::string rootfs_type;
  std::vector<Digest> diff_ids;
  // When each layer was made, by the history items that have one; InfinitePast: not told.
  std::vector<absl::Time> created;
};
// kInvalidArgument when it is no JSON object or a member has another type than it should.
absl::StatusOr<ReadConfig> ParseConfig(absl::string_view json);

// The chain id of these layers (OCI image-spec, layer chain id), lowest first; at least one.
Digest ChainId(const std::vector<Digest>& diff_ids);

}  // namespace kiln::daemon
