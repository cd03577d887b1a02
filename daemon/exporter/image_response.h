#pragma once

#include <map>
#include <string>

#include "daemon/exporter/image_writer.h"

namespace kiln::daemon {

// What a client is told of an image: its digest, that of its config when it is one manifest, and
// its descriptor (images-and-cache.md 3.9).
std::map<std::string, std::string> ImageResponse(const WrittenImage& image);

}  // namespace kiln::daemon
