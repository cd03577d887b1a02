#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/session/session.h"
#include "client/solve/solve.h"

namespace kiln::client {

// The folders of images and caches that a build reads and writes on the client: OCI layouts that
// the daemon reaches through the session. Their index.json is the client's to keep.
class LocalContent {
 public:
  // Finds them in `options` and gives them the names that the daemon asks for. kInvalidArgument
  // names what an option lacks.
  static absl::StatusOr<LocalContent> Prepare(SolveOptions* options);

  const std::map<std::string, ContentFolder>& stores() const { return stores_; }
  // After the build: enters what was written into the indexes.
  absl::Status Finish(const std::map<std::string, std::string>& exporter_response) const;

 private:
  struct CacheTarget {
    std::string folder, tag;
    bool reset = false;  // what the new cache has no use for is deleted
    std::string answer;  // where kilnd says what it wrote, of several caches
  };
  absl::Status AddCacheExport(int number, CacheEntry* entry);
  absl::Status AddCacheImport(CacheEntry* entry);
  absl::Status AddExport(const ExportRequest& output);

  std::map<std::string, ContentFolder> stores_;  // by the name that the daemon uses
  std::vector<CacheTarget> caches_;
  std::string export_folder_;  // "": none
};

}  // namespace kiln::client
