#include "daemon/executor/oci_step.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/executor/user.h"
#include "spdlog/spdlog.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

absl::Status CheckId(const std::string& id) {
  if (id.empty() || id.size() > 128 || id[0] == '.')
    return absl::InvalidArgumentError(absl::StrCat("invalid container id ", id));
  for (char c : id)
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_' && c != '.')
      return absl::InvalidArgumentError(absl::StrCat("invalid container id ", id));
  return absl::OkStatus();
}

bool IsDirectory(const std::string& path) {
  struct stat st;
  return ::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
}

// The program itself could not be started: the step's fault, told as a shell does. nullopt: the
// container could not be made.
std::optional<int> ExitCodeOfStartFailure(absl::string_view text) {
  const std::string message = absl::AsciiStrToLower(text);
  const bool about_program = absl::StrContains(message, "executable") ||
                             absl::StrContains(message, "exec:") ||
                             absl::StrContains(message, "exec ");
  if (!about_program) return std::nullopt;
  if (absl::StrContains(message, "no such file or directory") ||
      absl::StrContains(message, "not found"))
    return 127;
  if (absl::StrContains(message, "permission denied") ||
      absl::StrContains(message, "exec format error") ||
      absl::StrContains(message, "is a directory"))
    return 126;
  return std::nullopt;
}

}  // namespace

OciStep::OciStep(const OciShared* shared, ProcessSpec spec)
    : shared_(shared),
      spec_(std::move(spec)),
      bundle_(absl::StrCat(shared->bundles_dir, "/", spec_.id)),
      primer_(shared->layout) {}

OciStep::~OciStep() {
  cgroup_.reset();  // kills and waits for what was started
  if (started_) shared_->launcher.RemoveState(spec_.id);
  network_.reset();
  if (stubs_.has_value()) stubs_->Remove();
  if (!made_bundle_) return;
  std::error_code error;
  std::filesystem::remove_all(bundle_, error);
  if (error) spdlog::warn("remove bundle {}: {}", bundle_, error.message());
}

absl::Status OciStep::Prepare(bool terminal, const CancelToken& cancel) {
  KILN_RETURN_IF_ERROR(CheckId(spec_.id));
  KILN_ASSIGN_OR_RETURN(Rootfs rootfs, Rootfs::Open(spec_.rootfs));
  rootfs_.emplace(std::move(rootfs));
  KILN_ASSIGN_OR_RETURN(parameters_.user, ResolveUser(*rootfs_, spec_.user));
  KILN_ASSIGN_OR_RETURN(hosts_, shared_->host_files->Hosts(spec_.hostname, spec_.extra_hosts));
  KILN_ASSIGN_OR_RETURN(resolv_conf_, shared_->host_files->ResolvConf(spec_.network));
  parameters_.hosts_file = *hosts_;
  parameters_.resolv_conf_file = *resolv_conf_;
  parameters_.cwd = CleanAbsolute(spec_.cwd);
  KILN_RETURN_IF_ERROR(MakeBundle());
  KILN_RETURN_IF_ERROR(MakeStubs());
  KILN_RETURN_IF_ERROR(
      Annotate(rootfs_->MakeDirs(parameters_.cwd, parameters_.user.uid, parameters_.user.gid),
               "make the working directory"));
  KILN_RETURN_IF_ERROR(JoinNetwork(cancel));

  const std::string& parent =
      spec_.cgroup_parent.empty() ? shared_->cgroup_parent : spec_.cgroup_parent;
  KILN_ASSIGN_OR_RETURN(
      StepCgroup cgroup,
      StepCgroup::Create(shared_->layout, parent, spec_.id, spec_.resources,
                         [this](const std::string& path) -> absl::Status {
                           const std::string link = absl::StrCat(bundle_, kCgroupLink);
                           if (::symlink(path.c_str(), link.c_str()) == 0) return absl::OkStatus();
                           return ErrnoStatus(errno, absl::StrCat("symlink ", link));
                         }));
  cgroup_.emplace(std::move(cgroup));
  parameters_.cgroup_path = cgroup_->runtime_path();
  parameters_.cgroup_namespace = shared_->layout.unified;
  parameters_.compiled_seccomp = shared_->launcher.binary().kind == RuntimeBinary::Kind::kCrun;
  parameters_.memory_limit_outside = !shared_->layout.unified;

  parameters_.terminal = terminal;

  KILN_ASSIGN_OR_RETURN(const std::string config, MakeOciConfig(spec_, parameters_));
  KILN_ASSIGN_OR_RETURN(
      Fd file, OpenFile(absl::StrCat(bundle_, "/config.json"), O_WRONLY | O_CREAT | O_EXCL, 0600));
  return Annotate(WriteAll(file.get(), config), "write the OCI config");
}

absl::Status OciStep::MakeBundle() {
  if (::mkdir(bundle_.c_str(), 0711) != 0)
    return ErrnoStatus(errno, absl::StrCat("make bundle ", bundle_));
  made_bundle_ = true;
  return absl::OkStatus();
}

absl::Status OciStep::MakeStubs() {
  stubs_.emplace(*rootfs_, spec_.remove_stubs_recursive);
  for (const char* runtime_mount : {"/proc", "/dev", "/sys"})
    KILN_RETURN_IF_ERROR(stubs_->AddLasting(runtime_mount));
  KILN_RETURN_IF_ERROR(stubs_->Add("/etc/resolv.conf", /*directory=*/false));
  KILN_RETURN_IF_ERROR(stubs_->Add("/etc/hosts", /*directory=*/false));
  for (const ContainerMount& mount : spec_.mounts)
    KILN_RETURN_IF_ERROR(
        stubs_->Add(mount.dest, mount.type == "tmpfs" || IsDirectory(mount.source)));
  return absl::OkStatus();
}

absl::Status OciStep::JoinNetwork(const CancelToken& cancel) {
  if (spec_.network == NetworkMode::kNone) {
    parameters_.own_network = true;
  } else if (spec_.network == NetworkMode::kDefault) {
    KILN_ASSIGN_OR_RETURN(network_, shared_->network->Make(spec_.id, spec_.hostname, cancel));
    if (network_ != nullptr) parameters_.network_namespace = network_->namespace_path();
  }
  return absl::OkStatus();
}

absl::StatusOr<Process> OciStep::Run(RuntimeLauncher::Command command) {
  command.bundle = bundle_;
  command.id = spec_.id;
  started_ = true;
  return shared_->launcher.Run(command);
}

absl::StatusOr<ExitInfo> ExplainExit(const ExitStatus& status, const std::string& log_file) {
  ExitInfo info;
  info.code = status.ShellCode();
  if (info.code == 0) return info;
  // A runtime that fails exits with a small code; a signal ended the program, and what the runtime
  // then complains of is the clean-up (crun: a cgroup that is gone already).
  if (info.code > 128 && info.code < 255) return info;
  const std::string message = RuntimeError(log_file);
  if (message.empty()) return info;
  const std::optional<int> code = ExitCodeOfStartFailure(message);
  if (!code.has_value()) return absl::UnknownError(absl::StrCat("start container: ", message));
  info.code = *code;
  info.start_failure = message;
  return info;
}

absl::StatusOr<ExitInfo> OciStep::Explain(const ExitStatus& status,
                                          const std::string& log_file) const {
  const int code = status.ShellCode();
  if (code != 0 && cgroup_->OomKilled(code)) return ExitInfo{code, /*oom_killed=*/true};
  return ExplainExit(status, log_file);
}

}  // namespace kiln::daemon
