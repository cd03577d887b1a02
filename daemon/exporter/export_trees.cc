#include "daemon/exporter/export_trees.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "daemon/exporter/attestation_files.h"
#include "daemon/exporter/tree_source.h"
#include "daemon/source/go_values.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
absl::StatusOr<TreeExportOptions> ParseTreeExportOptions(
    const std::map<std::string, std::string>& attrs) {
  TreeExportOptions options;
  for (const auto& [key, value] : attrs) {
    if (key == "source-date-epoch") {
      KILN_RETURN_IF_ERROR(options.epoch.Set(value));
    } else if (key == "platform-split") {
      const auto split = ParseGoBool(key, value);
      if (!split.ok())
        return absl::InvalidArgumentError(absl::StrCat("non-bool value for ", key, ": ", value));
      options.platform_split = *split;
    } else if (key == "attestation-prefix") {
      options.attestation_prefix = value;
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
                                                        absl::Time now, const CancelToken& cancel) {
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
    KILN_ASSIGN_OR_RETURN(tree.epoch, options.epoch.For(source, platform));
    KILN_ASSIGN_OR_RETURN(const store::RefPtr ref, source.FindRef(platform));
    store::Layers layers;
    if (ref != nullptr) {
      KILN_ASSIGN_OR_RETURN(layers, ref->Materialize(cancel));
    }
    if (const std::vector<Attestation>* attestations = source.FindAttestations(platform)) {
      TreeSource whole(layers, tree.epoch, cancel);
      const bool merged = source.is_map && !options.Split(source.is_map);
      KILN_ASSIGN_OR_RETURN(
          auto files,
          AttestationFiles(*attestations, {options.attestation_prefix, merged ? platform : ""},
                           whole, cancel));
      tree.source = std::make_unique<TreeSource>(std::move(layers), tree.epoch, cancel);
      if (!files.empty())
        tree.source = std::make_unique<TreeWithFiles>(std::move(tree.source), std::move(files),
                                                      tree.epoch.value_or(now));
    } else {
      tree.source = std::make_unique<TreeSource>(std::move(layers), tree.epoch, cancel);
    }
    trees.push_back(std::move(tree));
  }
  return trees;
}

}  // namespace kiln::daemon
