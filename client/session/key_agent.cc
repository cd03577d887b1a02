#include "client/session/key_agent.h"

#include <poll.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "store/base/deadline.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"
#include "store/base/unix_socket.h"

extern char** environ;

namespace kiln::client {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kStart = absl::Seconds(10);
constexpr int kPollMs = 2;

std::vector<std::string> EnvironmentWith(const std::string& socket) {
  std::vector<std::string> env;
  for (char** one = environ; *one != nullptr; ++one) env.push_back(*one);
  env.push_back("SSH_AUTH_SOCK=" + socket);  // the last of equal names counts
  env.push_back("SSH_ASKPASS_REQUIRE=never");
  return env;
}

}  // namespace

absl::StatusOr<std::shared_ptr<KeyAgent>> KeyAgent::Start(
    const std::vector<std::string>& key_files) {
  std::shared_ptr<KeyAgent> made(new KeyAgent());
  std::error_code error;
  std::string folder = (fs::temp_directory_path(error) / "kiln-keys-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) return ErrnoStatus(errno, absl::StrCat("make ", folder));
  made->folder_ = folder;

  KILN_ASSIGN_OR_RETURN(Pipe life, MakePipe());
  ProcessOptions agent;
  agent.args = {"ssh-agent", "-a", made->socket(),
                "sh",        "-c", "cat >/dev/null; kill \"$SSH_AGENT_PID\""};
  agent.stdin_fd = life.read.get();
  KILN_ASSIGN_OR_RETURN(made->agent_,
                        Annotate(Process::Start(agent), "a private key needs OpenSSH"));
  made->life_ = std::move(life.write);
  const Deadline deadline(kStart);
  while (!ConnectUnix(made->socket()).ok()) {
    pollfd ended = {made->agent_.pidfd(), POLLIN, 0};
    if (poll(&ended, 1, kPollMs) > 0 || deadline.Passed())
      return absl::UnavailableError("ssh-agent does not answer");
  }

  for (const std::string& file : key_files) {
    ProcessOptions add;
    add.args = {"ssh-add", "-q", "--", file};
    add.env = EnvironmentWith(made->socket());
    KILN_ASSIGN_OR_RETURN(const CommandOutput output, RunCommand(add, CancelToken()));
    if (!output.status.ok() && absl::StrContains(output.err, "passphrase"))
      return absl::InvalidArgumentError(absl::StrCat(
          "private key ", file, " has a passphrase: add it to an ssh-agent, and name that one"));
    if (!output.status.ok())
      return absl::InvalidArgumentError(
          absl::StrCat("private key ", file, ": ", absl::StripAsciiWhitespace(output.err)));
  }
  return made;
}

KeyAgent::~KeyAgent() {
  life_.Reset();
  if (agent_.running()) agent_.Wait(CancelToken()).IgnoreError();  // it ends at once
  std::error_code error;                                           // best effort
  if (!folder_.empty()) fs::remove_all(folder_, error);
}

}  // namespace kiln::client
