#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/connection.h"

namespace CLI {
class App;
}

namespace kiln::client {

// What the global flags say.
struct Globals {
  ConnectOptions connect;

  absl::StatusOr<std::unique_ptr<Connection>> Connect() const { return Connection::Open(connect); }
};

// A command of the kiln program. Add registers flags in a sub-command of `app`; Run does the work.
class Command {
 public:
  virtual ~Command() = default;
  virtual CLI::App* Add(CLI::App* app) = 0;
  // Prints results to standard output. The error is printed by the caller, unless told already.
  virtual absl::Status Run(const Globals& globals) = 0;
};

std::unique_ptr<Command> MakeBuildCommand();
std::unique_ptr<Command> MakeBakeCommand();
std::unique_ptr<Command> MakeDiskUsageCommand();
std::unique_ptr<Command> MakePruneCommand();
std::unique_ptr<Command> MakeWorkersCommand();
std::unique_ptr<Command> MakeInfoCommand();
std::unique_ptr<Command> MakeStatsCommand();
std::unique_ptr<Command> MakeImagesCommand();
std::unique_ptr<Command> MakeTagCommand();
std::unique_ptr<Command> MakePushCommand();
std::unique_ptr<Command> MakeRemoveImagesCommand();
std::unique_ptr<Command> MakeDumpLlbCommand();
std::unique_ptr<Command> MakeDialStdioCommand();

}  // namespace kiln::client
