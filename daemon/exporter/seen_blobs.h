#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "daemon/registry/reference.h"
#include "proto/digest.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

// Which blobs were seen in which repositories of registries, and when. A hint: what
// was there may have been collected since. Bounded; a restart forgets. Thread-safe; never blocks.
class SeenBlobs {
 public:
  // So long a blob that was seen is taken to be still there.
  static constexpr absl::Duration kFresh = absl::Minutes(5);

  explicit SeenBlobs(std::function<absl::Time()> now = absl::Now) : now_(std::move(now)) {}

  void Add(const Digest& digest, const Reference& repository);
  // Whether it was there within the last kFresh.
  bool IsFresh(const Digest& digest, const Reference& repository) const;
  // The path of another repository of the same registry that had it last; "": none known.
  std::string OtherPath(const Digest& digest, const Reference& repository) const;

 private:
  // Blob and registry, then the path there.
  using Place = std::pair<std::pair<Digest, std::string>, std::string>;

  const std::function<absl::Time()> now_;
  mutable Mutex mu_;
  std::map<Place, absl::Time> seen_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::daemon
