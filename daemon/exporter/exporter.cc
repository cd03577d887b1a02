#include "daemon/exporter/exporter.h"

#include "absl/strings/str_cat.h"

namespace kiln::daemon {

absl::StatusOr<store::RefPtr> ExportSource::FindRef(absl::string_view platform_id) const {
  if (!is_map) return ref;
  const auto found = refs.find(std::string(platform_id));
  if (found == refs.end())
    return absl::InvalidArgumentError(absl::StrCat("failed to find ref for ID ", platform_id));
  return found->second;
}

const std::vector<Attestation>* ExportSource::FindAttestations(
    const std::string& platform_id) const {
  auto found = attestations.find(platform_id);
  if (found == attestations.end() && !is_map) found = attestations.find("");
  return found == attestations.end() || found->second.empty() ? nullptr : &found->second;
}

void ExporterTable::Add(std::string type, ExporterFactory factory) {
  factories_.insert_or_assign(std::move(type), std::move(factory));
}

absl::StatusOr<std::unique_ptr<Exporter>> ExporterTable::Create(
    absl::string_view type, const std::map<std::string, std::string>& attrs) const {
  const auto found = factories_.find(std::string(type));
  if (found == factories_.end()) {
    if (type == "image" || type == "oci" || type == "docker")
      return absl::UnimplementedError(
          absl::StrCat("exporter \"", type, "\" is not supported by this daemon yet"));
    // Unknown, as upstream: clients would show another code before the text.
    return absl::UnknownError(absl::StrCat("exporter \"", type, "\" could not be found"));
  }
  return found->second(attrs);
}

}  // namespace kiln::daemon
