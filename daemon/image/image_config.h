#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/image/history.h"
#include "daemon/image/platform.h"
#include "proto/digest.h"

namespace kiln::daemon {

// What an exporter knows when it writes the config of an image.
struct ImageConfigInput {
  std::string config = {};       // as the frontend gave it; "": a default one
  std::string base_config = {};  // of the image it was built on; "": none
  Platform default_platform = {};
  std::vector<Digest> diff_ids = {};  // lowest layer first
  std::vector<LayerFacts> layers = {};
  std::optional<absl::Time> epoch = std::nullopt;
  std::string inline_cache = {};  // value of "moby.buildkit.cache.v0", not encoded; "": none
};

struct ImageConfig {
  std::string json;              // compact, members sorted by name
  bool surplus_history = false;  // the frontend's history names layers that are not there
};

// The config that is stored (images-and-cache.md 3.8): rootfs, history and created are those of
// this build, everything else is the frontend's, unknown members included. kInvalidArgument with
// BuildKit's texts.
absl::StatusOr<ImageConfig> MakeImageConfig(const ImageConfigInput& input);

// The config of an attestation manifest in the form that is no artifact.
std::string AttestationConfig(const std::vector<Digest>& layers);

// The diff ids of a stored config, lowest layer first. kInvalidArgument when it has none.
absl::StatusOr<std::vector<Digest>> DiffIds(absl::string_view config);

}  // namespace kiln::daemon
