#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "store/base/cancel.h"
#include "store/fsutil/file_source.h"
#include "store/tree.h"

namespace kiln::daemon {

// Sends a stacked tree without mounting it.
class TreeSource : public fsutil::FileSource {
 public:
  // `epoch` replaces every modification time. `cancel` ends a walk between two entries.
  TreeSource(store::Layers layers, std::optional<absl::Time> epoch, CancelToken cancel)
      : reader_(std::move(layers)), epoch_(epoch), cancel_(std::move(cancel)) {}

  absl::Status Walk(const std::function<absl::Status(fsutil::Stat* stat)>& visit) override;
  absl::StatusOr<Fd> Open(const std::string& path) override;

 private:
  const store::TreeReader reader_;
  const std::optional<absl::Time> epoch_;
  const CancelToken cancel_;
};

}  // namespace kiln::daemon
