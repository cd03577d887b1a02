#include "client/session/oci_layout.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/random_id.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

absl::Status MakeFolder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  return error ? ErrnoStatus(error.value(), absl::StrCat("make directory ", path))
               : absl::OkStatus();
}

absl::Status SyncFolder(const std::string& path) {
  KILN_ASSIGN_OR_RETURN(const Fd folder, OpenFile(path, O_RDONLY | O_DIRECTORY));
  return fsync(folder.get()) == 0 ? absl::OkStatus()
                                  : ErrnoStatus(errno, absl::StrCat("sync ", path));
}

}  // namespace

std::string OciLayout::BlobPath(const Digest& digest) const {
  return absl::StrCat(folder_, "/blobs/sha256/", digest.hex());
}

absl::StatusOr<OciLayout::BlobInfo> OciLayout::Info(const Digest& digest) const {
  struct stat info = {};
  if (stat(BlobPath(digest).c_str(), &info) != 0)
    return ErrnoStatus(errno, absl::StrCat("content ", digest.ToString(), " in ", folder_));
  if (!S_ISREG(info.st_mode))
    return absl::NotFoundError(
        absl::StrCat("content ", digest.ToString(), " in ", folder_, " is no file"));
  return BlobInfo{info.st_size, absl::TimeFromTimespec(info.st_mtim)};
}

absl::StatusOr<Fd> OciLayout::Open(const Digest& digest) const {
  KILN_RETURN_IF_ERROR(Info(digest).status());
  return OpenFile(BlobPath(digest), O_RDONLY);
}

absl::Status OciLayout::Remove(const Digest& digest) const {
  if (unlink(BlobPath(digest).c_str()) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, absl::StrCat("remove content ", digest.ToString()));
}

absl::Status OciLayout::ForEach(const std::function<absl::Status(const Digest&)>& visit) const {
  std::error_code error;
  const std::string folder = absl::StrCat(folder_, "/blobs/sha256");
  std::filesystem::directory_iterator entry(folder, error);
  if (error == std::errc::no_such_file_or_directory) return absl::OkStatus();
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const auto digest = Digest::Parse(absl::StrCat("sha256:", entry->path().filename().string()));
    if (digest.ok()) KILN_RETURN_IF_ERROR(visit(*digest));
  }
  return error ? ErrnoStatus(error.value(), absl::StrCat("read ", folder)) : absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<OciLayout::Writer>> OciLayout::Write() const {
  KILN_RETURN_IF_ERROR(MakeFolder(absl::StrCat(folder_, "/blobs/sha256")));
  KILN_RETURN_IF_ERROR(MakeFolder(absl::StrCat(folder_, "/ingest")));
  std::string path = absl::StrCat(folder_, "/ingest/", NewId());
  KILN_ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_WRONLY | O_CREAT | O_EXCL, 0644));
  return std::unique_ptr<Writer>(new Writer(*this, std::move(path), std::move(fd)));
}

OciLayout::Writer::~Writer() {
  if (!path_.empty()) unlink(path_.c_str());
}

absl::Status OciLayout::Writer::Append(absl::string_view data) {
  KILN_RETURN_IF_ERROR(
      Annotate(WriteAll(fd_.get(), data), absl::StrCat("write content in ", layout_.folder())));
  hash_.Update(data);
  size_ += static_cast<int64_t>(data.size());
  return absl::OkStatus();
}

absl::Status OciLayout::Writer::Clear() {
  if (ftruncate(fd_.get(), 0) != 0 || lseek(fd_.get(), 0, SEEK_SET) != 0)
    return ErrnoStatus(errno, absl::StrCat("truncate ", path_));
  (void)hash_.Finish();  // starts over
  size_ = 0;
  return absl::OkStatus();
}

absl::StatusOr<Digest> OciLayout::Writer::Commit(int64_t total, absl::string_view expected) {
  if (total > 0 && total != size_)
    return absl::FailedPreconditionError(
        absl::StrCat("unexpected commit size ", size_, ", expected ", total));
  const Digest digest = hash_.Finish();
  if (!expected.empty() && digest.ToString() != expected)
    return absl::FailedPreconditionError(
        absl::StrCat("unexpected commit digest ", digest.ToString(), ", expected ", expected));
  // The bytes before the name, so that a name never stands for less than all of them.
  if (fdatasync(fd_.get()) != 0) return ErrnoStatus(errno, absl::StrCat("sync ", path_));
  KILN_RETURN_IF_ERROR(Annotate(fd_.Close(), absl::StrCat("write ", path_)));
  const std::string blob = layout_.BlobPath(digest);
  if (rename(path_.c_str(), blob.c_str()) != 0)
    return ErrnoStatus(errno, absl::StrCat("rename ", path_, " to ", blob));
  path_.clear();
  KILN_RETURN_IF_ERROR(SyncFolder(absl::StrCat(layout_.folder(), "/blobs/sha256")));
  return digest;
}

}  // namespace kiln::client
