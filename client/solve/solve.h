#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/connection.h"
#include "client/progress/progress.h"
#include "client/session/exports.h"
#include "client/session/session.h"
#include "store/base/cancel.h"

namespace kiln::client {

// One cache to read from or write to: "type=local,src=…" with its attributes. A local one that is
// read must be there: its digest is looked up in its index unless it is given.
struct CacheEntry {
  std::string type;
  std::map<std::string, std::string> attrs;
};

// What a frontend is asked beyond SolveOptions: results of other builds, say.
struct FrontendCall {
  std::map<std::string, std::string> attrs;
  std::map<std::string, std::string> inputs;  // name → serialized pb.Definition
};

// What a frontend made, before anything of it is run for an export.
struct FrontendResult {
  std::map<std::string, std::string> definitions;  // platform, "" if there is one → pb.Definition
  std::map<std::string, std::string> metadata;
};

struct SolveOptions {
  std::string ref;  // the build's id; "": a new one
  // A serialized pb.Definition. Empty with an empty frontend builds nothing.
  std::string definition;
  std::string frontend;  // or: what makes the definition, "dockerfile.v0" for example
  std::map<std::string, std::string> frontend_attrs;
  std::vector<ExportRequest> outputs;
  std::vector<CacheEntry> cache_imports;
  std::vector<CacheEntry> cache_exports;
  std::vector<std::string> entitlements;  // "network.host", "security.insecure"
  std::string source_policy;              // a serialized sourcepolicy.Policy; "": none
  std::map<std::string, std::string> local_dirs;
  // OCI layouts that the graph may name as sources: name → folder.
  std::map<std::string, std::string> oci_layouts;
  SecretStore secrets;
  SshAgents ssh;
  bool no_cache = false;  // every step runs, whatever is known
  bool internal = false;  // no history record
  CancelToken cancel;
  // Called on Solve's thread, if set: before the frontend is asked, and with its result before the
  // build goes on. May block until `cancel` fires. An error ends the build.
  std::function<absl::Status(FrontendCall* call)> before_frontend;
  std::function<absl::Status(const FrontendResult& result)> after_frontend;
};

struct SolveResult {
  std::string ref;
  std::map<std::string, std::string> exporter_response;
  std::map<std::string, std::string> metadata;  // of the frontend's result
};

// Runs one build: opens a session, lets the daemon solve the definition or frontend through its
// gateway, exports, and follows the progress to its end (wire.md 1.3). Works alike with kilnd and
// buildkitd. Blocking; several may share a connection.
//
// The error carries the daemon's typed details as payloads. kCancelled when `options.cancel` fired
// and the build was stopped. `sink` may be null; it is called from another thread, never after
// return.
absl::StatusOr<SolveResult> Solve(const Connection& connection, const SolveOptions& options,
                                  ProgressSink* sink);

}  // namespace kiln::client
