#include "store/root.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "store/base/status_macros.h"

namespace kiln::store {
namespace {

constexpr char kBootIdPath[] = "/proc/sys/kernel/random/boot_id";
constexpr const char* kFolders[] = {"", "/blobs", "/snapshots", "/index", "/logs", "/tmp"};

// Processes of other users (a build step in a user namespace) walk through the root and into
// snapshots, so those two are searchable; nothing else is.
int ModeOf(absl::string_view folder) {
  return folder.empty() || folder == "/snapshots" ? 0711 : 0700;
}

absl::Status MakeFolder(const std::string& path, int mode) {
  if (::mkdir(path.c_str(), static_cast<mode_t>(mode)) == 0) return absl::OkStatus();
  const int err = errno;
  struct stat st = {};
  if (err == EEXIST && ::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode))
    return absl::OkStatus();
  return ErrnoStatus(err == EEXIST ? ENOTDIR : err, absl::StrCat("create folder ", path));
}

absl::Status MakeParents(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  std::error_code ec;
  std::filesystem::create_directories(parent, ec);
  if (ec) return ErrnoStatus(ec.value(), absl::StrCat("create folder ", parent.string()));
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadBootId() {
  KILN_ASSIGN_OR_RETURN(std::string text, ReadFileToString(kBootIdPath, 256));
  absl::StripAsciiWhitespace(&text);
  if (text.empty()) return absl::InternalError(absl::StrCat(kBootIdPath, " is empty"));
  return text;
}

absl::StatusOr<Fd> TakeLock(const std::string& root) {
  const std::string path = absl::StrCat(root, "/kilnd.lock");
  KILN_ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_RDWR | O_CREAT, 0600));
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    const int err = errno;
    if (err != EWOULDBLOCK) return ErrnoStatus(err, absl::StrCat("lock ", path));
    std::string owner = ReadAll(fd.get(), 64).value_or("");
    absl::StripAsciiWhitespace(&owner);
    // The owner may be between taking the lock and writing its id.
    if (owner.empty()) owner = "unknown";
    return absl::FailedPreconditionError(
        absl::StrCat("folder ", root, " is in use by process ", owner,
                     "; stop it or choose another folder with --root"));
  }
  if (::ftruncate(fd.get(), 0) != 0) return ErrnoStatus(errno, absl::StrCat("truncate ", path));
  KILN_RETURN_IF_ERROR(
      Annotate(WriteAll(fd.get(), absl::StrCat(::getpid(), "\n")), absl::StrCat("write ", path)));
  return fd;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Root>> Root::Open(const std::string& path,
                                                 absl::string_view boot_id) {
  if (path.empty()) return absl::InvalidArgumentError("the root folder has an empty name");
  std::error_code ec;
  std::string absolute = std::filesystem::absolute(path, ec).lexically_normal().string();
  if (ec) return ErrnoStatus(ec.value(), absl::StrCat("resolve ", path));
  while (absolute.size() > 1 && absolute.back() == '/') absolute.pop_back();

  std::unique_ptr<Root> root(new Root());
  root->path_ = std::move(absolute);
  KILN_RETURN_IF_ERROR(MakeParents(root->path_));
  KILN_RETURN_IF_ERROR(MakeFolder(root->path_, ModeOf("")));
  KILN_ASSIGN_OR_RETURN(root->lock_, TakeLock(root->path_));
  for (const char* folder : kFolders)
    KILN_RETURN_IF_ERROR(MakeFolder(absl::StrCat(root->path_, folder), ModeOf(folder)));

  root->boot_id_ = std::string(boot_id);
  if (boot_id.empty()) {
    KILN_ASSIGN_OR_RETURN(root->boot_id_, ReadBootId());
  }
  // Named by time and process, so that no earlier run's folder is taken for ours.
  root->tmp_dir_ =
      absl::StrCat(root->path_, "/tmp/", absl::ToUnixNanos(absl::Now()), "-", ::getpid());
  KILN_RETURN_IF_ERROR(MakeFolder(root->tmp_dir_, 0700));
  return root;
}

absl::Status Root::SyncFiles() const {
  absl::flat_hash_set<dev_t> done;
  for (const char* folder : kFolders) {
    const std::string path = absl::StrCat(path_, folder);
    KILN_ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_RDONLY | O_DIRECTORY));
    struct stat st = {};
    if (::fstat(fd.get(), &st) != 0) return ErrnoStatus(errno, absl::StrCat("stat ", path));
    if (!done.insert(st.st_dev).second) continue;
    if (::syncfs(fd.get()) != 0) return ErrnoStatus(errno, absl::StrCat("syncfs ", path));
  }
  return absl::OkStatus();
}

absl::Status Root::SweepTmp() const {
  std::error_code ec;
  const std::filesystem::path ours(tmp_dir_);
  std::filesystem::directory_iterator it(ours.parent_path(), ec);
  if (ec) return ErrnoStatus(ec.value(), absl::StrCat("list ", ours.parent_path().string()));
  absl::Status first;
  for (const std::filesystem::directory_iterator end; it != end; it.increment(ec)) {
    if (it->path() == ours) continue;
    std::error_code removed;
    std::filesystem::remove_all(it->path(), removed);
    if (removed)
      first.Update(ErrnoStatus(removed.value(), absl::StrCat("remove ", it->path().string())));
    if (ec) break;
  }
  if (ec) first.Update(ErrnoStatus(ec.value(), "list tmp"));
  return first;
}

}  // namespace kiln::store
