#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/exporter/epoch.h"
#include "daemon/image/annotations.h"
#include "daemon/image/media_types.h"
#include "store/layer/layer_store.h"

namespace kiln::daemon {

// A bool attribute; kInvalidArgument "non-bool value specified for K". An empty value means true
// where `empty_is_true`, else it is refused.
absl::StatusOr<bool> ParseBoolOption(absl::string_view key, const std::string& value,
                                     bool empty_is_true);

// Attributes that the exporters image, oci and docker share (images-and-cache.md 3.2). A plain
// value.
struct ImageOptions {
  std::string names;  // by commas; "*": what the result's metadata says
  std::optional<bool> oci_media_types, oci_artifact;
  bool attestation_inline = false;  // whether inline-only attestations make an index of an image
  bool attestations = true;         // false: none is ever attached
  bool prefer_nondist_layers = false;
  bool rewrite_timestamp = false;
  EpochOption epoch;
  store::LayerFormat layers;
  Annotations annotations;
  // What no exporter knows becomes metadata of the result ("containerimage.config").
  std::map<std::string, std::string> metadata;

  // Takes one attribute. kInvalidArgument names it.
  absl::Status Set(const std::string& key, const std::string& value);
};

// The options and the result after everything that depends on both is settled.
struct ImagePlan {
  MediaTypes types;
  bool artifact = false;  // the form of attestation manifests
  std::string names;      // as given, "*" resolved
  Annotations annotations;
  std::map<std::string, std::string> metadata;  // of the result and of the exporter's attributes
};

// Settles defaults by the build's compatibility version and checks what cannot go together, with
// BuildKit's texts. `oci_default` is the exporter type's own ("oci" always has OCI types).
absl::StatusOr<ImagePlan> MakeImagePlan(const ImageOptions& options, const ExportSource& source,
                                        int compatibility_version, bool always_oci);

// "a,b" in full, with a tag each. kInvalidArgument names what is no reference.
absl::StatusOr<std::vector<std::string>> NormalizedNames(const std::string& names);

}  // namespace kiln::daemon
