#pragma once

#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/exporter/exporter.h"
#include "daemon/exporter/image_pusher.h"
#include "daemon/exporter/image_writer.h"
#include "store/image_table.h"

namespace kiln::daemon {

// What image exporters work with; all outlive them.
struct ImageExporterDeps {
  ImageWriter* writer = nullptr;
  ImagePusher* pusher = nullptr;
  store::ImageTable* images = nullptr;
};

// Type "image": the result as an image that the daemon keeps by name, and pushes when asked
// (images-and-cache.md 3.3). An image that is pushed is kept only with store=true: a daemon that
// pushes a new tag every minute would fill its disk.
absl::StatusOr<std::unique_ptr<Exporter>> NewImageExporter(
    const ImageExporterDeps& deps, const std::map<std::string, std::string>& attrs);

}  // namespace kiln::daemon
