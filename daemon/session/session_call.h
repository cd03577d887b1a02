#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "daemon/session/call_metadata.h"
#include "daemon/session/session.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// One call through a session: its context, cancelled when the caller gives up or the client leaves.
// May outlive the session.
class SessionCall {
 public:
  SessionCall(Session& session, const CancelToken& cancel);

  grpc::ClientContext* context() { return &context_; }
  void AddHeaders(const CallMetadata& metadata);

  // The outcome: the cause of a cancel, kUnavailable for a client that left, else what gRPC says
  // with its details.
  absl::Status ToStatus(const grpc::Status& status) const;

 private:
  const std::string session_id_;
  const CancelToken cancel_, closed_;
  grpc::ClientContext context_;
  CancelRegistration on_cancel_, on_close_;  // last: gone before the context
};

}  // namespace kiln::daemon
