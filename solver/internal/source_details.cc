#include "solver/internal/source_details.h"

#include <string>

#include "absl/strings/cord.h"
#include "proto/status_details.h"

namespace kiln::solver {

void AddSourceDetails(const SourceMap* sources, absl::Status* status) {
  if (sources == nullptr || status->ok()) return;
  const auto payload = status->GetPayload(kVertexDetail);
  if (!payload.has_value()) return;
  const std::string json(*payload);
  const size_t at = json.find("sha256:");
  if (at == std::string::npos) return;
  const absl::StatusOr<Digest> digest = Digest::Parse(absl::string_view(json).substr(at, 7 + 64));
  if (!digest.ok()) return;
  const auto found = sources->locations.find(*digest);
  if (found == sources->locations.end()) return;
  for (const SourceMap::Location& location : found->second)
    AddSourceDetail(sources->infos[location.info], location.ranges, status);
}

}  // namespace kiln::solver
