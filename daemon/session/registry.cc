#include "daemon/session/registry.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "store/base/deadline.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

void SessionRegistry::Add(const SessionPtr& session) {
  SessionPtr replaced;  // destroyed after the lock is gone
  MutexLock lock(&mu_);
  replaced = std::exchange(sessions_[session->id()], session);
  changed_.SignalAll();
}

void SessionRegistry::Remove(const Session& session) {
  SessionPtr removed;
  MutexLock lock(&mu_);
  const auto found = sessions_.find(session.id());
  if (found == sessions_.end() || found->second.get() != &session) return;
  removed = std::move(found->second);
  sessions_.erase(found);
}

size_t SessionRegistry::size() const {
  MutexLock lock(&mu_);
  return sessions_.size();
}

absl::StatusOr<SessionPtr> SessionRegistry::Get(absl::string_view id, const CancelToken& cancel) {
  // "prefix:id" is used to make vertices unique; the prefix names nothing.
  const size_t colon = id.find(':');
  const std::string key(colon == absl::string_view::npos ? id : id.substr(colon + 1));
  const Deadline deadline(wait_);
  // Declared before the lock is taken: its destructor waits for the callback, which takes it too.
  const CancelRegistration wake = cancel.OnCancel([this] {
    MutexLock lock(&mu_);
    changed_.SignalAll();
  });
  MutexLock lock(&mu_);
  while (true) {
    const auto found = sessions_.find(key);
    if (found != sessions_.end()) return found->second;
    if (cancel.Cancelled()) return cancel.status();
    if (deadline.Passed())
      return absl::NotFoundError(
          absl::StrCat("no active session for ", key, ": context deadline exceeded"));
    changed_.WaitFor(&mu_, deadline.Left());
  }
}

absl::Status SessionRegistry::Any(absl::Span<const std::string> ids, const CancelToken& cancel,
                                  const std::function<absl::Status(Session&)>& use) {
  absl::Status last = absl::NotFoundError("no active sessions");
  for (const std::string& id : ids) {
    if (cancel.Cancelled()) return cancel.status();
    absl::StatusOr<SessionPtr> session = Get(id, cancel);
    last = session.ok() ? use(**session) : session.status();
    if (last.ok()) return last;
  }
  return cancel.Cancelled() ? cancel.status() : last;
}

}  // namespace kiln::daemon
