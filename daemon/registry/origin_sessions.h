#pragma once

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "daemon/session/session.h"
#include "store/base/cancel.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

// Which attached sessions resolved images of an origin lately: those whose credentials and stores
// will do for its lazy layers. Thread-safe.
class OriginSessions {
 public:
  // `sessions` outlives it.
  explicit OriginSessions(SessionFinder* sessions) : sessions_(sessions) {}

  // The sessions may use `origin`. Those that are not attached are left out. Blocks when one has to
  // be waited for.
  void Note(const std::string& origin, absl::Span<const std::string> session_ids,
            const CancelToken& cancel);

  // Those of them that are still there, the latest first.
  std::vector<std::string> Find(const std::string& origin);

 private:
  struct Known {
    std::string id;
    CancelToken closed;
  };

  SessionFinder* const sessions_;
  Mutex mu_;
  std::map<std::string, std::deque<Known>> by_origin_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::daemon
