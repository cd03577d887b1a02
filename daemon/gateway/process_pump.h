#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/executor/container.h"
#include "store/base/cancel.h"
#include "store/base/fd.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

// What a client wants of a process and what the process says, between a thread that must not block
// and one that waits for the process. What comes before the process was started is kept. The
// methods for the client are thread-safe and never block.
class ProcessPump {
 public:
  // `taken` is called, from the pump's thread, when input was taken by the process.
  static absl::StatusOr<std::unique_ptr<ProcessPump>> Make(std::function<void()> taken);

  // Input of the process; dropped when it has closed its end.
  void Write(std::string data);
  void CloseInput();
  void Resize(int rows, int columns);
  void Signal(int signal_number);
  // Input not taken yet.
  size_t queued_bytes() const;

  // Our ends of the process's pipes; all invalid for a process with a terminal.
  struct Pipes {
    Fd in, out, err;
  };
  // Takes output: 1 or 2, and data; "" is the end of that one. May block. An error ends the pump.
  using Output = std::function<absl::Status(int fd, absl::string_view data)>;
  // Runs until the process has ended and what it wrote was taken, then tells how it ended. On
  // cancel, and when `output` fails, the process is killed. To be called once; blocks.
  absl::StatusOr<ExitInfo> Run(ContainerProcess& process, Pipes pipes, const Output& output,
                               const CancelToken& cancel);

 private:
  ProcessPump(Fd wake, std::function<void()> taken)
      : wake_(std::move(wake)), taken_(std::move(taken)) {}

  struct Orders {
    std::optional<std::pair<int, int>> size;
    std::vector<int> signals;
  };
  void Wake() const;
  Orders TakeOrders();
  // Writes what fits; false when there is no more to come and the descriptor is to be closed.
  bool WriteInput(int fd);
  bool HasInput() const;
  absl::Status Pump(ContainerProcess& process, Pipes& pipes, const Output& output,
                    const CancelToken& cancel);

  const Fd wake_;  // eventfd
  const std::function<void()> taken_;
  mutable Mutex mu_;
  std::deque<std::string> input_ ABSL_GUARDED_BY(mu_);
  size_t input_offset_ ABSL_GUARDED_BY(mu_) = 0;  // taken of input_.front()
  size_t input_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool input_ends_ ABSL_GUARDED_BY(mu_) = false;
  bool input_dead_ ABSL_GUARDED_BY(mu_) = false;
  Orders orders_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::daemon
