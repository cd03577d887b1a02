#include "daemon/image/media_types.h"

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"

namespace kiln::daemon {
namespace {

constexpr struct {
  const char* oci;
  const char* docker;
} kLayers[] = {
    {"application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"},
    {"application/vnd.oci.image.layer.v1.tar+gzip",
     "application/vnd.docker.image.rootfs.diff.tar.gzip"},
    {"application/vnd.oci.image.layer.v1.tar+zstd",
     "application/vnd.docker.image.rootfs.diff.tar.zstd"},
    {"application/vnd.oci.image.layer.nondistributable.v1.tar",
     "application/vnd.docker.image.rootfs.foreign.diff.tar"},
    {"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
     "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"},
    {"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
     "application/vnd.docker.image.rootfs.foreign.diff.tar.zstd"},
};

}  // namespace

std::string MediaTypes::Layer(absl::string_view oci_type) const {
  for (const auto& layer : kLayers) {
    if (oci && oci_type == layer.docker) return layer.oci;
    if (!oci && oci_type == layer.oci) return layer.docker;
  }
  return std::string(oci_type);
}

bool IsLayer(absl::string_view media_type) {
  for (const auto& layer : kLayers)
    if (media_type == layer.oci || media_type == layer.docker) return true;
  return false;
}

bool IsForeignLayer(absl::string_view media_type) {
  return absl::StrContains(media_type, ".nondistributable.") ||
         absl::StrContains(media_type, ".foreign.");
}

std::string DistributableLayer(absl::string_view media_type) {
  return absl::StrReplaceAll(media_type, {{".nondistributable.", "."}, {".foreign.", "."}});
}

bool IsIndex(absl::string_view media_type) {
  return media_type == kOciIndex || media_type == kDockerIndex;
}

bool IsManifest(absl::string_view media_type) {
  return media_type == kOciManifest || media_type == kDockerManifest;
}

}  // namespace kiln::daemon
