#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace kiln::daemon {

inline constexpr char kOciIndex[] = "application/vnd.oci.image.index.v1+json";
inline constexpr char kOciManifest[] = "application/vnd.oci.image.manifest.v1+json";
inline constexpr char kOciConfig[] = "application/vnd.oci.image.config.v1+json";
inline constexpr char kOciEmpty[] = "application/vnd.oci.empty.v1+json";
inline constexpr char kDockerIndex[] = "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr char kDockerManifest[] = "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr char kDockerConfig[] = "application/vnd.docker.container.image.v1+json";
inline constexpr char kInToto[] = "application/vnd.in-toto+json";
inline constexpr char kAttestationManifest[] =
    "application/vnd.docker.attestation.manifest.v1+json";

// The words of one family of media types.
struct MediaTypes {
  bool oci = true;
  const char* index() const { return oci ? kOciIndex : kDockerIndex; }
  const char* manifest() const { return oci ? kOciManifest : kDockerManifest; }
  const char* config() const { return oci ? kOciConfig : kDockerConfig; }
  // A layer's type, given in OCI's words (also those of foreign layers), in this family's words;
  // unknown types stay.
  std::string Layer(absl::string_view oci_type) const;
};

// OCI's and docker's types of layers that can be unpacked.
bool IsLayer(absl::string_view media_type);

// Layers that registries need not hold; they are not pushed.
bool IsForeignLayer(absl::string_view media_type);
// The same bytes as a layer that registries hold. Other types stay.
std::string DistributableLayer(absl::string_view media_type);

bool IsIndex(absl::string_view media_type);
bool IsManifest(absl::string_view media_type);  // of one image, not an index

}  // namespace kiln::daemon
