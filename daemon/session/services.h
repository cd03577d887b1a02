#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/session/call_endings.h"
#include "daemon/session/session.h"
#include "store/base/cancel.h"
#include "store/base/fd.h"
#include "store/fsutil/packet.h"

namespace kiln::daemon {

// Calls to the services that a client exposes on its session, as blocking functions (wire.md 3).
// All are thread-safe, honour `cancel` and end when the session closes.

struct FileSyncRequest {
  std::string dir_name = {};
  std::vector<std::string> include_patterns = {}, exclude_patterns = {}, follow_paths = {};
};
// Opens FileSync.DiffCopy and runs `receive` on its packet stream (the client is the sender). When
// that succeeds everything has come; the end of the call is left to `endings`.
// kUnimplemented "no local sources enabled" when the client offers none, kNotFound when it has no
// such directory, kInvalidArgument when the patterns are more than fits into request headers.
absl::Status DiffCopy(Session& session, const FileSyncRequest& request, const CancelToken& cancel,
                      const std::function<absl::Status(fsutil::PacketStream&)>& receive,
                      CallEndings* endings);

// FileSend.DiffCopy in directory mode: the daemon sends packets (wire.md 3.3). `metadata` holds
// further request headers as they are.
absl::Status SendDirectory(Session& session, int exporter_index,
                           const std::map<std::string, std::string>& metadata,
                           const CancelToken& cancel,
                           const std::function<absl::Status(fsutil::PacketStream&)>& send);

// FileSend.DiffCopy in file mode: `produce` writes the file's bytes to the sink. `metadata` is the
// exporter's answer, sent as "exporter-md-<key>". kAlreadyExists when the client keeps what it has.
using ByteSink = std::function<absl::Status(absl::string_view)>;
absl::Status SendFile(Session& session, int exporter_index,
                      const std::map<std::string, std::string>& metadata, const CancelToken& cancel,
                      const std::function<absl::Status(const ByteSink&)>& produce);

// Upload.Pull: bytes of http://buildkit-session/<id>.
absl::Status PullUpload(Session& session, const std::string& host, const std::string& path,
                        const CancelToken& cancel, const ByteSink& sink);

// kNotFound "secret X: not found" when the client has none.
absl::StatusOr<std::string> GetSecret(Session& session, const std::string& id,
                                      const CancelToken& cancel);

// SSH.CheckAgent; "" means "default". kNotFound `no SSH key "X" forwarded from the client`.
absl::Status CheckSshAgent(Session& session, const std::string& id, const CancelToken& cancel);
// Pumps one accepted connection to the client's agent until either side ends.
absl::Status ForwardSshAgent(Session& session, const std::string& id, Fd connection,
                             const CancelToken& cancel);

}  // namespace kiln::daemon
