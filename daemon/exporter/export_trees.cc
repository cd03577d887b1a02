#include "daemon/exporter/export_trees.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "daemon/exporter/tree_source.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

// Frontends leave the epoch under this key, with "/<platform>" behind it for one platform.
constexpr char kEpochMetadata[] = "source.date.epoch";

absl::StatusOr<std::optional<absl::Time>> ParseEpoch(absl::string_view what,
                                                     const std::string& text) {
  if (text.empty()) return std::optional<absl::Time>();
  int64_t seconds = 0;
  if (!absl::SimpleAtoi(text, &seconds))
    return absl::InvalidArgumentError(
        absl::StrCat("invalid ", what, ": \"", text, "\" is not a number of seconds"));
  return std::make_optional(absl::FromUnixSeconds(seconds));
}

absl::StatusOr<std::optional<absl::Time>> EpochOf(const ExportSource& source,
                                                  const std::string& platform,
                                                  const TreeExportOptions& options) {
  if (options.epoch_given) return options.epoch;
  auto it = source.metadata.find(absl::StrCat(kEpochMetadata, "/", platform));
  if (it == source.metadata.end()) it = source.metadata.find(kEpochMetadata);
  if (it == source.metadata.end()) return std::optional<absl::Time>();
  return ParseEpoch("SOURCE_DATE_EPOCH from frontend", it->second);
}

}  // namespace

absl::StatusOr<TreeExportOptions> ParseTreeExportOptions(
    const std::map<std::string, std::string>& attrs) {
  TreeExportOptions options;
  for (const auto& [key, value] : attrs) {
    if (key == "source-date-epoch") {
      options.epoch_given = true;
      KILN_ASSIGN_OR_RETURN(options.epoch, ParseEpoch(key, value));
    } else if (key == "platform-split") {
      if (value == "true" || value == "1" || value == "t" || value == "T" || value == "True" ||
          value == "TRUE") {
        options.platform_split = true;
      } else if (value == "false" || value == "0" || value == "f" || value == "F" ||
                 value == "False" || value == "FALSE") {
        options.platform_split = false;
      } else {
        return absl::InvalidArgumentError(absl::StrCat("non-bool value for ", key, ": ", value));
      }
    }
  }
  return options;
}

fsutil::SubdirectorySource::Directory ExportTree::AsDirectory() {
  fsutil::SubdirectorySource::Directory directory;
  directory.stat.path = absl::StrReplaceAll(platform, {{"/", "_"}});
  directory.stat.mode = fsutil::kModeDir | 0755;
  if (epoch.has_value()) directory.stat.mod_time_ns = absl::ToUnixNanos(*epoch);
  directory.source = std::move(source);
  return directory;
}

absl::StatusOr<std::vector<ExportTree>> OpenExportTrees(const ExportSource& source,
                                                        const TreeExportOptions& options,
                                                        const CancelToken& cancel) {
  if (source.is_map && source.platforms.empty())
    return absl::InvalidArgumentError("unable to export multiple refs, missing platforms mapping");
  if (!source.is_map && source.platforms.size() > 1)
    return absl::InvalidArgumentError("unable to export multiple platforms without map");
  std::vector<std::string> platforms;
  for (const ExportSource::Platform& platform : source.platforms) platforms.push_back(platform.id);
  if (platforms.empty()) platforms.push_back("");

  std::vector<ExportTree> trees;
  for (const std::string& platform : platforms) {
    ExportTree tree;
    tree.platform = platform;
    KILN_ASSIGN_OR_RETURN(tree.epoch, EpochOf(source, platform, options));
    KILN_ASSIGN_OR_RETURN(const store::RefPtr ref, source.FindRef(platform));
    store::Layers layers;
    if (ref != nullptr) {
      KILN_ASSIGN_OR_RETURN(layers, ref->Materialize(cancel));
    }
    tree.source = std::make_unique<TreeSource>(std::move(layers), tree.epoch, cancel);
    trees.push_back(std::move(tree));
  }
  return trees;
}

}  // namespace kiln::daemon
