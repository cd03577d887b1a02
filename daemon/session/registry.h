#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "daemon/session/session.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

// The sessions attached now. Thread-safe.
class SessionRegistry : public SessionFinder {
 public:
  // How long Get waits for a session that has not attached yet.
  explicit SessionRegistry(absl::Duration wait = absl::Seconds(5)) : wait_(wait) {}

  // Makes the session findable; an older one with the same id is no longer found, but lives on.
  void Add(const SessionPtr& session);
  // Forgets it, unless another one took its id.
  void Remove(const Session& session);
  size_t size() const;

  absl::StatusOr<SessionPtr> Get(absl::string_view id, const CancelToken& cancel) override;
  absl::Status Any(absl::Span<const std::string> ids, const CancelToken& cancel,
                   const std::function<absl::Status(Session&)>& use) override;

 private:
  const absl::Duration wait_;
  mutable Mutex mu_;
  CondVar changed_;
  absl::flat_hash_map<std::string, SessionPtr> sessions_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::daemon
