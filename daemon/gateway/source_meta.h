#pragma once

#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/frontend/frontend_client.h"
#include "daemon/gateway/bridge.h"
#include "daemon/source/source.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// What a source is now, for a frontend that asks before it builds. `source` is a serialized
// pb.SourceOp. kUnimplemented names a scheme that cannot be resolved. Blocks.
using SourceResolver = std::function<absl::StatusOr<FrontendClient::SourceFacts>(
    const Bridge& bridge, absl::string_view source, const CancelToken& cancel)>;

// Resolves what `sources` handle, and nothing else; `sources` outlive the function. Of what is
// local to the client only the source itself is told.
SourceResolver MakeSourceResolver(std::vector<Source*> sources);

}  // namespace kiln::daemon
