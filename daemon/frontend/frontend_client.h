#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/gateway/bridge.h"
#include "daemon/registry/attestation_chain.h"
#include "proto/digest.h"
#include "solver/op.h"
#include "store/base/cancel.h"
#include "store/fsutil/packet.h"

namespace kiln::daemon {

// What a frontend may ask of the build it runs in: LLBBridge (wire.md 4.2) without the wire.
// Implemented over Bridge for frontends inside the daemon, faked in their tests. Thread-safe;
// blocking; every call ends when the build does.
class FrontendClient {
 public:
  virtual ~FrontendClient() = default;

  // SolveRequest.FrontendAttrs, or FrontendOpt of a nested solve.
  virtual const std::map<std::string, std::string>& opts() const = 0;
  // FrontendInputs: name -> serialized pb.Definition.
  virtual const std::map<std::string, std::string>& inputs() const = 0;
  virtual const std::string& session_id() const = 0;
  // The platform of the worker, and those it can build: "linux/amd64" first.
  virtual std::vector<std::string> worker_platforms() const = 0;

  struct Solve {
    std::string definition = {};  // serialized pb.Definition; empty when `frontend` is set
    bool evaluate = false;
    std::string frontend = {};  // "dockerfile.v0", "gateway.v0": a nested frontend
    std::map<std::string, std::string> frontend_opts = {};
    std::map<std::string, std::string> frontend_inputs = {};  // serialized pb.Definition each
    struct CacheImport {
      std::string type;
      std::map<std::string, std::string> attrs;
    };
    std::vector<CacheImport> cache_imports = {};
    std::vector<std::string> source_policies = {};  // serialized sourcepolicy.Policy each
  };
  virtual absl::StatusOr<BridgeResult> SolveGraph(const Solve& solve) = 0;
  // Begins to build a ref that will be read; errors are told then. Does not block. A hint, which
  // may be without effect.
  virtual void Prefetch(absl::string_view /*ref*/) {}
  // The definition that a ref came from, to build upon.
  virtual absl::StatusOr<std::string> DefinitionOf(absl::string_view ref) = 0;

  // Files of a ref ("" is the empty tree). Errors end in "no such file or directory" for what is
  // missing. `length` -1: to the end.
  virtual absl::StatusOr<std::string> ReadFile(absl::string_view ref, absl::string_view path,
                                               int64_t offset, int64_t length) = 0;
  virtual absl::StatusOr<std::vector<fsutil::Stat>> ReadDir(absl::string_view ref,
                                                            absl::string_view path,
                                                            const std::string& include_pattern) = 0;
  virtual absl::StatusOr<fsutil::Stat> StatFile(absl::string_view ref, absl::string_view path) = 0;

  struct ImageRequest {
    std::string reference;                   // as written after docker-image:// or oci-layout://
    std::string platform;                    // "os/arch[/variant]"; "": the worker's
    std::string resolve_mode;                // "default", "pull", "local"
    std::string log_name;                    // name of the step shown meanwhile
    bool oci_layout = false;                 // `reference` is in a client's content store
    std::string store_id, store_session_id;  // of an OCI layout
    std::vector<std::string> source_policies = {};
    // As in ImageQuery.
    bool no_config = false, attestation_chain = false;
    std::vector<std::string> predicate_types = {};
  };
  struct Image {
    std::string reference;                                           // maybe changed by a policy
    Digest digest;                                                   // of the root object
    std::string config;                                              // the image config, JSON
    std::shared_ptr<const AttestationChain> attestations = nullptr;  // when asked for
  };
  virtual absl::StatusOr<Image> ResolveImage(const ImageRequest& request) = 0;
  // Begins to find out what a registry has by that name, which ResolveImage may ask for later: it
  // waits for the answer then. Without credentials, once. `done` is told on another thread, before
  // this client ends, unless that ends it. Does not block. A hint, which may be without effect.
  virtual void ResolveAhead(const std::string& /*reference*/,
                            std::function<void(const absl::Status&)> /*done*/) {}

  // What a git or http source is now. `source` is a serialized pb.SourceOp.
  struct SourceFacts {
    std::string identifier;  // maybe changed by a policy
    std::map<std::string, std::string> attrs;
    std::string checksum;  // git: the commit or the tag's object; http: "sha256:…"
    std::string git_ref, git_commit;
    std::string http_filename;
    // Time of the commit, or Last-Modified; nullopt when it is not known.
    std::optional<int64_t> changed_unix_seconds = {};
  };
  virtual absl::StatusOr<SourceFacts> ResolveSource(absl::string_view source,
                                                    const std::string& log_name) = 0;

  // Raises a warning for a vertex (a lint finding).
  virtual absl::Status Warn(const Digest& vertex, const solver::Warning& warning) = 0;

  virtual const CancelToken& cancel() const = 0;
};

// A program that turns options and inputs into a result. Thread-safe: one object serves all builds.
class Frontend {
 public:
  virtual ~Frontend() = default;
  virtual absl::StatusOr<BridgeResult> Run(FrontendClient& client) = 0;
};

}  // namespace kiln::daemon
