#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/gateway/bridge.h"
#include "store/base/cancel.h"
#include "store/base/thread_pool.h"

namespace grpc {
class Service;
}

namespace kiln::daemon {

// What a source resolved to, for a frontend that asks before it builds.
struct SourceMeta {
  enum class Kind { kNone, kGit, kHttp };
  Kind kind = Kind::kNone;  // kNone: nothing beyond the source itself (local)
  std::string checksum;     // git: the commit or the tag's object; http: "sha256:…"
  std::string git_ref, git_commit;
  std::string http_filename;
};
// `source` is a serialized pb.SourceOp. kUnimplemented names a scheme that cannot be resolved yet.
using SourceResolver = std::function<absl::StatusOr<SourceMeta>(
    const Bridge& bridge, absl::string_view source, const CancelToken& cancel)>;

struct BridgeServiceDeps {
  BridgeFinder* finder = nullptr;
  ThreadPool* pool = nullptr;  // runs the calls; many wait for builds
  std::string worker;          // serialized moby.buildkit.v1.types.WorkerRecord
  SourceResolver resolve_source;
};

// moby.buildkit.v1.frontend.LLBBridge on the daemon's own connections: the build is named by the
// header buildkit-controlapi-buildid. Methods of containers, images and frontends in the daemon
// answer UNIMPLEMENTED by name.
std::unique_ptr<grpc::Service> MakeBridgeService(BridgeServiceDeps deps);

}  // namespace kiln::daemon
