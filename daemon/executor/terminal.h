#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/base/cancel.h"
#include "store/base/fd.h"

namespace kiln::daemon {

// Two ends of a new terminal: what is written to one is read from the other.
struct TerminalPair {
  Fd ours, theirs;
  static absl::StatusOr<TerminalPair> Open();
};

// TIOCSWINSZ. kInvalidArgument for a size that a terminal cannot have.
absl::Status SetTerminalSize(int terminal, int rows, int columns);

// The socket on which an OCI runtime hands over the terminal that it made inside the container
// (OCI runtime-spec, `--console-socket`). Removed with the object.
class ConsoleSocket {
 public:
  // Listens as `name` in the folder.
  static absl::StatusOr<ConsoleSocket> Listen(const std::string& folder, std::string name);
  ConsoleSocket(ConsoleSocket&&) = default;
  ConsoleSocket& operator=(ConsoleSocket&&) = delete;
  ~ConsoleSocket();

  const std::string& name() const { return name_; }
  // Waits for the terminal. kUnavailable when the process behind `pidfd` ended before. Blocks.
  absl::StatusOr<Fd> Receive(int pidfd, const CancelToken& cancel);

 private:
  ConsoleSocket(Fd folder, std::string name, Fd listener)
      : folder_(std::move(folder)), name_(std::move(name)), listener_(std::move(listener)) {}
  Fd folder_;  // invalid: moved away
  std::string name_;
  Fd listener_;
};

}  // namespace kiln::daemon
