#include "client/session/ssh_agents.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/session/key_agent.h"
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
  const std::vector<std::string> files = absl::StrSplit(path, ',');
  for (const std::string& file : files) {
    struct stat info = {};
    if (stat(file.c_str(), &info) != 0)
      return ErrnoStatus(errno, absl::StrCat("--ssh ", text, ": ", file));
    if (!S_ISSOCK(info.st_mode)) continue;
    if (files.size() > 1)
      return absl::InvalidArgumentError(
          absl::StrCat("--ssh ", text, ": ", file, " is an agent, which goes alone"));
    sockets_[id] = path;
    return absl::OkStatus();
  }
  KILN_ASSIGN_OR_RETURN(std::shared_ptr<KeyAgent> keys,
                        Annotate(KeyAgent::Start(files), absl::StrCat("--ssh ", text)));
  sockets_[id] = keys->socket();
  key_agents_.push_back(std::move(keys));
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
