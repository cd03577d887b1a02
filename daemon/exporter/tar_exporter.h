#pragma once

#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/exporter/exporter.h"

namespace kiln::daemon {

// Type "tar": the result as one tar file of the client. A result of several platforms gets a top
// directory "os_arch[_variant]" for each.
absl::StatusOr<std::unique_ptr<Exporter>> NewTarExporter(
    const std::map<std::string, std::string>& attrs);

}  // namespace kiln::daemon
