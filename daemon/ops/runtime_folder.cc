#include "daemon/ops/runtime_folder.h"

#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace fs = std::filesystem;

absl::StatusOr<std::unique_ptr<RuntimeFolder>> RuntimeFolder::Create(const std::string& path) {
  std::error_code error;
  const std::string absolute = fs::absolute(path, error).lexically_normal().string();
  std::unique_ptr<RuntimeFolder> folder(new RuntimeFolder(absolute));
  fs::create_directories(absolute, error);
  if (error) return absl::UnknownError(absl::StrCat("make ", absolute, ": ", error.message()));
  KILN_RETURN_IF_ERROR(DetachMountsBelow(absolute));
  for (const auto& entry : fs::directory_iterator(absolute, error)) {
    std::error_code ignored;  // told by the chmod or mount below, if it matters
    fs::remove_all(entry.path(), ignored);
  }
  if (::chmod(absolute.c_str(), 0700) != 0)
    return ErrnoStatus(errno, absl::StrCat("chmod ", absolute));
  absl::StatusOr<Mount> tmpfs = Mount::Tmpfs(absolute, "size=64m,mode=700");
  if (tmpfs.ok())
    folder->tmpfs_ = *std::move(tmpfs);
  else if (!absl::IsPermissionDenied(tmpfs.status()))
    return tmpfs.status();
  return folder;
}

RuntimeFolder::~RuntimeFolder() {
  if (!tmpfs_.has_value()) return;
  if (absl::Status s = tmpfs_->Detach(); !s.ok()) spdlog::warn("{}", s.ToString());
}

}  // namespace kiln::daemon
