#pragma once

#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/digest.h"

namespace kiln::daemon {

// The layer whose blob brought the file with this path; nullopt: none did.
using LayerFinder = std::function<absl::StatusOr<std::optional<Digest>>(const std::string& path)>;

// An SPDX document (JSON) that names the layer of each file that has no comment yet, and this
// daemon as one of its creators. What is no SPDX document comes back as it is. Errors are those of
// `layer_of`. Linear but for the look-ups.
absl::StatusOr<std::string> NameLayersInSpdx(const std::string& document,
                                             const LayerFinder& layer_of);

}  // namespace kiln::daemon
