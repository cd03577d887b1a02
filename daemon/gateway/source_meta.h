#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/frontend/frontend_client.h"
#include "daemon/gateway/bridge.h"
#include "daemon/source/source.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// What is asked of a source beside what it is.
struct SourceQuestion {
  bool git_objects = false;  // and the time of a commit; they may have to be fetched
  std::optional<ChecksumQuestion> checksum = std::nullopt;  // of http sources
};

struct ResolvedSource {
  FrontendClient::SourceFacts facts;
  std::string git_commit_object, git_tag_object;  // as git keeps them
  std::string asked_checksum;
};

// What a source is now, for a frontend that asks before it builds. `source` is a serialized
// pb.SourceOp. kUnimplemented names a scheme that cannot be resolved. Blocks.
using SourceResolver = std::function<absl::StatusOr<ResolvedSource>(
    const Bridge& bridge, absl::string_view source, const SourceQuestion& question,
    const CancelToken& cancel)>;

// Resolves what `sources` handle, and nothing else; `sources` outlive the function. Of what is
// local to the client only the source itself is told.
SourceResolver MakeSourceResolver(std::vector<Source*> sources);

}  // namespace kiln::daemon
