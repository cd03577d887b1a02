#include "daemon/exporter/tar_exporter.h"

#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "daemon/exporter/export_trees.h"
#include "daemon/exporter/tar_writer.h"
#include "daemon/session/services.h"
#include "daemon/source/transfer_progress.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

class TarExporter : public Exporter {
 public:
  explicit TarExporter(TreeExportOptions options) : options_(std::move(options)) {}

  const std::string& name() const override { return name_; }

  absl::StatusOr<ExportAnswer> Export(const ExportSource& source,
                                      const ExportContext& context) override {
    KILN_ASSIGN_OR_RETURN(std::vector<ExportTree> trees,
                          OpenExportTrees(source, options_, absl::Now(), context.cancel));
    std::unique_ptr<fsutil::FileSource> tree;
    if (source.is_map) {
      std::vector<fsutil::SubdirectorySource::Directory> directories;
      for (ExportTree& each : trees) directories.push_back(each.AsDirectory());
      KILN_ASSIGN_OR_RETURN(tree, fsutil::SubdirectorySource::Create(std::move(directories)));
    } else {
      tree = std::move(trees[0].source);
    }
    KILN_ASSIGN_OR_RETURN(const SessionPtr session,
                          context.sessions->Get(context.session_id, context.cancel));
    TransferProgress progress(*context.progress, "sending tarball", "sending");
    int64_t sent = 0;
    KILN_RETURN_IF_ERROR(
        SendFile(*session, context.index, {}, context.cancel, [&](const ByteSink& sink) {
          return WriteTar(*tree, [&](absl::string_view data) {
            if (context.cancel.Cancelled()) return context.cancel.status();
            sent += static_cast<int64_t>(data.size());
            progress.Update(sent);
            return sink(data);
          });
        }));
    return ExportAnswer();
  }

 private:
  const std::string name_ = "exporting to client tarball";
  const TreeExportOptions options_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Exporter>> NewTarExporter(
    const std::map<std::string, std::string>& attrs) {
  KILN_ASSIGN_OR_RETURN(TreeExportOptions options, ParseTreeExportOptions(attrs));
  return std::make_unique<TarExporter>(std::move(options));
}

}  // namespace kiln::daemon
