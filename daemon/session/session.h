#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "store/base/cancel.h"

namespace grpc {
class Channel;
}

namespace kiln::daemon {

// One attached client: a gRPC channel to the services it exposes (wire.md 2). Thread-safe.
class Session {
 public:
  virtual ~Session() = default;
  virtual const std::string& id() const = 0;
  // "Same client, same directory"; may be empty.
  virtual const std::string& shared_key() const = 0;
  // `method` as "/pkg.Service/Method", compared case-insensitively.
  virtual bool Supports(absl::string_view method) const = 0;
  // Calls through it fail with kUnavailable once the client is gone.
  virtual std::shared_ptr<grpc::Channel> channel() const = 0;
  // Fires when the client leaves.
  virtual CancelToken closed() const = 0;
};
using SessionPtr = std::shared_ptr<Session>;

// Finds sessions by id, waiting for those that are about to attach. Thread-safe; blocking.
class SessionFinder {
 public:
  virtual ~SessionFinder() = default;

  // Waits up to 5 s for the session. Everything up to the first ':' of `id` is ignored.
  // kNotFound "no active session for X: context deadline exceeded".
  virtual absl::StatusOr<SessionPtr> Get(absl::string_view id, const CancelToken& cancel) = 0;

  // Tries `use` on each session of the group in turn until one succeeds; the last error otherwise;
  // "no active sessions" for an empty group.
  virtual absl::Status Any(absl::Span<const std::string> ids, const CancelToken& cancel,
                           const std::function<absl::Status(Session&)>& use) = 0;
};

}  // namespace kiln::daemon
