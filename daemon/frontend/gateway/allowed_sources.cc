#include "daemon/frontend/gateway/allowed_sources.h"

#include "absl/strings/str_cat.h"
#include "daemon/registry/reference.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

absl::StatusOr<AllowedSources> AllowedSources::Parse(const std::vector<std::string>& repositories) {
  AllowedSources allowed;
  for (const std::string& repository : repositories) {
    KILN_ASSIGN_OR_RETURN(const Reference reference,
                          Annotate(Reference::ParseFamiliar(repository),
                                   "frontend.\"gateway.v0\".allowedRepositories"));
    allowed.repositories_.insert(reference.Repository());
  }
  return allowed;
}

absl::Status AllowedSources::Check(absl::string_view source) const {
  if (repositories_.empty()) return absl::OkStatus();
  KILN_ASSIGN_OR_RETURN(const Reference reference, Reference::ParseFamiliar(source));
  if (repositories_.count(reference.Repository()) > 0) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("'", source, "' is not an allowed gateway source"));
}

}  // namespace kiln::daemon
