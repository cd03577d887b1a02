#include "daemon/control/build_provenance.h"

#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "daemon/attest/provenance_options.h"
#include "daemon/image/platform.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

FrontendCall BuildProvenance::TopFrontend() const {
  if (!build_.frontend.empty()) return {build_.frontend, build_.frontend_attrs};
  FrontendCall call = build_.bridge->first_frontend();
  // The client keeps options of this kind for the daemon.
  for (const auto& [key, value] : build_.frontend_attrs)
    if (absl::StartsWith(key, "attest:")) call.opts.try_emplace(key, value);
  return call;
}

BuildRequest BuildProvenance::Request(FrontendCall call) const {
  BuildRequest request;
  request.ref = build_.ref;
  request.frontend = std::move(call.name);
  request.opts = std::move(call.opts);
  request.started = build_.created_at;
  request.finished = absl::Now();
  request.builder_platform = FormatPlatform(HostPlatform());
  return request;
}

absl::StatusOr<BuildFacts> BuildProvenance::Facts(const std::string& ref) const {
  static const SourcePins none;
  std::string definition;
  if (!ref.empty()) {
    KILN_ASSIGN_OR_RETURN(definition, build_.bridge->SolvedDefinitionOf(ref));
  }
  return ReadBuildFacts(definition, pins_ != nullptr ? *pins_ : none, build_.bridge->tags());
}

absl::Status BuildProvenance::Attach(ExportSource* source) const {
  FrontendCall call = TopFrontend();
  KILN_ASSIGN_OR_RETURN(const auto options, ProvenanceOptions::FromFrontend(call.opts));
  if (!options.has_value()) return absl::OkStatus();
  const BuildRequest request = Request(std::move(call));
  const auto attach = [&](const std::string& platform, const std::string& ref) -> absl::Status {
    KILN_ASSIGN_OR_RETURN(const BuildFacts facts, Facts(ref));
    KILN_ASSIGN_OR_RETURN(Attestation attestation, MakeProvenance(request, facts, *options));
    source->attestations[platform].push_back(std::move(attestation));
    return absl::OkStatus();
  };
  if (!result_.is_map)
    return attach(source->platforms.empty() ? "" : source->platforms[0].id, result_.ref);
  for (const auto& [platform, ref] : result_.refs) KILN_RETURN_IF_ERROR(attach(platform, ref));
  return absl::OkStatus();
}

absl::StatusOr<std::map<std::string, std::string>> BuildProvenance::ForHistory() const {
  FrontendCall call = TopFrontend();
  ProvenanceOptions options;
  // What is wrong with them was told when they were asked for.
  const auto asked = ProvenanceOptions::FromFrontend(call.opts);
  if (asked.ok() && asked->has_value()) options.builder_id = (*asked)->builder_id;
  const BuildRequest request = Request(std::move(call));
  std::map<std::string, std::string> refs = result_.refs;
  if (!result_.is_map) refs = {{"", result_.ref}};
  std::map<std::string, std::string> predicates;
  for (const auto& [platform, ref] : refs) {
    if (ref.empty()) continue;
    KILN_ASSIGN_OR_RETURN(const BuildFacts facts, Facts(ref));
    KILN_ASSIGN_OR_RETURN(predicates[platform], ProvenancePredicate(request, facts, options));
  }
  return predicates;
}

}  // namespace kiln::daemon
