#include "daemon/frontend/sbom_attach.h"

#include <utility>

#include "client/llb/from_definition.h"
#include "daemon/frontend/sbom_scan.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

absl::Status AttachSbom(FrontendClient& client, const std::map<std::string, std::string>& opts,
                        const std::vector<std::string>& platforms, BridgeResult* result) {
  KILN_ASSIGN_OR_RETURN(const std::optional<SbomOptions> options, SbomOptions::FromFrontend(opts));
  if (!options || HasSbom(*result)) return absl::OkStatus();
  // What runs the scanner, whatever the result is for.
  const std::vector<std::string> workers = client.worker_platforms();
  Platform platform = HostPlatform();
  if (!workers.empty()) {
    KILN_ASSIGN_OR_RETURN(platform, ParsePlatform(workers[0]));
  }
  const auto mode = opts.find("image-resolve-mode");
  KILN_ASSIGN_OR_RETURN(const SbomScanner scanner,
                        SbomScanner::Create(client, *options, platform,
                                            mode == opts.end() ? "default" : mode->second));
  const auto no_cache = opts.find("no-cache");
  const auto scan = [&](const std::string& key, const std::string& ref) -> absl::Status {
    if (ref.empty()) return absl::OkStatus();
    SbomScanner::Target target;
    target.name = key.empty() ? FormatPlatform(platform) : key;
    target.ignore_cache = no_cache != opts.end() && no_cache->second.empty();
    KILN_ASSIGN_OR_RETURN(const std::string definition, client.DefinitionOf(ref));
    KILN_ASSIGN_OR_RETURN(target.core, client::llb::FromDefinition(definition));
    KILN_ASSIGN_OR_RETURN(BridgeAttestation made, scanner.Scan(target));
    result->attestations[key].push_back(std::move(made));
    return absl::OkStatus();
  };
  if (!result->is_map) return scan(platforms.empty() ? "" : platforms[0], result->ref);
  for (const auto& [id, ref] : result->refs) KILN_RETURN_IF_ERROR(scan(id, ref));
  return absl::OkStatus();
}

}  // namespace kiln::daemon
