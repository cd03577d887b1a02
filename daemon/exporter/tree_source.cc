#include "daemon/exporter/tree_source.h"

#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"
#include "store/fsutil/directory_cursor.h"

namespace kiln::daemon {

absl::Status TreeSource::Walk(const std::function<absl::Status(fsutil::Stat* stat)>& visit) {
  // First name of each file with several names, by layer and inode.
  std::map<std::pair<int, uint64_t>, std::string> linked;
  fsutil::Stat stat;
  return reader_.Walk(
      "/", [&](const std::string& path, const store::Entry& entry) -> absl::StatusOr<bool> {
        if (cancel_.Cancelled()) return cancel_.status();
        if (S_ISSOCK(entry.st.st_mode)) return true;  // nobody listens where it arrives
        stat.path = path.substr(1);
        stat.linkname.clear();
        fsutil::FillStat(entry.st, &stat);
        if (epoch_.has_value()) stat.mod_time_ns = absl::ToUnixNanos(*epoch_);
        if (S_ISLNK(entry.st.st_mode)) {
          stat.linkname = entry.link;
          stat.size = static_cast<int64_t>(entry.link.size());
        } else if (!S_ISDIR(entry.st.st_mode) && entry.st.st_nlink > 1) {
          auto [it, first] = linked.try_emplace({entry.layer, entry.st.st_ino}, stat.path);
          if (!first) {
            stat.linkname = it->second;
            stat.size = 0;
          }
        }
        KILN_ASSIGN_OR_RETURN(stat.xattrs, reader_.Xattrs(entry, path));
        KILN_RETURN_IF_ERROR(visit(&stat));
        return true;
      });
}

absl::StatusOr<Fd> TreeSource::Open(const std::string& path) {
  return reader_.Open(absl::StrCat("/", path));
}

}  // namespace kiln::daemon
