#pragma once

#include <memory>
#include <string>

#include "daemon/session/session.h"
#include "daemon/source/source.h"
#include "store/ref_store.h"

namespace kiln::daemon {

class CallEndings;
class LocalCopies;

// "local://NAME": a directory of a client, synced over its session.
//
// An earlier copy of the same directory (same client, name and hint) is brought up to date in
// place, so that only changes travel; builds of one client at the same time take different copies,
// the later ones starting from what the earlier ones have (local_copies.h).
// With `local.session` that session is asked first; any other of the vertex where it is absent,
// leaves, or does not offer the directory.
class LocalSource : public Source {
 public:
  // Both outlive the source.
  LocalSource(store::RefStore* refs, SessionFinder* sessions);

  bool Handles(absl::string_view scheme) const override { return scheme == "local"; }
  absl::StatusOr<std::shared_ptr<SourceInstance>> Resolve(const SourceSpec& spec) override;

 private:
  const std::shared_ptr<LocalCopies> copies_;
  const std::shared_ptr<CallEndings> endings_;
  SessionFinder* const sessions_;
};

}  // namespace kiln::daemon
