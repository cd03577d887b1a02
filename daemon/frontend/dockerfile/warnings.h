#pragma once

#include "daemon/frontend/dockerfile/build_sources.h"
#include "daemon/frontend/dockerfile/lint.h"
#include "daemon/frontend/frontend_client.h"

namespace kiln::daemon::dockerfile {

// Shows findings as warnings of the step that loaded the Dockerfile. Both outlive the sink.
Linter::Sink WarningSink(FrontendClient& client, const BuildSources::Dockerfile& dockerfile);

}  // namespace kiln::daemon::dockerfile
