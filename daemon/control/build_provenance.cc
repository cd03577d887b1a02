#include "daemon/control/build_provenance.h"

#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "daemon/attest/provenance_options.h"
#include "daemon/image/platform.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

// What was asked of the frontend, wherever it runs.
FrontendCall TopFrontend(const Build& build) {
  if (!build.frontend.empty()) return {build.frontend, build.frontend_attrs};
  FrontendCall call = build.bridge->first_frontend();
  // The client keeps options of this kind for the daemon.
  for (const auto& [key, value] : build.frontend_attrs)
    if (absl::StartsWith(key, "attest:")) call.opts.try_emplace(key, value);
  return call;
}

}  // namespace

absl::StatusOr<BuildProvenance> BuildProvenance::Of(const Build& build, const BridgeResult& result,
                                                    const SourcePins* pins) {
  BuildProvenance out;
  FrontendCall call = TopFrontend(build);
  out.request_.ref = build.ref;
  out.request_.frontend = std::move(call.name);
  out.request_.opts = std::move(call.opts);
  out.request_.started = build.created_at;
  out.request_.finished = absl::Now();
  out.request_.builder_platform = FormatPlatform(HostPlatform());
  out.is_map_ = result.is_map;
  std::map<std::string, std::string> refs = result.refs;
  if (!result.is_map) refs = {{"", result.ref}};
  for (const auto& [platform, ref] : refs) {
    std::string& definition = out.definitions_[platform];
    if (ref.empty()) continue;
    KILN_ASSIGN_OR_RETURN(definition, build.bridge->SolvedDefinitionOf(ref));
  }
  out.tags_ = build.bridge->tags();
  out.pins_ = pins;
  return out;
}

absl::StatusOr<BuildFacts> BuildProvenance::Facts(const std::string& definition) const {
  static const SourcePins none;
  return ReadBuildFacts(definition, pins_ != nullptr ? *pins_ : none, tags_);
}

absl::Status BuildProvenance::Attach(ExportSource* source) const {
  KILN_ASSIGN_OR_RETURN(const auto options, ProvenanceOptions::FromFrontend(request_.opts));
  if (!options.has_value()) return absl::OkStatus();
  for (const auto& [platform, definition] : definitions_) {
    KILN_ASSIGN_OR_RETURN(const BuildFacts facts, Facts(definition));
    KILN_ASSIGN_OR_RETURN(Attestation attestation, MakeProvenance(request_, facts, *options));
    const bool named = is_map_ || source->platforms.empty();
    source->attestations[named ? platform : source->platforms[0].id].push_back(
        std::move(attestation));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::map<std::string, std::string>> BuildProvenance::ForHistory() const {
  ProvenanceOptions options;
  // What is wrong with them was told when they were asked for.
  const auto asked = ProvenanceOptions::FromFrontend(request_.opts);
  if (asked.ok() && asked->has_value()) options.builder_id = (*asked)->builder_id;
  std::map<std::string, std::string> predicates;
  for (const auto& [platform, definition] : definitions_) {
    if (definition.empty()) continue;
    KILN_ASSIGN_OR_RETURN(const BuildFacts facts, Facts(definition));
    KILN_ASSIGN_OR_RETURN(predicates[platform], ProvenancePredicate(request_, facts, options));
  }
  return predicates;
}

}  // namespace kiln::daemon
