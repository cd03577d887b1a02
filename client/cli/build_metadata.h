#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "client/solve/solve.h"

namespace kiln::client {

// What --metadata-file says of one build: the exporters' answers, those that are base64 of JSON as
// what they are, and the build's id.
nlohmann::json MetadataOf(const SolveResult& result);
// What engines name the image by: the digest of its config, or that of the index of several
// images. "" without an image.
std::string ImageId(const SolveResult& result);
std::string MetadataText(const nlohmann::json& metadata);

}  // namespace kiln::client
