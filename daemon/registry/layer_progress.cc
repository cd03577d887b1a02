#include "daemon/registry/layer_progress.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/source/transfer_progress.h"

namespace kiln::daemon {

namespace {

class SeveralSteps final : public solver::ProgressSink {
 public:
  explicit SeveralSteps(std::vector<std::shared_ptr<solver::ProgressSink>> steps)
      : steps_(std::move(steps)) {}

  void Status(solver::StatusUpdate update) override {
    for (const auto& step : steps_) step->Status(update);
  }
  void Log(solver::LogChunk chunk) override {
    for (const auto& step : steps_) step->Log(chunk);
  }
  void Warn(solver::Warning warning) override {
    for (const auto& step : steps_) step->Warn(warning);
  }

 private:
  const std::vector<std::shared_ptr<solver::ProgressSink>> steps_;
};

struct Unpacked {
  Unpacked(std::shared_ptr<solver::ProgressSink> steps, const Digest& layer)
      : shown(std::move(steps)),
        line(*shown, absl::StrCat("extracting ", layer.ToString()), "extracting") {}

  const std::shared_ptr<solver::ProgressSink> shown;
  TransferProgress line;
};

}  // namespace

void LayerProgress::Add(const std::string& key, const std::shared_ptr<solver::ProgressSink>& step) {
  if (step == nullptr) return;
  MutexLock lock(&mu_);
  Steps& steps = by_key_[key];
  const bool known = std::any_of(steps.begin(), steps.end(),
                                 [&](const auto& each) { return each.lock() == step; });
  if (known) return;
  steps.push_back(step);
  if (++shown_ >= drop_at_) DropEnded();
}

// Whenever there are twice as many as were left the last time: O(1) for each.
void LayerProgress::DropEnded() {
  shown_ = 0;
  for (auto it = by_key_.begin(); it != by_key_.end();) {
    Steps& steps = it->second;
    steps.erase(
        std::remove_if(steps.begin(), steps.end(), [](const auto& each) { return each.expired(); }),
        steps.end());
    shown_ += steps.size();
    it = steps.empty() ? by_key_.erase(it) : std::next(it);
  }
  drop_at_ = std::max<size_t>(64, 2 * shown_);
}

std::vector<std::shared_ptr<solver::ProgressSink>> LayerProgress::Alive(const std::string& key) {
  std::vector<std::shared_ptr<solver::ProgressSink>> alive;
  MutexLock lock(&mu_);
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return alive;
  for (const auto& each : found->second)
    if (auto step = each.lock(); step != nullptr) alive.push_back(std::move(step));
  return alive;
}

std::shared_ptr<solver::ProgressSink> LayerProgress::Of(const Digest& layer,
                                                        absl::Span<const std::string> origins) {
  auto steps = Alive(layer.ToString());
  for (const std::string& origin : origins)
    if (steps.empty()) steps = Alive(origin);
  if (steps.empty()) return nullptr;
  return std::make_shared<SeveralSteps>(std::move(steps));
}

std::shared_ptr<void> LayerProgress::Unpacking(const Digest& layer,
                                               absl::Span<const std::string> origins) {
  std::shared_ptr<solver::ProgressSink> steps = Of(layer, origins);
  if (steps == nullptr) return nullptr;
  return std::make_shared<Unpacked>(std::move(steps), layer);
}

}  // namespace kiln::daemon
