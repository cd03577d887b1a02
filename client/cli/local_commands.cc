// Commands that need no daemon's answer: debug dump-llb, dial-stdio.
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <cerrno>
#include <iostream>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/cli/command.h"
#include "client/llb/dump.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

class DumpLlbCommand : public Command {
 public:
  CLI::App* Add(CLI::App* app) override {
    CLI::App* sub = app->add_subcommand("dump-llb", "print an LLB definition as JSON, op by op");
    sub->add_option("FILE", file_, "LLB definition; \"-\" or nothing: standard input");
    return sub;
  }

  absl::Status Run(const Globals&) override {
    absl::StatusOr<std::string> bytes =
        file_.empty() || file_ == "-" ? ReadAll(STDIN_FILENO) : ReadFileToString(file_);
    KILN_RETURN_IF_ERROR(bytes.status());
    KILN_ASSIGN_OR_RETURN(const std::string text, llb::DumpDefinition(*bytes));
    return WriteAll(STDOUT_FILENO, text);
  }

 private:
  std::string file_;
};

absl::StatusOr<Fd> ConnectTcp(const std::string& host_port) {
  const size_t colon = host_port.rfind(':');
  if (colon == std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("address ", host_port, " has no port"));
  }
  std::string host = host_port.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), host_port.c_str() + colon + 1, &hints, &found);
  if (error != 0) {
    return absl::UnavailableError(absl::StrCat(host_port, ": ", gai_strerror(error)));
  }
  absl::Status status = absl::UnavailableError(absl::StrCat(host_port, ": no address"));
  Fd connected;
  for (addrinfo* a = found; a != nullptr && !connected.valid(); a = a->ai_next) {
    Fd fd(socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol));
    if (fd.valid() && connect(fd.get(), a->ai_addr, a->ai_addrlen) == 0) {
      connected = std::move(fd);
    } else {
      status = absl::UnavailableError(
          ErrnoStatus(errno, absl::StrCat("connect to ", host_port)).message());
    }
  }
  freeaddrinfo(found);
  if (!connected.valid()) return status;
  return connected;
}

// Copies until the end of `from`; then `to` gets no more.
void Copy(int from, int to, bool to_is_socket) {
  std::string buffer(64 << 10, '\0');
  while (true) {
    const ssize_t got = read(from, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || !WriteAll(to, absl::string_view(buffer.data(), got)).ok()) break;
  }
  if (to_is_socket) {
    shutdown(to, SHUT_WR);
  } else {
    close(to);
  }
}

class DialStdioCommand : public Command {
 public:
  CLI::App* Add(CLI::App* app) override {
    return app->add_subcommand("dial-stdio",
                               "connect standard input and output to the daemon's socket");
  }

  absl::Status Run(const Globals& globals) override {
    const std::string address =
        globals.connect.address.empty() ? DefaultAddress() : globals.connect.address;
    absl::string_view rest = address;
    absl::StatusOr<Fd> fd = absl::InvalidArgumentError(
        absl::StrCat("address \"", address, "\" must begin with unix:// or tcp://"));
    if (absl::ConsumePrefix(&rest, "unix://")) {
      fd = DialUnix(std::string(rest));
    } else if (absl::ConsumePrefix(&rest, "tcp://")) {
      fd = ConnectTcp(std::string(rest));
    }
    KILN_RETURN_IF_ERROR(fd.status());
    // Each direction ends by itself; the answer may go on after the input's end.
    const int socket = fd->get();
    const CancelRegistration on_cancel =
        globals.connect.cancel.OnCancel([socket] { shutdown(socket, SHUT_RDWR); });
    std::thread input([socket] { Copy(STDIN_FILENO, socket, /*to_is_socket=*/true); });
    Copy(socket, STDOUT_FILENO, /*to_is_socket=*/false);
    input.detach();  // blocked in read; the process ends now
    fd->Release();
    return globals.connect.cancel.status();
  }
};

}  // namespace

std::unique_ptr<Command> MakeDumpLlbCommand() { return std::make_unique<DumpLlbCommand>(); }
std::unique_ptr<Command> MakeDialStdioCommand() { return std::make_unique<DialStdioCommand>(); }

}  // namespace kiln::client
