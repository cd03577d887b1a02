#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "store/fsutil/file_source.h"

namespace kiln::daemon {

// The entries of several trees as one tree. A directory that several have is sent once, as the
// first has it; anything else that two have is refused: "cannot overwrite P from A with B when
// split option is disabled".
class MergedSource : public fsutil::FileSource {
 public:
  struct Part {
    std::string name;  // for messages
    std::unique_ptr<fsutil::FileSource> source;
  };
  explicit MergedSource(std::vector<Part> parts) : parts_(std::move(parts)) {}

  absl::Status Walk(const std::function<absl::Status(fsutil::Stat* stat)>& visit) override;
  absl::StatusOr<Fd> Open(const std::string& path) override;

 private:
  struct Item {
    fsutil::Stat stat;
    size_t part;
  };
  absl::Status Collect();

  std::vector<Part> parts_;
  std::vector<Item> items_;                // constant after Collect
  std::map<std::string, size_t> part_of_;  // regular files; constant after Collect
};

}  // namespace kiln::daemon
