#include "client/cli/build_metadata.h"

#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"

namespace kiln::client {

nlohmann::json MetadataOf(const SolveResult& result) {
  nlohmann::json metadata = nlohmann::json::object();
  for (const auto& [key, value] : result.exporter_response) {
    std::string decoded;
    nlohmann::json parsed = nlohmann::json::value_t::discarded;
    if (absl::Base64Unescape(value, &decoded))
      parsed = nlohmann::json::parse(decoded, nullptr, false);
    metadata[key] = parsed.is_object() || parsed.is_array() ? parsed : nlohmann::json(value);
  }
  metadata["buildx.build.ref"] = result.ref;
  return metadata;
}

std::string ImageId(const SolveResult& result) {
  for (const char* key : {"containerimage.config.digest", "containerimage.digest"}) {
    const auto found = result.exporter_response.find(key);
    if (found != result.exporter_response.end()) return found->second;
  }
  return "";
}

std::string MetadataText(const nlohmann::json& metadata) {
  return metadata.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace kiln::client
