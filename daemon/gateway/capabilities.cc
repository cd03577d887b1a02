#include "daemon/gateway/capabilities.h"

#include <algorithm>

#include "solver/capabilities.h"

namespace kiln::daemon {

std::vector<absl::string_view> FrontendCapabilities() {
  return {"frontend.caps",
          "frontend.inputs",
          "gateway.evaluate",
          "gateway.exec",
          "gateway.exec.extrahosts",
          "gateway.exec.filesystem",
          "gateway.exec.secretenv",
          "gateway.exec.signals",
          "gateway.solve.evaluate",
          "gateway.solve.metadata",
          "gateway.warnings",
          "importcaches",
          "proto.refarray",
          "readdir",
          "readfile",
          "reference.attestations",
          "reference.output",
          "resolveimage",
          "resolveimage.resolvemode",
          "return",
          "returnmap",
          "solve.base",
          "solve.inlinereturn",
          "source.metaresolver",
          "source.metaresolver.http.checksumrequest",
          "source.metaresolver.image.attestations",
          "statfile"};
}

std::vector<absl::string_view> LlbCapabilitiesOffered() {
  const auto all = solver::LlbCapabilities();
  std::vector<absl::string_view> offered(all.begin(), all.end());
  // Accepted in definitions, but the control service has no part of its own for them yet.
  const auto missing = [](absl::string_view id) { return id == "exec.meta.network.proxy"; };
  offered.erase(std::remove_if(offered.begin(), offered.end(), missing), offered.end());
  // Nothing that a definition could ask for.
  offered.push_back("history.filter");
  std::sort(offered.begin(), offered.end());
  return offered;
}

}  // namespace kiln::daemon
