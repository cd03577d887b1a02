#include "daemon/session/session_call.h"

#include "absl/strings/str_cat.h"
#include "proto/status_details.h"

namespace kiln::daemon {

SessionCall::SessionCall(Session& session, const CancelToken& cancel)
    : session_id_(session.id()), cancel_(cancel), closed_(session.closed()) {
  // TryCancel neither blocks nor needs the call to have begun.
  on_cancel_ = cancel.OnCancel([this] { context_.TryCancel(); });
  on_close_ = closed_.OnCancel([this] { context_.TryCancel(); });
}

void SessionCall::AddHeaders(const CallMetadata& metadata) {
  for (const auto& [key, value] : metadata.entries()) context_.AddMetadata(key, value);
}

absl::Status SessionCall::ToStatus(const grpc::Status& status) const {
  if (status.ok()) return absl::OkStatus();
  if (cancel_.Cancelled()) return cancel_.status();
  if (closed_.Cancelled())
    return absl::UnavailableError(absl::StrCat("session ", session_id_, " was closed"));
  return MakeStatus(status.error_code(), status.error_message(), status.error_details());
}

}  // namespace kiln::daemon
