#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "proto/digest.h"
#include "solver/op.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

// Which steps show what becomes of a lazy layer: those that pulled its image, though it is fetched
// and unpacked later, for another step or an export. Thread-safe.
class LayerProgress {
 public:
  // `step` shows the layer from now on, for as long as somebody else holds it; null is left out.
  void Show(const Digest& layer, const std::shared_ptr<solver::ProgressSink>& step) {
    Add(layer.ToString(), step);
  }
  // The same for layers of this origin (LayerBlob::origin) that no step shows: what was pulled by
  // an earlier build is not looked at before it is needed.
  void ShowOrigin(const std::string& origin, const std::shared_ptr<solver::ProgressSink>& step) {
    Add(origin, step);
  }

  // The steps that show the layer, as one; null when there is none.
  std::shared_ptr<solver::ProgressSink> Of(const Digest& layer,
                                           absl::Span<const std::string> origins);

  // The layer is being unpacked until the answer is dropped.
  std::shared_ptr<void> Unpacking(const Digest& layer, absl::Span<const std::string> origins);

 private:
  using Steps = std::vector<std::weak_ptr<solver::ProgressSink>>;

  void Add(const std::string& key, const std::shared_ptr<solver::ProgressSink>& step);
  std::vector<std::shared_ptr<solver::ProgressSink>> Alive(const std::string& key);
  void DropEnded() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Mutex mu_;
  std::map<std::string, Steps> by_key_ ABSL_GUARDED_BY(mu_);
  size_t shown_ ABSL_GUARDED_BY(mu_) = 0;  // in all, ended ones included
  size_t drop_at_ ABSL_GUARDED_BY(mu_) = 64;
};

}  // namespace kiln::daemon
