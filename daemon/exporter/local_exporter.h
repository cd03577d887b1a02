#pragma once

#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/exporter/exporter.h"

namespace kiln::daemon {

// Type "local": the result as files in a directory of the client.
//
// mode=copy (default) merges into what is there, one stream for each platform at the same time;
// mode=delete sends everything in one stream, and the client removes what is not in it. With
// platform-split (default for a result of several platforms) each platform gets its own top
// directory "os_arch[_variant]"; without it a file that two platforms have is refused.
absl::StatusOr<std::unique_ptr<Exporter>> NewLocalExporter(
    const std::map<std::string, std::string>& attrs);

}  // namespace kiln::daemon
