#include "daemon/executor/runtime.h"

#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

std::string OnPath(const std::string& name) {
  if (absl::StrContains(name, '/')) return ::access(name.c_str(), X_OK) == 0 ? name : "";
  const char* path = std::getenv("PATH");
  for (absl::string_view dir :
       absl::StrSplit(path == nullptr ? "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin" : path,
                      ':', absl::SkipEmpty())) {
    std::string candidate = absl::StrCat(dir, "/", name);
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return "";
}

// Makes the calling thread's mount namespace a copy of ours with an empty tmpfs over `cover`. What
// the runtime makes there goes with the namespace.
absl::Status EnterNamespaceWithout(const std::string& cover) {
  if (::unshare(CLONE_NEWNS) != 0) return ErrnoStatus(errno, "make a mount namespace");
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0)
    return ErrnoStatus(errno, "detach the mount namespace");
  if (::mount("tmpfs", cover.c_str(), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755") != 0)
    return ErrnoStatus(errno, absl::StrCat("cover ", cover));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RuntimeBinary> FindRuntime(const std::string& configured) {
  using Kind = RuntimeBinary::Kind;
  if (!configured.empty()) {
    const std::string path = OnPath(configured);
    if (path.empty())
      return absl::NotFoundError(absl::StrCat("failed to find ", configured, " binary"));
    const std::string base = std::filesystem::path(path).filename().string();
    return RuntimeBinary{path, absl::StrContains(base, "crun")   ? Kind::kCrun
                               : absl::StrContains(base, "runc") ? Kind::kRunc
                                                                 : Kind::kOther};
  }
  if (std::string path = OnPath("crun"); !path.empty()) return RuntimeBinary{path, Kind::kCrun};
  for (const char* name : {"buildkit-runc", "runc"})
    if (std::string path = OnPath(name); !path.empty()) return RuntimeBinary{path, Kind::kRunc};
  return absl::NotFoundError("failed to find an OCI runtime: install crun or runc");
}

RuntimeLauncher::RuntimeLauncher(RuntimeBinary binary, std::string root, const CgroupLayout& layout)
    : binary_(std::move(binary)),
      root_(std::move(root)),
      hide_(binary_.kind == RuntimeBinary::Kind::kCrun && layout.hybrid_controllers
                ? layout.hybrid_v2
                : "") {}

absl::StatusOr<Process> RuntimeLauncher::Run(const Command& command) const {
  return Start(command, {"run", "--bundle", command.bundle});
}

absl::StatusOr<Process> RuntimeLauncher::Exec(const Command& command) const {
  return Start(command, {"exec", "--process", command.process_file});
}

absl::StatusOr<Process> RuntimeLauncher::Start(const Command& command,
                                               std::vector<std::string> verb) const {
  ProcessOptions options;
  // crun writes what fails last, in the container, to the step's standard error in the log's form.
  const bool crun = binary_.kind == RuntimeBinary::Kind::kCrun;
  options.args = {binary_.path,          "--root", root_, "--log", command.log_file, "--log-format",
                  crun ? "text" : "json"};
  if (crun) options.args.push_back("--cgroup-manager=cgroupfs");
  options.args.insert(options.args.end(), verb.begin(), verb.end());
  for (const auto& [flag, value] : {std::pair("--pid-file", command.pid_file),
                                    std::pair("--console-socket", command.console_socket)})
    if (!value.empty()) options.args.insert(options.args.end(), {flag, value});
  options.args.push_back(command.id);
  options.cwd = command.bundle;
  options.stdin_fd = command.stdin_fd;
  options.stdout_fd = command.stdout_fd;
  options.stderr_fd = command.stderr_fd;
  if (hide_.empty()) return Process::Start(options);
  // A thread of its own, gone at once: the namespace lives on with the runtime alone.
  absl::StatusOr<Process> process = absl::InternalError("not started");
  std::thread([&] {
    absl::Status entered = EnterNamespaceWithout(hide_);
    process = entered.ok() ? Process::Start(options) : absl::StatusOr<Process>(entered);
  }).join();
  return process;
}

void RuntimeLauncher::RemoveState(const std::string& id) const {
  std::error_code error;  // nothing there is the usual case
  std::filesystem::remove_all(absl::StrCat(root_, "/", id), error);
}

std::string RuntimeError(const std::string& log_file) {
  const std::string text = ReadFileToString(log_file, 1 << 20).value_or("");
  std::string error;
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    // The last one is what ended it.
    const auto entry = nlohmann::json::parse(line.begin(), line.end(), nullptr, false);
    if (entry.is_discarded()) {
      error = std::string(line);
    } else if (entry.is_object() && entry.value("level", "") == "error") {
      error = entry.value("msg", "");
    }
  }
  return error;
}

}  // namespace kiln::daemon
