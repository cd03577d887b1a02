#include "store/fsutil/file_source.h"

#include <algorithm>
#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::fsutil {

absl::StatusOr<std::unique_ptr<SubdirectorySource>> SubdirectorySource::Create(
    std::vector<Directory> directories) {
  std::sort(directories.begin(), directories.end(),
            [](const Directory& a, const Directory& b) { return a.stat.path < b.stat.path; });
  for (size_t i = 0; i < directories.size(); ++i) {
    const std::string& name = directories[i].stat.path;
    if (name.empty() || name == "." || name == ".." || absl::StrContains(name, '/'))
      return absl::InvalidArgumentError(absl::StrCat("invalid top directory \"", name, "\""));
    if (i > 0 && directories[i - 1].stat.path == name)
      return absl::InvalidArgumentError(absl::StrCat("duplicate top directory \"", name, "\""));
  }
  return std::unique_ptr<SubdirectorySource>(new SubdirectorySource(std::move(directories)));
}

absl::Status SubdirectorySource::Walk(const std::function<absl::Status(Stat* stat)>& visit) {
  for (Directory& directory : directories_) {
    const std::string& name = directory.stat.path;
    Stat top = directory.stat;
    KILN_RETURN_IF_ERROR(visit(&top));
    KILN_RETURN_IF_ERROR(directory.source->Walk([&](Stat* stat) {
      stat->path = absl::StrCat(name, "/", stat->path);
      if (IsSymlink(stat->mode)) {
        if (absl::StartsWith(stat->linkname, "/"))
          stat->linkname = absl::StrCat("/", name, stat->linkname);
      } else if (!stat->linkname.empty()) {
        stat->linkname = absl::StrCat(name, "/", stat->linkname);
      }
      return visit(stat);
    }));
  }
  return absl::OkStatus();
}

absl::StatusOr<Fd> SubdirectorySource::Open(const std::string& path) {
  const size_t slash = path.find('/');
  const std::string name = path.substr(0, slash);
  for (Directory& directory : directories_) {
    if (directory.stat.path == name && slash != std::string::npos)
      return directory.source->Open(path.substr(slash + 1));
  }
  return ErrnoStatus(ENOENT, absl::StrCat("open ", path));
}

}  // namespace kiln::fsutil
