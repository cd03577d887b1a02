#include "daemon/control/run_exports.h"

#include <functional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

// Calls `work` for each exporter at the same time; one that fails cancels the others, and its
// failure is what is returned, not theirs.
absl::Status ForEach(size_t count, const CancelToken& cancel,
                     const std::function<absl::Status(size_t, const CancelToken&)>& work) {
  CancelSource stop;
  const CancelRegistration linked =
      cancel.OnCancel([&stop, cancel] { stop.Cancel(cancel.status()); });
  Mutex mu;
  absl::Status first;
  const auto run = [&](size_t i) {
    const absl::Status status = work(i, stop.token());
    if (status.ok()) return;
    {
      MutexLock lock(&mu);
      first.Update(status);
    }
    stop.Cancel(absl::CancelledError("another export of this build failed"));
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < count; ++i) threads.emplace_back(run, i);
  if (count > 0) run(0);
  for (std::thread& thread : threads) thread.join();
  return first;
}

}  // namespace

absl::StatusOr<ExportsAnswer> RunExports(solver::Job& job,
                                         const std::vector<std::unique_ptr<Exporter>>& exporters,
                                         const ExportSource& source, const ExportContext& context) {
  std::vector<ExportAnswer> answers(exporters.size());
  const auto step = [&](size_t i, const CancelToken& cancel,
                        const std::function<absl::Status(const ExportContext&)>& work) {
    return job.RunStep(absl::StrCat(context.session_id, "-export-", i), exporters[i]->name(),
                       [&](solver::ProgressSink& progress) {
                         ExportContext own = context;
                         own.index = static_cast<int>(i);
                         own.progress = &progress;
                         own.cancel = cancel;
                         return work(own);
                       });
  };
  KILN_RETURN_IF_ERROR(
      ForEach(exporters.size(), context.cancel, [&](size_t i, const CancelToken& cancel) {
        return step(i, cancel, [&](const ExportContext& own) -> absl::Status {
          KILN_ASSIGN_OR_RETURN(answers[i], exporters[i]->Export(source, own));
          return absl::OkStatus();
        });
      }));
  KILN_RETURN_IF_ERROR(
      ForEach(exporters.size(), context.cancel, [&](size_t i, const CancelToken& cancel) {
        if (answers[i].finalize == nullptr) return absl::OkStatus();
        return step(i, cancel, answers[i].finalize);
      }));
  ExportsAnswer all;
  for (size_t i = 0; i < answers.size(); ++i) {
    for (auto& [key, value] : answers[i].response) all.response[key] = std::move(value);
    if (answers[i].root.has_value()) all.roots[static_cast<int>(i)] = *answers[i].root;
    if (answers[i].hold != nullptr) all.holds.push_back(answers[i].hold);
  }
  return all;
}

}  // namespace kiln::daemon
