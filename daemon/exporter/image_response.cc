#include "daemon/exporter/image_response.h"

#include "absl/strings/escaping.h"

namespace kiln::daemon {

std::map<std::string, std::string> ImageResponse(const WrittenImage& image) {
  std::map<std::string, std::string> response;
  response["containerimage.digest"] = image.root.descriptor.digest.ToString();
  if (image.config.has_value()) response["containerimage.config.digest"] = image.config->ToString();
  response["containerimage.descriptor"] = absl::Base64Escape(DescriptorToJson(image.root));
  return response;
}

}  // namespace kiln::daemon
