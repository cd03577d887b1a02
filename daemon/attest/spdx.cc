#include "daemon/attest/spdx.h"

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

using Json = nlohmann::ordered_json;  // members stay where they are

absl::Status NameLayersOf(Json& owner, const LayerFinder& layer_of) {
  const auto files = owner.find("files");
  if (files == owner.end() || !files->is_array()) return absl::OkStatus();
  for (Json& file : *files) {
    if (!file.is_object()) continue;
    const auto comment = file.find("comment");
    if (comment != file.end() && *comment != "") continue;  // somebody else's words
    const auto name = file.find("fileName");
    if (name == file.end() || !name->is_string()) continue;
    KILN_ASSIGN_OR_RETURN(const auto layer, layer_of(name->get<std::string>()));
    if (layer.has_value()) file["comment"] = absl::StrCat("layerID: ", layer->ToString());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> NameLayersInSpdx(const std::string& document,
                                             const LayerFinder& layer_of) {
  Json spdx = Json::parse(document, nullptr, false);
  if (!spdx.is_object()) return document;
  const auto version = spdx.find("spdxVersion");
  if (version == spdx.end() || !version->is_string() ||
      !absl::StartsWith(version->get_ref<const std::string&>(), "SPDX-2."))
    return document;
  KILN_RETURN_IF_ERROR(NameLayersOf(spdx, layer_of));
  if (const auto packages = spdx.find("packages"); packages != spdx.end() && packages->is_array()) {
    for (Json& package : *packages)
      if (package.is_object()) KILN_RETURN_IF_ERROR(NameLayersOf(package, layer_of));
  }
  Json& creation = spdx["creationInfo"];
  if (!creation.is_object()) creation = Json::object();
  Json& creators = creation["creators"];
  if (!creators.is_array()) creators = Json::array();
  creators.push_back("Tool: kilnd-" KILN_VERSION);
  return spdx.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace kiln::daemon
