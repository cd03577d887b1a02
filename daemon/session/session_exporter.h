#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/session/session.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// The service Exporter of a client (images-and-cache.md 3.9), as blocking functions. A client that
// does not offer it, or is not there for it, is no error.

struct SessionExporter {
  std::string type;
  std::map<std::string, std::string> attrs;
};

// The exports that the client wants beside those of its request, now that it can see the result's
// metadata and the ids of its trees.
absl::StatusOr<std::vector<SessionExporter>> FindSessionExporters(
    Session& session, const std::map<std::string, std::string>& metadata,
    const std::vector<std::string>& refs, const CancelToken& cancel);

// Tells the client what all exporters have said.
absl::Status FinalizeSessionExport(Session& session,
                                   const std::map<std::string, std::string>& response,
                                   const CancelToken& cancel);

}  // namespace kiln::daemon
