#include "daemon/registry/origin_sessions.h"

#include <algorithm>

namespace kiln::daemon {

namespace {
constexpr size_t kMaxSessions = 16;  // for one origin
}  // namespace

void OriginSessions::Note(const std::string& origin, absl::Span<const std::string> session_ids,
                          const CancelToken& cancel) {
  std::vector<Known> fresh;
  for (const std::string& id : session_ids) {
    absl::StatusOr<SessionPtr> session = sessions_->Get(id, cancel);
    if (session.ok()) fresh.push_back({id, (*session)->closed()});
  }
  MutexLock lock(&mu_);
  // Origins whose sessions all left are of no use to anybody.
  for (auto it = by_origin_.begin(); it != by_origin_.end();) {
    std::deque<Known>& list = it->second;
    list.erase(std::remove_if(list.begin(), list.end(),
                              [](const Known& known) { return known.closed.Cancelled(); }),
               list.end());
    it = list.empty() ? by_origin_.erase(it) : std::next(it);
  }
  if (fresh.empty()) return;
  std::deque<Known>& list = by_origin_[origin];
  for (auto it = fresh.rbegin(); it != fresh.rend(); ++it) {
    list.erase(std::remove_if(list.begin(), list.end(),
                              [&](const Known& known) { return known.id == it->id; }),
               list.end());
    list.push_front(std::move(*it));
  }
  if (list.size() > kMaxSessions) list.resize(kMaxSessions);
}

std::vector<std::string> OriginSessions::Find(const std::string& origin) {
  std::vector<std::string> out;
  MutexLock lock(&mu_);
  auto it = by_origin_.find(origin);
  if (it == by_origin_.end()) return out;
  for (const Known& known : it->second)
    if (!known.closed.Cancelled()) out.push_back(known.id);
  return out;
}

}  // namespace kiln::daemon
