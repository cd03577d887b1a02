#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/image/platform.h"
#include "daemon/source/file_hash.h"
#include "solver/op.h"
#include "store/ref_store.h"

namespace kiln::daemon {

// A pb.SourceOp, as plain values.
struct SourceSpec {
  std::string identifier;  // "SCHEME://REF"
  std::map<std::string, std::string> attrs;
  Platform platform = {};  // of the op; nothing set: the host's
};

// What names the content of a source.
struct SourceKey {
  // The op's cache digest is sha256("buildkit.source.v0:" + key). With the prefix "session:" it is
  // "random:" + that hex instead: never persisted in a useful way, never exported.
  std::string key;
  // What the source resolved to (commit, content digest); goes into provenance.
  std::string pin;
  // False: another key (index + 1) may be asked for when this one gave no cache hit.
  bool done = true;
};

// What can be told of a source beside its key, without delivering it. Empty: not known, or not of
// this kind of source.
struct SourceDetails {
  std::string git_ref, git_commit;                     // the full name; the commit it leads to
  std::string git_commit_object, git_tag_object = {};  // as git keeps them, when asked for
  std::string filename = {};                           // http
  std::optional<absl::Time> changed = {};              // time of the commit, or Last-Modified
};

// What a client wants hashed: the bytes of the one file that a source delivers, then `suffix`.
struct ChecksumQuestion {
  FileHash algorithm = FileHash::kSha256;
  std::string suffix = {};
};

// One source of one vertex. What Key() resolved is remembered, so that Snapshot() delivers exactly
// that content even if the remote moved meanwhile. Thread-safe; blocking; honours
// context.cancel() at every wait.
class SourceInstance {
 public:
  virtual ~SourceInstance() = default;
  virtual absl::StatusOr<SourceKey> Key(solver::OpContext& context, int index) = 0;
  // May be called without Key() when the solver found the key by other means.
  virtual absl::StatusOr<store::RefPtr> Snapshot(solver::OpContext& context) = 0;
  // `objects`: those of git, too, and the time of the commit; they may have to be fetched.
  virtual absl::StatusOr<SourceDetails> Details(solver::OpContext& /*context*/, bool /*objects*/) {
    return SourceDetails();
  }
  // "sha512:…". The file is delivered for it if it is not here. kUnimplemented: not of this kind of
  // source.
  virtual absl::StatusOr<std::string> Checksum(solver::OpContext& /*context*/,
                                               const ChecksumQuestion& /*question*/) {
    return absl::UnimplementedError("only http sources have checksums of their bytes");
  }
  // True when the session that is asked decides what it is (solver::Op::PerSession).
  virtual bool PerSession() const { return false; }
  // True when Key neither blocks nor does I/O (solver::Op::CheapCacheMap).
  virtual bool CheapKey() const { return false; }
  // True when Snapshot is worth beginning early (solver::Op::RunsEarly).
  virtual bool RunsEarly() const { return false; }
};

// A kind of source. Thread-safe.
class Source {
 public:
  virtual ~Source() = default;
  // `scheme` without "://".
  virtual bool Handles(absl::string_view scheme) const = 0;
  // Checks identifier and attributes (unknown attributes are ignored); never blocks. Errors name
  // the attribute and the reason.
  virtual absl::StatusOr<std::shared_ptr<SourceInstance>> Resolve(const SourceSpec& spec) = 0;
};

}  // namespace kiln::daemon
