#pragma once

#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/exporter/exporter.h"
#include "daemon/exporter/image_writer.h"

namespace kiln::daemon {

// Types "oci" and "docker": the result as an image archive of the client, or with tar=false as
// blobs in the client's content store "export". docker writes one image and no attestations, so
// that every engine can load it. `writer` outlives the exporter.
absl::StatusOr<std::unique_ptr<Exporter>> NewArchiveExporter(
    ImageWriter* writer, bool docker, const std::map<std::string, std::string>& attrs);

}  // namespace kiln::daemon
