#include "daemon/executor/oci_executor.h"

#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/executor/oci_container.h"
#include "spdlog/spdlog.h"
#include "store/base/process.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

namespace fs = std::filesystem;

constexpr size_t kSaidBytes = 4096;

absl::Status MakeFolder(const std::string& path, mode_t mode) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return absl::UnknownError(absl::StrCat("make folder ", path, ": ", error.message()));
  if (::chmod(path.c_str(), mode) != 0) return ErrnoStatus(errno, absl::StrCat("chmod ", path));
  return absl::OkStatus();
}

}  // namespace

OciExecutor::OciExecutor(const std::string& cgroup_parent, const std::string& state_dir,
                         CgroupLayout layout, RuntimeBinary runtime)
    : shared_{layout,
              absl::StrCat(state_dir, "/bundles"),
              cgroup_parent,
              RuntimeLauncher(std::move(runtime), absl::StrCat(state_dir, "/runtime"), layout),
              nullptr,
              nullptr} {}

absl::StatusOr<std::unique_ptr<OciExecutor>> OciExecutor::Create(OciExecutorOptions options) {
  KILN_ASSIGN_OR_RETURN(RuntimeBinary runtime, FindRuntime(options.runtime));
  std::error_code error;
  const std::string dir = fs::absolute(options.state_dir, error).lexically_normal().string();
  std::unique_ptr<OciExecutor> executor(
      new OciExecutor(options.cgroup_parent, dir, CgroupLayout::Detect(), std::move(runtime)));
  OciShared& shared = executor->shared_;
  KILN_RETURN_IF_ERROR(MakeFolder(dir, 0711));
  KILN_RETURN_IF_ERROR(MakeFolder(shared.bundles_dir, 0711));
  KILN_RETURN_IF_ERROR(MakeFolder(absl::StrCat(dir, "/runtime"), 0700));
  executor->Sweep();
  KILN_ASSIGN_OR_RETURN(shared.host_files,
                        HostFiles::Create(absl::StrCat(dir, "/files"), options.dns));
  KILN_ASSIGN_OR_RETURN(shared.network,
                        MakeNetworkProvider(options.network, absl::StrCat(dir, "/networks")));
  return executor;
}

// A daemon that was killed leaves its containers running. Each has a bundle here.
void OciExecutor::Sweep() {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(shared_.bundles_dir, error)) {
    const std::string bundle = entry.path().string();
    const fs::path cgroup = fs::read_symlink(absl::StrCat(bundle, OciStep::kCgroupLink), error);
    if (!cgroup.empty()) {
      absl::Status removed = StepCgroup::Adopt(shared_.layout, cgroup.string()).Remove();
      if (!removed.ok()) spdlog::warn("stop what an earlier daemon left: {}", removed.ToString());
    }
    shared_.launcher.RemoveState(entry.path().filename().string());
    fs::remove_all(bundle, error);
  }
}

absl::StatusOr<ExitInfo> OciExecutor::Run(const ProcessSpec& spec, const OutputSink& output,
                                          const CancelToken& cancel) {
  OciStep step(&shared_, spec);
  KILN_RETURN_IF_ERROR(step.Prepare(/*terminal=*/false, cancel));
  KILN_RETURN_IF_ERROR(cancel.status());
  KILN_ASSIGN_OR_RETURN(Pipe out, MakePipe());
  KILN_ASSIGN_OR_RETURN(Pipe err, MakePipe());
  RuntimeLauncher::Command command;
  command.log_file = absl::StrCat(step.bundle(), "/log");
  command.stdout_fd = out.write.get();
  command.stderr_fd = err.write.get();
  KILN_ASSIGN_OR_RETURN(Process process, step.Run(command));
  out.write.Reset();
  err.write.Reset();
  // What came first on standard error: all of it, if the program never ran.
  std::string said;
  // On cancel both return at once; the destructors then kill and wait.
  KILN_RETURN_IF_ERROR(DrainPipes({out.read.get(), err.read.get()}, process.pidfd(), cancel,
                                  [&](size_t index, absl::string_view data) {
                                    const int stream = static_cast<int>(index) + 1;
                                    if (stream == 2)
                                      absl::StrAppend(&said,
                                                      data.substr(0, kSaidBytes - said.size()));
                                    output(stream, data);
                                    return absl::OkStatus();
                                  }));
  KILN_ASSIGN_OR_RETURN(const ExitStatus status, process.Wait(cancel));
  KILN_ASSIGN_OR_RETURN(ExitInfo info, step.Explain(status, command.log_file));
  // Most runtimes tell it there themselves.
  if (!info.start_failure.empty() && !absl::StrContains(said, info.start_failure))
    output(2, absl::StrCat(info.start_failure, "\n"));
  return info;
}

std::unique_ptr<Container> OciExecutor::NewContainer(ProcessSpec spec) {
  return MakeOciContainer(&shared_, std::move(spec));
}

}  // namespace kiln::daemon
