#pragma once

#include <cstddef>
#include <list>
#include <map>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "proto/digest.h"
#include "store/base/mutex.h"

namespace kiln::daemon::dockerfile {

// Remembers which images builds asked for, so that the next one with the same options can have them
// resolved while its Dockerfile still travels. The newest 1,000 kinds of build, 16 images each.
// Thread-safe, quick.
class ImageForesight {
 public:
  using Options = std::map<std::string, std::string>;  // of the frontend

  // What the last build with these options asked for, but for what failed.
  std::vector<std::string> Of(const Options& options);
  void Learn(const Options& options, std::vector<std::string> names);
  // The image needs credentials, or is not there: it is not foreseen any more.
  void Failed(const std::string& name);

 private:
  struct Known {
    Digest options;
    std::vector<std::string> names;
  };
  Mutex mu_;
  std::list<Known> newest_ ABSL_GUARDED_BY(mu_);  // first
  absl::flat_hash_map<Digest, std::list<Known>::iterator> by_options_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_set<std::string> failed_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::daemon::dockerfile
