#include "client/session/ssh_agents.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"
#include "store/base/unix_socket.h"

namespace kiln::client {
namespace {

absl::string_view OrDefault(absl::string_view id) { return id.empty() ? "default" : id; }

}  // namespace

absl::Status SshAgents::Add(absl::string_view text) {
  const size_t equals = text.find('=');
  const std::string id(OrDefault(text.substr(0, equals)));
  std::string path;
  if (equals != absl::string_view::npos) path = std::string(text.substr(equals + 1));
  if (path.empty()) {
    const char* socket = std::getenv("SSH_AUTH_SOCK");
    if (socket == nullptr || *socket == '\0') {
      return absl::InvalidArgumentError(
          absl::StrCat("--ssh ", text,
                       ": no agent, SSH_AUTH_SOCK is not set; start ssh-agent or name a socket"));
    }
    path = socket;
  }
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) {
    return ErrnoStatus(errno, absl::StrCat("--ssh ", text, ": ", path));
  }
  if (!S_ISSOCK(info.st_mode)) {
    return absl::UnimplementedError(
        absl::StrCat("--ssh ", text, ": ", path,
                     " is no socket; private keys are not read, add them to an ssh-agent"));
  }
  if (!sockets_.emplace(id, path).second) {
    return absl::InvalidArgumentError(absl::StrCat("--ssh ", id, " is given twice"));
  }
  return absl::OkStatus();
}

absl::Status SshAgents::Check(absl::string_view id) const {
  if (sockets_.contains(OrDefault(id))) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("unset ssh forward key ", OrDefault(id)));
}

absl::StatusOr<Fd> SshAgents::Connect(absl::string_view id) const {
  KILN_RETURN_IF_ERROR(Check(id));
  absl::StatusOr<Fd> agent = ConnectUnix(sockets_.find(OrDefault(id))->second);
  if (!agent.ok()) return Annotate(agent.status(), "ssh agent");
  return agent;
}

}  // namespace kiln::client
