#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/attest/attestation.h"
#include "daemon/gateway/container_table.h"
#include "daemon/policy/source_judge.h"
#include "proto/digest.h"
#include "solver/solver.h"
#include "store/base/cancel.h"
#include "store/base/mutex.h"
#include "store/ref_store.h"

namespace kiln::daemon {

// An attestation whose tree is a ref.
struct BridgeAttestation {
  std::string ref;          // "": it has no tree
  Attestation attestation;  // but for its tree
};

// What a frontend returns: refs by id ("" = no file system) and free metadata.
struct BridgeResult {
  bool is_map = false;
  std::string ref;                          // when not a map
  std::map<std::string, std::string> refs;  // platform id -> ref id
  std::map<std::string, std::string> metadata;
  std::map<std::string, std::vector<BridgeAttestation>> attestations = {};  // by platform id
};

// A frontend that was asked for, and how.
struct FrontendCall {
  std::string name;  // "": none was
  std::map<std::string, std::string> opts;
};

struct BridgeOptions {
  std::shared_ptr<solver::Job> job;
  // SolveRequest.FrontendAttrs, or FrontendOpt of a nested solve.
  std::map<std::string, std::string> opts = {};
  // SolveRequest.FrontendInputs: name -> serialized pb.Definition.
  std::map<std::string, std::string> inputs = {};
  std::vector<std::string> session_ids = {};
  std::vector<std::string> entitlements = {};  // granted to the job
  // Type and attributes of the remote caches that the build imports.
  std::set<std::pair<std::string, std::map<std::string, std::string>>> cache_imports = {};
  // Decides on every source before it is used; null: all are as the graph says.
  std::shared_ptr<const SourceJudge> judge = nullptr;
  // Gives the steps of a serialized pb.Definition their devices (policy/grant_devices.h); null:
  // there are none.
  std::function<absl::StatusOr<std::string>(std::string definition)> grant_devices = nullptr;
  // Takes warnings that the frontend raises for a vertex.
  std::function<void(const Digest& vertex, solver::Warning warning)> warn;
};

// One build as one frontend sees it: lazy refs, and one answer (wire.md 4). A frontend that another
// one runs has a bridge of its own on the same job. Reached through BridgeClient. Thread-safe.
class Bridge {
 public:
  explicit Bridge(BridgeOptions options) : options_(std::move(options)) {}

  const BridgeOptions& options() const { return options_; }

  // Makes a lazy ref of a serialized pb.Definition; nothing is looked at before it is evaluated.
  // "" for a definition without ops. `policies` (serialized sourcepolicy.Policy) hold for it beside
  // those of the build. kResourceExhausted when all refs together would hold more than 256 MiB.
  absl::StatusOr<std::string> AddDefinition(std::string definition, bool has_ops,
                                            const std::vector<std::string>& policies = {});

  // A frontend wants a remote cache. Those that the build imports serve every definition of it; of
  // another one the status stream says that it is not read, and the build goes on without it.
  void ImportCache(const std::string& type, const std::map<std::string, std::string>& attrs);

  // The definition a ref came from.
  absl::StatusOr<std::string> DefinitionOf(absl::string_view ref_id);
  // The definition that the solver was given for an evaluated ref: policies may have changed it.
  absl::StatusOr<std::string> SolvedDefinitionOf(absl::string_view ref_id);

  // Builds the ref; null for "". Errors carry their typed details. Blocks.
  absl::StatusOr<solver::ResultPtr> Evaluate(absl::string_view ref_id, const CancelToken& cancel);

  // Begins what Evaluate will need (solver::Job::Begin): all of it, or what runs nothing but the
  // transfer of the client's directories. Errors are told by Evaluate. Not under a policy, which
  // may have to be asked first. Does not block.
  enum class Begun { kWhole, kKeys };
  void Begin(absl::string_view ref_id, Begun what);

  // The evaluated tree of a ref, for reading files. "empty ref: X" when there is none. Blocks.
  absl::StatusOr<store::RefPtr> Tree(absl::string_view ref_id, const CancelToken& cancel);

  // Keeps a tree of a failed step until Close, for containers. The id that its client names it by,
  // the same for the same tree; "" after Close.
  std::string KeepFailed(store::RefPtr tree);
  // What a container mounts under a ref id: such a tree, or the built ref. "return reference X not
  // found". Blocks.
  absl::StatusOr<store::RefPtr> TreeToMount(absl::string_view id, const CancelToken& cancel);

  // The frontend's answer, once: "gateway result is already set". An unknown ref in it is
  // "return reference X not found".
  absl::Status Return(absl::StatusOr<BridgeResult> result);

  // The answer, if it was given.
  std::optional<absl::StatusOr<BridgeResult>> Answer() {
    MutexLock lock(&mu_);
    return answer_;
  }
  // Waits for the answer.
  absl::StatusOr<BridgeResult> WaitForReturn(const CancelToken& cancel);

  // Takes over from the bridge of a nested frontend the refs that its answer names, and its tags.
  // Ids stay the same. An unknown one is "return reference X not found".
  absl::Status Adopt(Bridge& nested, const BridgeResult& result);
  // The same for the trees of its failed steps: an error of it may name them.
  void AdoptFailed(Bridge& nested);

  // Remembers the first frontend that was run through this bridge, for provenance.
  void NoteFrontend(const std::string& name, const std::map<std::string, std::string>& opts);
  FrontendCall first_frontend();

  // Remembers that an image was asked for by this name, a tag and no digest, for provenance.
  void NoteTag(const std::string& name);
  std::set<std::string> tags();

  // The containers that the frontend made.
  ContainerTable& containers() { return containers_; }

  // Ends the build for the frontend: every later call fails with `why`, refs are dropped,
  // containers are killed. Blocks until they are gone.
  void Close(absl::Status why);
  // Fires at Close.
  CancelToken closed() const { return closing_.token(); }

 private:
  struct Ref {
    std::string definition;
    std::shared_ptr<const SourceJudge> judge;
    std::string solved_definition;  // "": as `definition`
    solver::ResultPtr result;
    bool evaluated = false;
  };
  // Every ref id in `result`, "" left out.
  static std::vector<std::string> RefIds(const BridgeResult& result);
  absl::StatusOr<Ref*> FindLocked(absl::string_view ref_id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const BridgeOptions options_;
  CancelSource closing_;
  ContainerTable containers_;
  Mutex mu_;
  CondVar returned_;
  absl::flat_hash_map<std::string, Ref> refs_ ABSL_GUARDED_BY(mu_);
  size_t definition_bytes_ ABSL_GUARDED_BY(mu_) = 0;  // of all that AddDefinition took
  std::map<std::string, store::RefPtr, std::less<>> failed_ ABSL_GUARDED_BY(mu_);
  std::optional<absl::StatusOr<BridgeResult>> answer_ ABSL_GUARDED_BY(mu_);
  absl::Status closed_ ABSL_GUARDED_BY(mu_);
  FrontendCall first_frontend_ ABSL_GUARDED_BY(mu_);
  std::set<std::string> tags_ ABSL_GUARDED_BY(mu_);
};

// Finds the bridge of a build that is running. Thread-safe.
class BridgeFinder {
 public:
  virtual ~BridgeFinder() = default;
  // Waits up to 3 s for the build to appear. kNotFound "no such job X". Blocks.
  virtual absl::StatusOr<std::shared_ptr<Bridge>> FindBridge(absl::string_view build_id,
                                                             const CancelToken& cancel) = 0;
};

// 25 characters of [0-9a-z], as BuildKit's ids.
std::string NewId();

}  // namespace kiln::daemon
