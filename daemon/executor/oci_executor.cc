#include "daemon/executor/oci_executor.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/executor/oci_spec.h"
#include "daemon/executor/rootfs.h"
#include "daemon/executor/stubs.h"
#include "daemon/executor/user.h"
#include "spdlog/spdlog.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

namespace fs = std::filesystem;

// Names the step's cgroup in its bundle, so that the next start finds it: a symlink is made at
// once and whole.
constexpr char kCgroupLink[] = "/cgroup";

absl::Status CheckId(const std::string& id) {
  if (id.empty() || id.size() > 128 || id[0] == '.')
    return absl::InvalidArgumentError(absl::StrCat("invalid container id ", id));
  for (char c : id)
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_' && c != '.')
      return absl::InvalidArgumentError(absl::StrCat("invalid container id ", id));
  return absl::OkStatus();
}

absl::Status MakeFolder(const std::string& path, mode_t mode) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return absl::UnknownError(absl::StrCat("make folder ", path, ": ", error.message()));
  if (::chmod(path.c_str(), mode) != 0) return ErrnoStatus(errno, absl::StrCat("chmod ", path));
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

// What one step owns, in the order in which it is made; the destructor goes the other way.
class OciExecutor::StepRun {
 public:
  StepRun(OciExecutor* executor, const ProcessSpec& spec)
      : executor_(executor),
        spec_(spec),
        bundle_(absl::StrCat(executor->bundles_dir_, "/", spec.id)),
        primer_(executor->layout_) {}
  StepRun(const StepRun&) = delete;
  StepRun& operator=(const StepRun&) = delete;

  ~StepRun() {
    process_.reset();  // kills and reaps the runtime
    cgroup_.reset();   // kills and waits for what it started
    if (started_) executor_->launcher_.RemoveState(spec_.id);
    network_.reset();
    if (stubs_.has_value()) stubs_->Remove();
    if (!made_bundle_) return;
    std::error_code error;
    fs::remove_all(bundle_, error);
    if (error) spdlog::warn("remove bundle {}: {}", bundle_, error.message());
  }

  absl::Status Prepare(const CancelToken& cancel);
  absl::StatusOr<ExitInfo> Execute(const OutputSink& output, const CancelToken& cancel);

 private:
  absl::Status MakeBundle();
  absl::Status MakeStubs();
  absl::Status JoinNetwork(const CancelToken& cancel);
  absl::StatusOr<ExitInfo> ExplainFailure(ExitInfo info, const OutputSink& output) const;

  OciExecutor* const executor_;
  const ProcessSpec& spec_;
  const std::string bundle_;
  const CgroupMovePrimer primer_;
  bool made_bundle_ = false;
  bool started_ = false;
  OciParameters parameters_;
  HostFile hosts_, resolv_conf_;
  std::optional<Rootfs> rootfs_;
  std::optional<MountStubs> stubs_;
  std::unique_ptr<StepNetwork> network_;
  std::optional<StepCgroup> cgroup_;
  std::optional<Process> process_;
};

absl::Status OciExecutor::StepRun::Prepare(const CancelToken& cancel) {
  KILN_RETURN_IF_ERROR(CheckId(spec_.id));
  KILN_ASSIGN_OR_RETURN(Rootfs rootfs, Rootfs::Open(spec_.rootfs));
  rootfs_.emplace(std::move(rootfs));
  KILN_ASSIGN_OR_RETURN(parameters_.user, ResolveUser(*rootfs_, spec_.user));
  KILN_ASSIGN_OR_RETURN(hosts_, executor_->host_files_->Hosts(spec_.hostname, spec_.extra_hosts));
  KILN_ASSIGN_OR_RETURN(resolv_conf_, executor_->host_files_->ResolvConf(spec_.network));
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
      spec_.cgroup_parent.empty() ? executor_->options_.cgroup_parent : spec_.cgroup_parent;
  KILN_ASSIGN_OR_RETURN(
      StepCgroup cgroup,
      StepCgroup::Create(executor_->layout_, parent, spec_.id, spec_.resources,
                         [this](const std::string& path) -> absl::Status {
                           const std::string link = absl::StrCat(bundle_, kCgroupLink);
                           if (::symlink(path.c_str(), link.c_str()) == 0) return absl::OkStatus();
                           return ErrnoStatus(errno, absl::StrCat("symlink ", link));
                         }));
  cgroup_.emplace(std::move(cgroup));
  parameters_.cgroup_path = cgroup_->runtime_path();
  parameters_.cgroup_namespace = executor_->layout_.unified;
  parameters_.compiled_seccomp = executor_->runtime().kind == RuntimeBinary::Kind::kCrun;
  parameters_.memory_limit_outside = !executor_->layout_.unified;

  KILN_ASSIGN_OR_RETURN(const std::string config, MakeOciConfig(spec_, parameters_));
  KILN_ASSIGN_OR_RETURN(
      Fd file, OpenFile(absl::StrCat(bundle_, "/config.json"), O_WRONLY | O_CREAT | O_EXCL, 0600));
  return Annotate(WriteAll(file.get(), config), "write the OCI config");
}

absl::Status OciExecutor::StepRun::MakeBundle() {
  if (::mkdir(bundle_.c_str(), 0711) != 0)
    return ErrnoStatus(errno, absl::StrCat("make bundle ", bundle_));
  made_bundle_ = true;
  return absl::OkStatus();
}

absl::Status OciExecutor::StepRun::MakeStubs() {
  stubs_.emplace(*rootfs_, spec_.remove_stubs_recursive);
  for (const char* runtime_mount : {"/proc", "/dev", "/sys"}) stubs_->Cover(runtime_mount);
  KILN_RETURN_IF_ERROR(stubs_->Add("/etc/resolv.conf", /*directory=*/false));
  KILN_RETURN_IF_ERROR(stubs_->Add("/etc/hosts", /*directory=*/false));
  for (const ContainerMount& mount : spec_.mounts)
    KILN_RETURN_IF_ERROR(
        stubs_->Add(mount.dest, mount.type == "tmpfs" || IsDirectory(mount.source)));
  return absl::OkStatus();
}

absl::Status OciExecutor::StepRun::JoinNetwork(const CancelToken& cancel) {
  if (spec_.network == NetworkMode::kNone) {
    parameters_.own_network = true;
  } else if (spec_.network == NetworkMode::kDefault) {
    KILN_ASSIGN_OR_RETURN(network_, executor_->network_->Make(spec_.id, spec_.hostname, cancel));
    if (network_ != nullptr) parameters_.network_namespace = network_->namespace_path();
  }
  return absl::OkStatus();
}

absl::StatusOr<ExitInfo> OciExecutor::StepRun::Execute(const OutputSink& output,
                                                       const CancelToken& cancel) {
  KILN_RETURN_IF_ERROR(cancel.status());
  KILN_ASSIGN_OR_RETURN(Pipe out, MakePipe());
  KILN_ASSIGN_OR_RETURN(Pipe err, MakePipe());
  started_ = true;
  KILN_ASSIGN_OR_RETURN(Process process,
                        executor_->launcher_.Run(bundle_, spec_.id, absl::StrCat(bundle_, "/log"),
                                                 out.write.get(), err.write.get()));
  process_.emplace(std::move(process));
  out.write.Reset();
  err.write.Reset();
  // On cancel both return at once; the destructor then kills and waits.
  KILN_RETURN_IF_ERROR(DrainPipes({out.read.get(), err.read.get()}, process_->pidfd(), cancel,
                                  [&](size_t index, absl::string_view data) {
                                    output(static_cast<int>(index) + 1, data);
                                    return absl::OkStatus();
                                  }));
  KILN_ASSIGN_OR_RETURN(const ExitStatus status, process_->Wait(cancel));
  ExitInfo info;
  info.code = status.ShellCode();
  info.oom_killed = info.code != 0 && cgroup_->OomKilled(info.code);
  if (info.code == 0) return info;
  return ExplainFailure(info, output);
}

absl::StatusOr<ExitInfo> OciExecutor::StepRun::ExplainFailure(ExitInfo info,
                                                              const OutputSink& output) const {
  const std::string message = RuntimeError(absl::StrCat(bundle_, "/log"));
  if (message.empty() || info.oom_killed) return info;
  const std::optional<int> code = ExitCodeOfStartFailure(message);
  if (!code.has_value()) return absl::UnknownError(absl::StrCat("start container: ", message));
  output(2, absl::StrCat(message, "\n"));
  info.code = *code;
  return info;
}

OciExecutor::OciExecutor(OciExecutorOptions options, CgroupLayout layout, RuntimeBinary runtime)
    : options_(std::move(options)),
      layout_(std::move(layout)),
      bundles_dir_(absl::StrCat(options_.state_dir, "/bundles")),
      launcher_(std::move(runtime), absl::StrCat(options_.state_dir, "/runtime"), layout_) {}

absl::StatusOr<std::unique_ptr<OciExecutor>> OciExecutor::Create(OciExecutorOptions options) {
  KILN_ASSIGN_OR_RETURN(RuntimeBinary runtime, FindRuntime(options.runtime));
  std::error_code error;
  options.state_dir = fs::absolute(options.state_dir, error).lexically_normal().string();
  std::unique_ptr<OciExecutor> executor(
      new OciExecutor(std::move(options), CgroupLayout::Detect(), std::move(runtime)));
  const std::string& dir = executor->options_.state_dir;
  KILN_RETURN_IF_ERROR(MakeFolder(dir, 0711));
  KILN_RETURN_IF_ERROR(MakeFolder(executor->bundles_dir_, 0711));
  KILN_RETURN_IF_ERROR(MakeFolder(absl::StrCat(dir, "/runtime"), 0700));
  executor->Sweep();
  KILN_ASSIGN_OR_RETURN(executor->host_files_,
                        HostFiles::Create(absl::StrCat(dir, "/files"), executor->options_.dns));
  KILN_ASSIGN_OR_RETURN(executor->network_, MakeNetworkProvider(executor->options_.network,
                                                                absl::StrCat(dir, "/networks")));
  return executor;
}

// A daemon that was killed leaves its containers running. Each has a bundle here.
void OciExecutor::Sweep() {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(bundles_dir_, error)) {
    const std::string bundle = entry.path().string();
    const fs::path cgroup = fs::read_symlink(absl::StrCat(bundle, kCgroupLink), error);
    if (!cgroup.empty()) {
      absl::Status removed = StepCgroup::Adopt(layout_, cgroup.string()).Remove();
      if (!removed.ok()) spdlog::warn("stop what an earlier daemon left: {}", removed.ToString());
    }
    launcher_.RemoveState(entry.path().filename().string());
    fs::remove_all(bundle, error);
  }
}

absl::StatusOr<ExitInfo> OciExecutor::Run(const ProcessSpec& spec, const OutputSink& output,
                                          const CancelToken& cancel) {
  StepRun run(this, spec);
  KILN_RETURN_IF_ERROR(run.Prepare(cancel));
  return run.Execute(output, cancel);
}

}  // namespace kiln::daemon
