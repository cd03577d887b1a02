#include "daemon/exporter/seen_blobs.h"

namespace kiln::daemon {
namespace {

constexpr size_t kMaxPlaces = 16384;

}  // namespace

void SeenBlobs::Add(const Digest& digest, const Reference& repository) {
  const absl::Time now = now_();
  MutexLock lock(&mu_);
  if (seen_.size() >= kMaxPlaces) seen_.clear();
  seen_[{{digest, repository.domain}, repository.path}] = now;
}

bool SeenBlobs::IsFresh(const Digest& digest, const Reference& repository) const {
  const absl::Time now = now_();
  MutexLock lock(&mu_);
  const auto found = seen_.find({{digest, repository.domain}, repository.path});
  // A clock that was set back proves nothing.
  return found != seen_.end() && found->second <= now && now - found->second < kFresh;
}

std::string SeenBlobs::OtherPath(const Digest& digest, const Reference& repository) const {
  const std::pair<Digest, std::string> of{digest, repository.domain};
  MutexLock lock(&mu_);
  const std::string* last = nullptr;
  absl::Time when = absl::InfinitePast();
  for (auto it = seen_.lower_bound({of, ""}); it != seen_.end() && it->first.first == of; ++it) {
    if (it->first.second == repository.path || it->second < when) continue;
    last = &it->first.second;
    when = it->second;
  }
  return last == nullptr ? "" : *last;
}

}  // namespace kiln::daemon
