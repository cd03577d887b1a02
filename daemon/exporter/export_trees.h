#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/exporter/epoch.h"
#include "daemon/exporter/exporter.h"
#include "store/fsutil/file_source.h"

namespace kiln::daemon {

// Attributes that the local and the tar exporter share.
struct TreeExportOptions {
  EpochOption epoch;  // replaces every modification time
  std::optional<bool> platform_split;
  std::string attestation_prefix;  // of the names of attestation files

  bool Split(bool is_map) const { return platform_split.value_or(is_map); }
};

// Reads "source-date-epoch", "platform-split" and "attestation-prefix"; attributes of other
// meanings are left alone. kInvalidArgument names the attribute and the value.
absl::StatusOr<TreeExportOptions> ParseTreeExportOptions(
    const std::map<std::string, std::string>& attrs);

// One platform's tree, ready to be sent.
struct ExportTree {
  std::string platform;  // "" when the result names none
  std::unique_ptr<fsutil::FileSource> source;
  std::optional<absl::Time> epoch;

  // The directory that a split export puts it in: '/' becomes '_'. Takes the source.
  fsutil::SubdirectorySource::Directory AsDirectory();
};

// The trees of a result with its attestations as files, one for each platform. Refuses a map
// without "refs.platforms" and several platforms without a map. Blocks while lazy refs are made
// and, for attestations, all files read. `now` is when attestation files were made, without an
// epoch.
absl::StatusOr<std::vector<ExportTree>> OpenExportTrees(const ExportSource& source,
                                                        const TreeExportOptions& options,
                                                        absl::Time now, const CancelToken& cancel);

}  // namespace kiln::daemon
