#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/image/media_types.h"
#include "daemon/image/platform.h"
#include "store/layer/descriptor.h"

namespace kiln::daemon {

// A descriptor as manifests write it.
struct ManifestEntry {
  store::Descriptor descriptor;
  std::optional<Platform> platform = std::nullopt;
  std::string data = {};           // the bytes themselves, for tiny blobs
  std::string artifact_type = {};  // of an artifact that is named in an index
};

// Members in the order of OCI's Go structure, compact. For "containerimage.descriptor" and the
// like.
std::string DescriptorToJson(const ManifestEntry& entry);
// kInvalidArgument when it is no descriptor; kUnimplemented for a digest other than sha256.
absl::StatusOr<ManifestEntry> DescriptorFromJson(absl::string_view json);

struct Manifest {
  std::string media_type;
  std::string artifact_type = {};
  ManifestEntry config;
  std::vector<ManifestEntry> layers;
  std::optional<ManifestEntry> subject = std::nullopt;
  std::map<std::string, std::string> annotations = {};

  // As BuildKit writes it, indented by two spaces; no layers are "[]", as the OCI schema wants it.
  std::string ToJson() const;
  std::string ToCompactJson() const;
};

struct Index {
  std::string media_type;
  std::vector<ManifestEntry> manifests;
  std::map<std::string, std::string> annotations = {};

  std::string ToJson() const;  // indented by two spaces
  std::string ToCompactJson() const;
};

// What a stored manifest or index refers to, in its order: of a manifest its config, then its
// layers; of an index its manifests. kInvalidArgument for anything else.
absl::StatusOr<std::vector<ManifestEntry>> References(absl::string_view json);

}  // namespace kiln::daemon
