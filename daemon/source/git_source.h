#pragma once

#include <memory>
#include <string>
#include <utility>

#include "daemon/session/session.h"
#include "daemon/source/source.h"
#include "store/base/named_locks.h"
#include "store/ref_store.h"

namespace kiln::daemon {

// "git://REMOTE#REF:SUBDIR": the files of one commit, or a bundle of it.
//
// Each remote has one bare repository in a retained mutable, used by one build at a time; finished
// checkouts are kept by their key and shared. What Key() resolved is what Snapshot() delivers, also
// when the ref moved meanwhile; a ref is resolved once for each job.
class GitSource : public Source {
 public:
  // All outlive the source. `runtime_dir` is a private folder for agent sockets and known hosts.
  // `blobs` delivers bundles; null: they are refused.
  GitSource(store::RefStore* refs, SessionFinder* sessions, std::string runtime_dir,
            Source* blobs = nullptr)
      : refs_(refs), sessions_(sessions), runtime_dir_(std::move(runtime_dir)), blobs_(blobs) {}

  bool Handles(absl::string_view scheme) const override { return scheme == "git"; }
  absl::StatusOr<std::shared_ptr<SourceInstance>> Resolve(const SourceSpec& spec) override;

 private:
  store::RefStore* const refs_;
  SessionFinder* const sessions_;
  const std::string runtime_dir_;
  Source* const blobs_;
  NamedLocks locks_;
};

}  // namespace kiln::daemon
