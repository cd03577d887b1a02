#include "daemon/frontend/dockerfile/image_foresight.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace kiln::daemon::dockerfile {
namespace {

constexpr size_t kMaxKinds = 1000;
constexpr size_t kMaxNames = 16;
constexpr size_t kMaxFailed = 1000;

Digest DigestOf(const ImageForesight::Options& options) {
  std::string text;
  for (const auto& [key, value] : options)
    absl::StrAppend(&text, key.size(), ":", key, value.size(), ":", value);
  return Digest::Of(text);
}

}  // namespace

std::vector<std::string> ImageForesight::Of(const Options& options) {
  const Digest digest = DigestOf(options);
  MutexLock lock(&mu_);
  std::vector<std::string> names;
  const auto known = by_options_.find(digest);
  if (known == by_options_.end()) return names;
  for (const std::string& name : known->second->names)
    if (!failed_.contains(name)) names.push_back(name);
  return names;
}

void ImageForesight::Learn(const Options& options, std::vector<std::string> names) {
  if (names.size() > kMaxNames) names.resize(kMaxNames);
  const Digest digest = DigestOf(options);
  MutexLock lock(&mu_);
  if (const auto known = by_options_.find(digest); known != by_options_.end()) {
    newest_.splice(newest_.begin(), newest_, known->second);
    newest_.front().names = std::move(names);
    return;
  }
  newest_.push_front({digest, std::move(names)});
  by_options_[digest] = newest_.begin();
  if (newest_.size() <= kMaxKinds) return;
  by_options_.erase(newest_.back().options);
  newest_.pop_back();
}

void ImageForesight::Failed(const std::string& name) {
  MutexLock lock(&mu_);
  if (failed_.size() >= kMaxFailed) failed_.clear();
  failed_.insert(name);
}

}  // namespace kiln::daemon::dockerfile
