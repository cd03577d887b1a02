// The kiln command line: see client/DESIGN.md for its exit codes.
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <cstdlib>
#include <iostream>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/command.h"
#include "client/error_text.h"
#include "store/base/cancel.h"
#include "store/base/fd.h"

namespace kiln::client {
namespace {

constexpr char kFooter[] =
    "Exit codes: 0 done; 1 the build or call failed; 2 wrong usage; 3 no daemon answered;\n"
    "130 canceled (Ctrl-C).\n"
    "Environment: KILN_HOST or BUILDKIT_HOST is the default of --addr, KILN_PROGRESS or\n"
    "BUILDKIT_PROGRESS that of build --progress.";

void AddGlobalFlags(CLI::App* app, Globals* globals, double* timeout) {
  app->add_option("--addr", globals->connect.address,
                  "daemon: unix:///path or tcp://host:port (default: " + DefaultAddress() + ")");
  app->add_option("--tlsservername", globals->connect.tls.server_name,
                  "name that the server's certificate must have");
  app->add_option("--tlscacert", globals->connect.tls.ca_file, "CA certificate; turns TLS on");
  app->add_option("--tlscert", globals->connect.tls.cert_file, "client certificate");
  app->add_option("--tlskey", globals->connect.tls.key_file, "client key");
  app->add_option("--tlsdir", globals->connect.tls.dir, "folder of ca.pem, cert.pem, key.pem");
  app->add_option("--timeout", *timeout, "seconds to wait for a connection")
      ->check(CLI::PositiveNumber);
  app->add_flag("--wait", globals->connect.wait, "wait until the daemon is up");
}

// SIGINT and SIGTERM cancel; a second one ends the program at once. The signals are blocked in all
// threads and read here.
class SignalWatcher {
 public:
  explicit SignalWatcher(CancelSource* cancel) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    signal(SIGPIPE, SIG_IGN);
    fd_ = Fd(signalfd(-1, &set, SFD_CLOEXEC));
    std::thread([fd = fd_.get(), cancel] {
      signalfd_siginfo info;
      for (int count = 0; read(fd, &info, sizeof(info)) == sizeof(info); ++count) {
        if (count > 0) {
          (void)WriteAll(STDERR_FILENO, "\x1b[?25h\n");  // the display may have hidden the cursor
          _exit(kExitCanceled);
        }
        cancel->Cancel(absl::CancelledError("canceled"));
      }
    }).detach();  // reads until the process ends
  }

 private:
  Fd fd_;
};

int Main(int argc, char** argv) {
  // gRPC's own log lines would tear the display; what goes wrong comes as a status.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  CLI::App app{"kiln: builds with kilnd, or with any daemon that speaks BuildKit's API"};
  app.require_subcommand(1);
  app.footer(kFooter);
  app.fallthrough();
  app.set_version_flag("--version", "kiln " KILN_VERSION);
  Globals globals;
  double timeout = absl::ToDoubleSeconds(globals.connect.timeout);
  AddGlobalFlags(&app, &globals, &timeout);

  std::vector<std::pair<CLI::App*, std::unique_ptr<Command>>> commands;
  const auto add = [&commands](CLI::App* to, std::unique_ptr<Command> command) {
    CLI::App* sub = command->Add(to);
    sub->footer(kFooter);
    sub->fallthrough();
    commands.emplace_back(sub, std::move(command));
  };
  add(&app, MakeBuildCommand());
  add(&app, MakeBakeCommand());
  add(&app, MakeDiskUsageCommand());
  add(&app, MakePruneCommand());
  add(&app, MakeWorkersCommand());
  add(&app, MakeInfoCommand());
  add(&app, MakeStatsCommand());
  add(&app, MakeImagesCommand());
  add(&app, MakeTagCommand());
  add(&app, MakePushCommand());
  add(&app, MakeRemoveImagesCommand());
  add(&app, MakeDialStdioCommand());
  CLI::App* debug = app.add_subcommand("debug", "look into a build");
  debug->require_subcommand(1);
  debug->fallthrough();
  add(debug, MakeDumpLlbCommand());
  add(debug, MakeWorkersCommand());  // where buildctl has them
  add(debug, MakeInfoCommand());

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  globals.connect.timeout = absl::Seconds(timeout);
  CancelSource cancel;
  SignalWatcher watcher(&cancel);
  globals.connect.cancel = cancel.token();
  for (auto& [sub, command] : commands) {
    if (!sub->parsed()) continue;
    const absl::Status status = command->Run(globals);
    if (!status.ok()) std::cerr << DescribeError(status);
    std::cout.flush();
    std::cerr.flush();
    return ExitCodeOf(status);
  }
  return kExitUsage;
}

}  // namespace
}  // namespace kiln::client

int main(int argc, char** argv) { return kiln::client::Main(argc, argv); }
