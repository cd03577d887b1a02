// kilnd: reads what it was told, starts the daemon, waits for a signal.
#include <google/protobuf/stubs/logging.h>
#include <grpc/grpc.h>
#include <signal.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "daemon/config/config.h"
#include "daemon/control/worker.h"
#include "daemon/daemon.h"
#include "daemon/service_notify.h"
#include "daemon/start_pages.h"
#include "store/base/deadline.h"

// Read by jemalloc when it starts. Many threads, little allocation each: more arenas would cost
// more than they save. What is free goes back to the kernel after ten seconds, also when nothing
// runs.
extern "C" {
extern const char* malloc_conf;
const char* malloc_conf = "narenas:4,background_thread:true,max_background_threads:1";
}

namespace {

using kiln::daemon::Config;
using kiln::daemon::Daemon;
using kiln::daemon::DropStartPages;
using kiln::daemon::ServiceNotifier;

constexpr absl::Duration kDrainTime = absl::Seconds(45);
constexpr absl::Duration kSignalPoll = absl::Milliseconds(200);

void SetUpLog(const Config& config) {
  spdlog::set_default_logger(spdlog::stderr_color_mt("kilnd"));
  spdlog::set_pattern(config.log_format == "json"
                          ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","msg":"%v"})"
                          : "%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v");
  std::string level = config.log_level;
  if (level.empty()) level = config.debug ? "debug" : "info";
  if (level == "warn") level = "warning";
  spdlog::set_level(spdlog::level::from_str(level));
  // It says of every text from a client that it is no UTF-8: theirs to fix, not ours to log.
  google::protobuf::SetLogHandler(
      [](google::protobuf::LogLevel, const char*, int, const std::string& text) {
        spdlog::debug("protobuf: {}", text);
      });
}

void SetUpProcess() {
  // Writes to a closed socket report EPIPE; children get the default back.
  signal(SIGPIPE, SIG_IGN);
  rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
}

void Tell(const ServiceNotifier& service, const char* state) {
  if (const absl::Status told = service.Tell(state); !told.ok())
    spdlog::warn("{}", std::string(told.message()));
}

// True when one of `signals` has arrived, or does within `wait`.
bool ASignal(const sigset_t& signals, absl::Duration wait) {
  const timespec longest = absl::ToTimespec(wait);
  return sigtimedwait(&signals, nullptr, &longest) > 0;
}

}  // namespace

int main(int argc, char** argv) {
  // Debian's Abseil is built to look for lock cycles on every lock, under one global lock.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  const auto config = kiln::daemon::LoadConfig(std::vector<std::string>(argv + 1, argv + argc));
  if (!config.ok()) {
    fprintf(stderr, "kilnd: %s\n", std::string(config.status().message()).c_str());
    return 1;
  }
  if (config->help) {
    fputs(kiln::daemon::HelpText().c_str(), stdout);
    return 0;
  }
  if (config->version) {
    printf("kilnd %s (BuildKit API %s)\n", kiln::daemon::kKilnVersion, kiln::daemon::kApiVersion);
    return 0;
  }
  SetUpLog(*config);
  for (const std::string& warning : config->warnings) spdlog::warn("{}", warning);
  SetUpProcess();
  const ServiceNotifier service;
  // Before any thread is started, so that all inherit it: signals are waited for here.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  // Held to the end of the process: gRPC's own shutdown may wait ten seconds for a poller.
  grpc_init();

  auto daemon = Daemon::Start(*config);
  if (!daemon.ok()) {
    spdlog::error("{}", std::string(daemon.status().message()));
    return 1;
  }
  spdlog::info("listening on {}", absl::StrJoin((*daemon)->names(), ", "));
  Tell(service, "READY=1");
  if (const absl::Status dropped = DropStartPages(); !dropped.ok())
    spdlog::debug("{}", std::string(dropped.message()));

  while (sigwaitinfo(&signals, nullptr) < 0) {
  }
  Tell(service, "STOPPING=1");
  spdlog::info("stopping: new builds are refused, running ones have {} s to finish",
               absl::ToInt64Seconds(kDrainTime));
  (*daemon)->Drain();
  const kiln::Deadline deadline(kDrainTime);
  while (!(*daemon)->WaitIdle(absl::Now() + kSignalPoll)) {
    if (deadline.Passed() || ASignal(signals, absl::ZeroDuration())) break;
  }
  daemon->reset();
  spdlog::info("stopped");
  return 0;
}
