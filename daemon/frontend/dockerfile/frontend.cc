#include "daemon/frontend/dockerfile/frontend.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/frontend/dockerfile/build_sources.h"
#include "daemon/frontend/dockerfile/capabilities.h"
#include "daemon/frontend/dockerfile/external_syntax.h"
#include "daemon/frontend/dockerfile/image_lookup.h"
#include "daemon/frontend/dockerfile/options.h"
#include "daemon/frontend/dockerfile/platform_build.h"
#include "daemon/frontend/dockerfile/subrequests.h"
#include "daemon/frontend/dockerfile/warnings.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

using namespace dockerfile;  // NOLINT: the frontend is made of nothing else

absl::StatusOr<BridgeResult> DockerfileFrontend::Run(FrontendClient& client) {
  KILN_ASSIGN_OR_RETURN(const Options options, ParseOptions(client));
  const auto wanted = client.opts().find("frontend.caps");
  const CapabilityCheck caps =
      CheckCapabilities(wanted == client.opts().end() ? "" : wanted->second);
  if (!caps.forward) KILN_RETURN_IF_ERROR(caps.status);

  for (const std::string& name : foresight_.Of(client.opts())) {
    client.ResolveAhead(name, [this, name](const absl::Status& status) {
      if (!status.ok()) foresight_.Failed(name);
    });
  }
  BuildSources sources(&client);
  KILN_RETURN_IF_ERROR(sources.Open());
  KILN_ASSIGN_OR_RETURN(const BuildSources::Dockerfile dockerfile, sources.ReadDockerfile());
  const client::llb::SourceText& text = *dockerfile.text;
  KILN_ASSIGN_OR_RETURN(std::optional<BridgeResult> forwarded,
                        ForwardToSyntax(client, text.filename, text.data));
  if (forwarded) return *std::move(forwarded);
  KILN_RETURN_IF_ERROR(caps.status);

  ImageLookup images(&client);
  if (const auto request = client.opts().find("requestid"); request != client.opts().end()) {
    absl::StatusOr<BridgeResult> answer =
        AnswerSubrequest(request->second, sources, images, options, dockerfile);
    if (answer.ok()) return answer;
    return WithoutLocations(answer.status());
  }
  absl::StatusOr<BridgeResult> result =
      BuildPlatforms(sources, images, options, dockerfile, WarningSink(client, dockerfile));
  if (result.ok()) {
    foresight_.Learn(client.opts(), images.names());
    return result;
  }
  return AttachSource(result.status(), text.filename, text.data);
}

}  // namespace kiln::daemon
