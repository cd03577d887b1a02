#include "daemon/exporter/merged_source.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"
#include "store/fsutil/listing_validator.h"

namespace kiln::daemon {

absl::Status MergedSource::Collect() {
  for (size_t part = 0; part < parts_.size(); ++part) {
    KILN_RETURN_IF_ERROR(parts_[part].source->Walk([&](fsutil::Stat* stat) {
      items_.push_back(Item{*stat, part});
      return absl::OkStatus();
    }));
  }
  std::stable_sort(items_.begin(), items_.end(), [](const Item& a, const Item& b) {
    return fsutil::ComparePath(a.stat.path, b.stat.path) < 0;
  });
  std::vector<Item> unique;
  for (Item& item : items_) {
    if (!unique.empty() && unique.back().stat.path == item.stat.path) {
      if (fsutil::IsDir(unique.back().stat.mode) && fsutil::IsDir(item.stat.mode)) continue;
      return absl::FailedPreconditionError(absl::StrCat(
          "cannot overwrite ", item.stat.path, " from ", parts_[unique.back().part].name, " with ",
          parts_[item.part].name, " when split option is disabled"));
    }
    if (fsutil::IsRegular(item.stat.mode)) part_of_[item.stat.path] = item.part;
    unique.push_back(std::move(item));
  }
  items_ = std::move(unique);
  return absl::OkStatus();
}

absl::Status MergedSource::Walk(const std::function<absl::Status(fsutil::Stat* stat)>& visit) {
  KILN_RETURN_IF_ERROR(Collect());
  for (const Item& item : items_) {
    fsutil::Stat stat = item.stat;
    KILN_RETURN_IF_ERROR(visit(&stat));
  }
  return absl::OkStatus();
}

absl::StatusOr<Fd> MergedSource::Open(const std::string& path) {
  auto it = part_of_.find(path);
  if (it == part_of_.end()) return absl::NotFoundError(absl::StrCat("open ", path));
  return parts_[it->second].source->Open(path);
}

}  // namespace kiln::daemon
