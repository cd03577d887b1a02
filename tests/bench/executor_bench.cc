// What one step costs: the OCI runtime alone, and the executor around it. Needs root.
//   executor_bench [--benchmark_filter=...]
#include <benchmark/benchmark.h>

#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "daemon/executor/oci_executor.h"
#include "daemon/executor/oci_spec.h"
#include "store/base/check.h"
#include "store/base/process.h"
#include "tests/daemon/executor/scratch_rootfs.h"

namespace kiln::daemon {
namespace {

ProcessSpec TrueSpec(const ScratchRootfs& scratch, int n) {
  ProcessSpec spec;
  spec.id = absl::StrCat("bench", ::getpid(), "-", n);
  spec.rootfs = scratch.root();
  spec.args = {"/bin/true"};
  spec.env = {"PATH=/bin"};
  return spec;
}

void BM_SpawnTrue(benchmark::State& state) {
  ProcessOptions options;
  options.args = {"/bin/true"};
  for (auto _ : state) {
    auto process = Process::Start(options);
    KILN_CHECK(process.ok() && process->Wait(CancelToken()).ok());
  }
}
BENCHMARK(BM_SpawnTrue)->Unit(benchmark::kMillisecond)->UseRealTime();

void BM_OciConfig(benchmark::State& state) {
  const ScratchRootfs scratch;
  const ProcessSpec spec = TrueSpec(scratch, 0);
  OciParameters parameters;
  for (auto _ : state) benchmark::DoNotOptimize(MakeOciConfig(spec, parameters));
}
BENCHMARK(BM_OciConfig)->Unit(benchmark::kMillisecond)->UseRealTime();

// The runtime on a bundle as the executor makes it; "program" has its seccomp profile compiled.
void BM_RuntimeAlone(benchmark::State& state, const char* runtime, SecurityMode security,
                     bool compiled_seccomp) {
  const ScratchRootfs scratch;
  auto binary = FindRuntime(runtime);
  if (!binary.ok()) return state.SkipWithError("no such runtime");
  const CgroupLayout layout = CgroupLayout::Detect();
  const RuntimeLauncher launcher(*binary, scratch.folder() + "/runtime", layout);
  ProcessSpec spec = TrueSpec(scratch, 0);
  spec.security = security;
  OciParameters parameters;
  parameters.compiled_seccomp = compiled_seccomp;
  parameters.cwd = "/";
  parameters.cgroup_path = absl::StrCat("/buildkit/", spec.id);
  parameters.cgroup_namespace = layout.unified;
  parameters.hosts_file = parameters.resolv_conf_file = "/etc/hosts";
  const std::string bundle = scratch.folder();
  std::ofstream(bundle + "/config.json") << *MakeOciConfig(spec, parameters);
  for (auto _ : state) {
    auto process = launcher.Run({.bundle = bundle, .id = spec.id, .log_file = bundle + "/log"});
    KILN_CHECK(process.ok());
    auto status = process->Wait(CancelToken());
    if (!status.ok() || !status->ok())
      return state.SkipWithError(RuntimeError(bundle + "/log").c_str());
  }
}
BENCHMARK_CAPTURE(BM_RuntimeAlone, crun, "crun", SecurityMode::kSandbox, false)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(BM_RuntimeAlone, crun_program, "crun", SecurityMode::kSandbox, true)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(BM_RuntimeAlone, crun_insecure, "crun", SecurityMode::kInsecure, false)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(BM_RuntimeAlone, runc, "runc", SecurityMode::kSandbox, false)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

void BM_Executor(benchmark::State& state, const char* runtime) {
  const ScratchRootfs scratch;
  OciExecutorOptions options;
  options.state_dir = scratch.folder() + "/state";
  options.runtime = runtime;
  auto executor = OciExecutor::Create(options);
  KILN_CHECK(executor.ok());
  int n = 0;
  for (auto _ : state) {
    auto exit = (*executor)->Run(
        TrueSpec(scratch, ++n), [](int, absl::string_view) {}, CancelToken());
    KILN_CHECK(exit.ok() && exit->code == 0);
  }
}
BENCHMARK_CAPTURE(BM_Executor, crun, "crun")->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(BM_Executor, runc, "runc")->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace kiln::daemon

BENCHMARK_MAIN();
