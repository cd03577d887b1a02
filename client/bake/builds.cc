#include "client/bake/builds.h"

#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/bake/links.h"
#include "client/progress/shared_progress.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"

namespace kiln::client::bake {

absl::StatusOr<std::map<std::string, SolveResult>> BuildTargets(
    const Connection& connection, std::map<std::string, TargetBuild> builds,
    const CancelToken& cancel, ProgressSink* sink) {
  if (builds.size() > kMaxTargets)
    return absl::InvalidArgumentError(absl::StrCat(builds.size(), " targets at once: no more than ",
                                                   kMaxTargets, " can be built"));
  std::map<std::string, std::map<std::string, std::string>> contexts;
  for (const auto& [name, build] : builds)
    if (!build.links.empty()) contexts[name] = build.links;
  Links links(std::move(contexts));
  SharedProgress progress(sink);
  CancelSource stop;
  const CancelRegistration on_cancel =
      cancel.OnCancel([&stop, &cancel] { stop.Cancel(cancel.status()); });

  Mutex mu;
  absl::Status failure;  // the first
  std::map<std::string, SolveResult> results;
  const auto run = [&](const std::string& name, TargetBuild* build) {
    const CancelToken token = stop.token();
    build->options.cancel = token;
    build->options.before_frontend = [&](FrontendCall* call) {
      return links.Resolve(name, token, call);
    };
    build->options.after_frontend = [&](const FrontendResult& result) {
      return links.Publish(name, result, token);
    };
    absl::StatusOr<SolveResult> result;
    {
      const std::unique_ptr<ProgressSink> own = progress.Add(builds.size() > 1 ? name : "");
      result = Solve(connection, build->options, own.get());
    }
    {
      MutexLock lock(&mu);
      if (result.ok()) results[name] = *std::move(result);
      if (!result.ok() && failure.ok()) {
        const bool canceled = absl::IsCancelled(result.status()) && cancel.Cancelled();
        failure =
            canceled ? result.status() : Annotate(result.status(), absl::StrCat("target ", name));
        stop.Cancel(absl::CancelledError("another target failed"));
      }
    }
    links.End(name);
  };
  std::vector<std::thread> threads;
  for (auto& [name, build] : builds)
    threads.emplace_back([&run, &name = name, &build = build] { run(name, &build); });
  for (std::thread& thread : threads) thread.join();
  KILN_RETURN_IF_ERROR(failure);
  return results;
}

}  // namespace kiln::client::bake
