#include "daemon/exporter/local_exporter.h"

#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/exporter/export_trees.h"
#include "daemon/exporter/merged_source.h"
#include "daemon/session/services.h"
#include "daemon/source/transfer_progress.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"
#include "store/fsutil/sender.h"

namespace kiln::daemon {
namespace {

class LocalExporter : public Exporter {
 public:
  LocalExporter(TreeExportOptions options, bool delete_mode)
      : options_(std::move(options)), delete_mode_(delete_mode) {}

  const std::string& name() const override { return name_; }

  absl::StatusOr<ExportAnswer> Export(const ExportSource& source,
                                      const ExportContext& context) override {
    KILN_ASSIGN_OR_RETURN(const SessionPtr session,
                          context.sessions->Get(context.session_id, context.cancel));
    KILN_ASSIGN_OR_RETURN(std::vector<ExportTree> trees,
                          OpenExportTrees(source, options_, absl::Now(), context.cancel));
    const bool split = options_.Split(source.is_map) && !trees.front().platform.empty();
    if (delete_mode_) {
      KILN_ASSIGN_OR_RETURN(auto all, Combine(std::move(trees), split));
      KILN_RETURN_IF_ERROR(Send(*session, context, context.cancel, *all, "copying files",
                                {{"buildkit-exporter-multi-platform", "1"}}));
      return ExportAnswer();
    }
    if (!split && trees.size() > 1) KILN_RETURN_IF_ERROR(RefuseOverlaps(source, context.cancel));
    KILN_RETURN_IF_ERROR(SendEach(*session, context, std::move(trees), split));
    return ExportAnswer();
  }

 private:
  static absl::StatusOr<std::unique_ptr<fsutil::FileSource>> Combine(std::vector<ExportTree> trees,
                                                                     bool split) {
    if (split) {
      std::vector<fsutil::SubdirectorySource::Directory> directories;
      for (ExportTree& tree : trees) directories.push_back(tree.AsDirectory());
      KILN_ASSIGN_OR_RETURN(auto source,
                            fsutil::SubdirectorySource::Create(std::move(directories)));
      return std::unique_ptr<fsutil::FileSource>(std::move(source));
    }
    if (trees.size() == 1) return std::move(trees[0].source);
    std::vector<MergedSource::Part> parts;
    for (ExportTree& tree : trees) parts.push_back({tree.platform, std::move(tree.source)});
    return std::unique_ptr<fsutil::FileSource>(new MergedSource(std::move(parts)));
  }

  // The streams run at the same time: one that finds a conflict would find it too late.
  absl::Status RefuseOverlaps(const ExportSource& source, const CancelToken& cancel) const {
    KILN_ASSIGN_OR_RETURN(std::vector<ExportTree> trees,
                          OpenExportTrees(source, options_, absl::Now(), cancel));
    KILN_ASSIGN_OR_RETURN(auto all, Combine(std::move(trees), false));
    return all->Walk([](fsutil::Stat*) { return absl::OkStatus(); });
  }

  static absl::Status Send(Session& session, const ExportContext& context,
                           const CancelToken& cancel, fsutil::FileSource& source,
                           const std::string& label,
                           const std::map<std::string, std::string>& metadata) {
    TransferProgress progress(*context.progress, label, "transferring");
    return SendDirectory(session, context.index, metadata, cancel,
                         [&](fsutil::PacketStream& stream) {
                           fsutil::SendOptions options;
                           options.cancel = cancel;
                           options.progress = [&](int64_t bytes) { progress.Update(bytes); };
                           return fsutil::Send(stream, source, options);
                         });
  }

  static absl::Status SendEach(Session& session, const ExportContext& context,
                               std::vector<ExportTree> trees, bool split) {
    CancelSource stop;  // one failed: the others need not go on
    CancelRegistration follow =
        context.cancel.OnCancel([&] { stop.Cancel(context.cancel.status()); });
    Mutex mu;
    absl::Status first;
    std::vector<std::thread> threads;
    auto send = [&](ExportTree tree) {
      const std::string label =
          split ? absl::StrCat("copying files ", tree.platform) : "copying files";
      std::vector<ExportTree> one;
      one.push_back(std::move(tree));
      auto source = Combine(std::move(one), split);
      const absl::Status status =
          source.ok() ? Send(session, context, stop.token(), **source, label, {}) : source.status();
      if (status.ok()) return;
      {
        MutexLock lock(&mu);
        if (first.ok()) first = status;
      }
      stop.Cancel();
    };
    for (size_t i = 1; i < trees.size(); ++i) threads.emplace_back(send, std::move(trees[i]));
    send(std::move(trees[0]));
    for (std::thread& thread : threads) thread.join();
    MutexLock lock(&mu);
    return first;
  }

  const std::string name_ = "exporting to client directory";
  const TreeExportOptions options_;
  const bool delete_mode_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Exporter>> NewLocalExporter(
    const std::map<std::string, std::string>& attrs) {
  KILN_ASSIGN_OR_RETURN(TreeExportOptions options, ParseTreeExportOptions(attrs));
  bool delete_mode = false;
  if (auto it = attrs.find("mode"); it != attrs.end()) {
    delete_mode = it->second == "delete";
    if (!delete_mode && it->second != "copy" && !it->second.empty())
      return absl::InvalidArgumentError(
          absl::StrCat("invalid local exporter mode \"", it->second, "\": must be copy or delete"));
  }
  return std::make_unique<LocalExporter>(std::move(options), delete_mode);
}

}  // namespace kiln::daemon
