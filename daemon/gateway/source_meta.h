#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/frontend/frontend_client.h"
#include "daemon/gateway/bridge.h"
#include "daemon/source/source.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

struct ResolvedSource {
  FrontendClient::SourceFacts facts;
  std::string git_commit_object, git_tag_object;  // as git keeps them
};

// What a source is now, for a frontend that asks before it builds. `source` is a serialized
// pb.SourceOp; `objects` asks for those of git and for the time of a commit, which may have to be
// fetched. kUnimplemented names a scheme that cannot be resolved. Blocks.
using SourceResolver = std::function<absl::StatusOr<ResolvedSource>(
    const Bridge& bridge, absl::string_view source, bool objects, const CancelToken& cancel)>;

// Resolves what `sources` handle, and nothing else; `sources` outlive the function. Of what is
// local to the client only the source itself is told.
SourceResolver MakeSourceResolver(std::vector<Source*> sources);

}  // namespace kiln::daemon
