#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "store/base/check.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"
#include "store/beneath.h"
#include "store/checksum_recorder.h"
#include "store/file_digest.h"
#include "store/layer_writer.h"
#include "store/sibling_writer.h"

namespace kiln::store {

namespace {

// The process does not change them.
const uid_t kOurUid = ::geteuid();
const gid_t kOurGid = ::getegid();

bool IsWhiteout(const struct stat& st) { return S_ISCHR(st.st_mode) && st.st_rdev == 0; }

absl::Status IsADirectory(absl::string_view path) {
  return absl::FailedPreconditionError(absl::StrCat(path, ": is a directory"));
}

}  // namespace

Wanted::Wanted(const Attributes& attributes, uint32_t default_mode)
    : uid(attributes.uid.value_or(kOurUid)),
      gid(attributes.gid.value_or(kOurGid)),
      mode(attributes.mode.value_or(default_mode) & kPermissionBits),
      mtime(attributes.mtime) {}

// Content that arrives in pieces. The name exists from the start: a crash leaves a file without
// its final time, which the next synchronisation replaces.
class LayerFile final : public TreeFile {
 public:
  LayerFile(LayerWriter* writer, std::shared_ptr<Fd> root, std::string path, Fd fd, Wanted wanted,
            int64_t expected_size)
      : writer_(writer),
        root_(std::move(root)),
        path_(std::move(path)),
        fd_(std::move(fd)),
        wanted_(wanted),
        expected_size_(expected_size) {
    if (expected_size_ < 0) return;
    DigestedMetadata metadata;
    metadata.st.st_mode = S_IFREG | wanted.mode;
    metadata.st.st_uid = wanted.uid;
    metadata.st.st_gid = wanted.gid;
    metadata.st.st_size = expected_size;
    hash_.Update(DigestHeader(metadata));
  }
  ~LayerFile() override { Discard(); }

  absl::Status Append(absl::string_view data) override {
    KILN_RETURN_IF_ERROR(Annotate(WriteAll(fd_.get(), data), path_));
    written_ += static_cast<int64_t>(data.size());
    if (expected_size_ >= 0) hash_.Update(data);
    return absl::OkStatus();
  }

  absl::Status Close() override {
    struct stat st;
    KILN_RETURN_IF_ERROR(writer_->FinishFile(fd_.get(), path_, wanted_, &st));
    KILN_RETURN_IF_ERROR(Annotate(fd_.Close(), path_));
    if (written_ == expected_size_) writer_->Recorded(path_, hash_.Finish());
    return absl::OkStatus();
  }

 private:
  // Removes the name if it still is this file's.
  void Discard() {
    struct stat own, there;
    if (!fd_.valid() || ::fstat(fd_.get(), &own) != 0) return;
    const auto [parent, name] = SplitPath(path_);
    int error = 0;
    const auto dir = OpenBeneath(root_->get(), parent, O_PATH | O_DIRECTORY, &error);
    if (!dir.ok()) return;
    if (::fstatat(dir->get(), name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
        there.st_ino == own.st_ino)
      RemoveLeaf(dir->get(), name);
  }

  LayerWriter* const writer_;
  const std::shared_ptr<Fd> root_;
  const std::string path_;
  Fd fd_;
  const Wanted wanted_;
  const int64_t expected_size_;
  int64_t written_ = 0;
  Sha256 hash_;
};

static Layers Stack(Layers lower, std::string upper) {
  lower.push_back(std::move(upper));
  return lower;
}

LayerWriter::LayerWriter(Layers lower, std::string upper_dir, bool overlay_form,
                         ChecksumRecorder* recorder)
    : overlay_form_(overlay_form),
      recorder_(recorder),
      reader_(Stack(std::move(lower), std::move(upper_dir))) {
  KILN_CHECK(overlay_form_ || reader_.layers().size() == 1);
  auto root = OpenFile(reader_.layers().back(), O_PATH | O_DIRECTORY);
  root_status_ = root.status();
  root_ = std::make_shared<Fd>(root.ok() ? *std::move(root) : Fd());
}

absl::StatusOr<int> LayerWriter::OpenUpperDir(const std::string& path) {
  if (parent_.path == path) return path == "/" ? root_->get() : parent_.fd.get();
  KILN_RETURN_IF_ERROR(Ready());
  if (path == "/") {
    KILN_ASSIGN_OR_RETURN(parent_.view, reader_.OpenDir(path));
    parent_.path = path;
    return root_->get();
  }
  int error = 0;
  absl::StatusOr<Fd> fd = OpenBeneath(root_->get(), path, O_PATH | O_DIRECTORY, &error);
  if (error == ENOENT || error == ENOTDIR || error == ELOOP) fd = CopyUpDirs(path);
  KILN_RETURN_IF_ERROR(fd.status());
  KILN_ASSIGN_OR_RETURN(parent_.view, reader_.OpenDir(path));
  parent_.path = path;
  parent_.fd = *std::move(fd);
  return parent_.fd.get();
}

absl::StatusOr<bool> LayerWriter::ExistsBelow(const Place& place, bool* is_dir) {
  DirView below = parent_.view;
  if (!below.layers.empty() && below.layers.front() == upper_index())
    below.layers.erase(below.layers.begin());
  if (below.layers.empty()) return false;
  const auto entry = reader_.Child(below, place.name);
  if (absl::IsNotFound(entry.status())) return false;
  KILN_RETURN_IF_ERROR(entry.status());
  *is_dir = S_ISDIR(entry->st.st_mode);
  return true;
}

absl::StatusOr<LayerWriter::Place> LayerWriter::Locate(absl::string_view path) {
  Place place;
  place.path = CleanPath(path);
  if (place.path == "/") return IsADirectory("/");
  auto [parent, name] = SplitPath(place.path);
  place.name = std::move(name);
  KILN_ASSIGN_OR_RETURN(place.dir, OpenUpperDir(parent));
  return place;
}

absl::StatusOr<LayerWriter::Place> LayerWriter::Clear(absl::string_view path, bool exclusive) {
  if (exclusive && CleanPath(path) == "/") return absl::AlreadyExistsError("/: file exists");
  KILN_ASSIGN_OR_RETURN(Place place, Locate(path));
  struct stat st;
  bool exists = false, is_dir = false;
  if (::fstatat(place.dir, place.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) {
    place.hid_lower = IsWhiteout(st);
    exists = !place.hid_lower;
    is_dir = S_ISDIR(st.st_mode);
  } else if (errno != ENOENT) {
    return ErrnoStatus(errno, absl::StrCat("stat ", place.path));
  } else {
    KILN_ASSIGN_OR_RETURN(const bool below, ExistsBelow(place, &is_dir));
    if (below && exclusive)
      return absl::AlreadyExistsError(absl::StrCat(place.path, ": file exists"));
    if (below && is_dir) return IsADirectory(place.path);
    return place;
  }
  if (exists && exclusive)
    return absl::AlreadyExistsError(absl::StrCat(place.path, ": file exists"));
  if (exists && is_dir) return IsADirectory(place.path);
  if (::unlinkat(place.dir, place.name.c_str(), 0) != 0)
    return ErrnoStatus(errno, absl::StrCat("replace ", place.path));
  if (recorder_ != nullptr) recorder_->Removed(place.path);
  return place;
}

absl::StatusOr<LayerWriter::Place> LayerWriter::Put(
    absl::string_view path, bool is_new, absl::FunctionRef<absl::Status(const Place&)> make) {
  KILN_ASSIGN_OR_RETURN(Place place, Locate(path));
  const bool covers = !is_new && parent_.view.layers.size() > 1;  // one below may have the name
  absl::Status made = covers ? absl::AlreadyExistsError(place.path) : make(place);
  if (absl::IsAlreadyExists(made)) {
    KILN_ASSIGN_OR_RETURN(place, Clear(path, false));
    made = make(place);
  }
  KILN_RETURN_IF_ERROR(made);
  return place;
}

absl::Status LayerWriter::SetTimes(const Place& place, const struct timespec times[2]) {
  if (::utimensat(place.dir, place.name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
    return ErrnoStatus(errno, absl::StrCat("utimes ", place.path));
  return absl::OkStatus();
}

absl::Status LayerWriter::Finish(const Place& place, const Wanted& wanted, bool is_symlink) {
  const char* name = place.name.c_str();
  struct stat st;
  if (::fstatat(place.dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
    return ErrnoStatus(errno, absl::StrCat("stat ", place.path));
  if (st.st_uid != wanted.uid || st.st_gid != wanted.gid) {
    if (::fchownat(place.dir, name, wanted.uid, wanted.gid, AT_SYMLINK_NOFOLLOW) != 0)
      return ErrnoStatus(errno, absl::StrCat("chown ", place.path));
    st.st_mode &= ~static_cast<mode_t>(S_ISUID | S_ISGID);  // chown may clear them: set them anew
  }
  if (!is_symlink && (st.st_mode & kPermissionBits) != wanted.mode) {
    if (::fchmodat(place.dir, name, wanted.mode, 0) != 0)
      return ErrnoStatus(errno, absl::StrCat("chmod ", place.path));
  }
  if (!wanted.mtime.has_value()) return absl::OkStatus();
  const struct timespec time = absl::ToTimespec(*wanted.mtime);
  const struct timespec times[2] = {time, time};
  return SetTimes(place, times);
}

absl::Status LayerWriter::FinishFile(int fd, const std::string& path, const Wanted& wanted,
                                     struct stat* st) {
  if (::fstat(fd, st) != 0) return ErrnoStatus(errno, absl::StrCat("stat ", path));
  if (st->st_uid != wanted.uid || st->st_gid != wanted.gid) {
    if (::fchown(fd, wanted.uid, wanted.gid) != 0)
      return ErrnoStatus(errno, absl::StrCat("chown ", path));
    st->st_uid = wanted.uid;
    st->st_gid = wanted.gid;
    st->st_mode &= ~static_cast<mode_t>(S_ISUID | S_ISGID);
  }
  if ((st->st_mode & kPermissionBits) != wanted.mode) {
    if (::fchmod(fd, wanted.mode) != 0) return ErrnoStatus(errno, absl::StrCat("chmod ", path));
    st->st_mode = (st->st_mode & S_IFMT) | wanted.mode;
  }
  if (!wanted.mtime.has_value()) return absl::OkStatus();
  const struct timespec time = absl::ToTimespec(*wanted.mtime);
  const struct timespec times[2] = {time, time};
  if (::futimens(fd, times) != 0) return ErrnoStatus(errno, absl::StrCat("utimes ", path));
  return absl::OkStatus();
}

absl::Status LayerWriter::MakeDir(absl::string_view path, const Attributes& attributes) {
  KILN_ASSIGN_OR_RETURN(const Place place, Clear(path, true));
  if (::mkdirat(place.dir, place.name.c_str(), 0700) != 0)
    return ErrnoStatus(errno, absl::StrCat("mkdir ", place.path));
  bool below_is_dir = false;
  if (place.hid_lower) KILN_RETURN_IF_ERROR(ExistsBelow(place, &below_is_dir).status());
  if (below_is_dir) {
    // The whiteout is gone; without the mark the lower directory would shine through.
    const std::string host = UpperPath(place.path);
    if (::lsetxattr(host.c_str(), "trusted.overlay.opaque", "y", 1, 0) != 0)
      return ErrnoStatus(errno, absl::StrCat("mark ", place.path, " opaque"));
  }
  Changed(place.path);
  return Finish(place, Wanted(attributes, 0755), false);
}

absl::Status LayerWriter::MakeSymlink(absl::string_view path, absl::string_view target,
                                      const Attributes& attributes) {
  const std::string link(target);
  if (link.empty() || absl::StrContains(link, '\0'))
    return absl::InvalidArgumentError(absl::StrCat(path, ": invalid symlink target"));
  KILN_ASSIGN_OR_RETURN(const Place place, Clear(path, true));
  if (::symlinkat(link.c_str(), place.dir, place.name.c_str()) != 0)
    return ErrnoStatus(errno, absl::StrCat("symlink ", place.path));
  const Wanted wanted(attributes, 0777);
  KILN_RETURN_IF_ERROR(Finish(place, wanted, true));
  DigestedMetadata metadata;
  metadata.st.st_mode = S_IFLNK | 0777;
  metadata.st.st_uid = wanted.uid;
  metadata.st.st_gid = wanted.gid;
  metadata.link = link;
  Recorded(place.path, DigestWithoutContent(metadata));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<TreeFile>> LayerWriter::CreateFile(absl::string_view path,
                                                                  int64_t expected_size,
                                                                  const Attributes& attributes) {
  const Wanted wanted(attributes, 0644);
  const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
  Fd fd;
  KILN_ASSIGN_OR_RETURN(const Place place, Put(path, false, [&](const Place& at) -> absl::Status {
                          // Mostly this is the mode it gets: no further call.
                          KILN_ASSIGN_OR_RETURN(
                              fd, OpenFileAt(at.dir, at.name, flags, wanted.mode & 0777));
                          return absl::OkStatus();
                        }));
  Changed(place.path);
  return std::make_unique<LayerFile>(this, root_, place.path, std::move(fd), wanted, expected_size);
}

absl::Status LayerWriter::WriteFile(absl::string_view path, absl::string_view data,
                                    const Attributes& attributes) {
  KILN_ASSIGN_OR_RETURN(const std::unique_ptr<TreeFile> file,
                        CreateFile(path, static_cast<int64_t>(data.size()), attributes));
  KILN_RETURN_IF_ERROR(file->Append(data));
  return file->Close();
}

absl::Status LayerWriter::MakeNode(absl::string_view path, uint32_t type_and_mode, uint64_t device,
                                   const Attributes& attributes) {
  if (S_ISCHR(type_and_mode) && device == 0)
    return absl::InvalidArgumentError(absl::StrCat(path, ": device 0:0 is reserved for whiteouts"));
  KILN_ASSIGN_OR_RETURN(const Place place, Clear(path, true));
  if (::mknodat(place.dir, place.name.c_str(), (type_and_mode & S_IFMT) | 0600, device) != 0)
    return ErrnoStatus(errno, absl::StrCat("mknod ", place.path));
  Changed(place.path);
  return Finish(place, Wanted(attributes, type_and_mode), false);
}

absl::Status LayerWriter::MakeHardlink(absl::string_view path, absl::string_view existing) {
  const std::string old = CleanPath(existing);
  struct stat st;
  KILN_RETURN_IF_ERROR(CopyUp(old, &st));
  if (S_ISDIR(st.st_mode)) return IsADirectory(old);
  KILN_ASSIGN_OR_RETURN(const Place place, Clear(path, true));
  const auto [parent, name] = SplitPath(old);
  int error = 0;
  KILN_ASSIGN_OR_RETURN(const Fd dir,
                        OpenBeneath(root_->get(), parent, O_PATH | O_DIRECTORY, &error));
  if (::linkat(dir.get(), name.c_str(), place.dir, place.name.c_str(), 0) != 0)
    return ErrnoStatus(errno, absl::StrCat("link ", place.path, " to ", old));
  if (st.st_nlink == 1) own_links_.insert(st.st_ino);
  Changed(place.path);
  if (recorder_ != nullptr) {
    if (const auto digest = recorder_->Known(reader_.layers().back(), old))
      recorder_->Recorded(place.path, *digest);
  }
  return absl::OkStatus();
}

absl::Status LayerWriter::Remove(absl::string_view raw_path) {
  const std::string path = CleanPath(raw_path);
  if (path == "/") return absl::InvalidArgumentError("the root cannot be removed");
  KILN_RETURN_IF_ERROR(reader_.Lstat(path).status());
  const auto [parent, name] = SplitPath(path);
  if (PathIsWithin(parent_.path, path)) parent_.path.clear();
  KILN_ASSIGN_OR_RETURN(const int dir, OpenUpperDir(parent));
  struct stat st;
  if (::fstatat(dir, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0)
    KILN_RETURN_IF_ERROR(Annotate(RemoveBeneath(dir, name), absl::StrCat("in ", parent)));
  if (recorder_ != nullptr) recorder_->Removed(path);
  bool is_dir = false;
  const Place place{path, name, dir};
  KILN_ASSIGN_OR_RETURN(const bool below, ExistsBelow(place, &is_dir));
  if (below && ::mknodat(dir, name.c_str(), S_IFCHR, 0) != 0)
    return ErrnoStatus(errno, absl::StrCat("whiteout ", path));
  return absl::OkStatus();
}

absl::Status LayerWriter::SetAttributes(absl::string_view raw_path, const Attributes& attributes) {
  const std::string path = CleanPath(raw_path);
  KILN_RETURN_IF_ERROR(Ready());
  struct stat st;
  KILN_ASSIGN_OR_RETURN(const Entry entry, reader_.Lstat(path));
  const Wanted wanted(attributes, entry.st);
  const bool is_symlink = S_ISLNK(entry.st.st_mode);
  const bool same = wanted.Agrees(entry.st) ||
                    (is_symlink && wanted.uid == entry.st.st_uid && wanted.gid == entry.st.st_gid);
  if (same && wanted.TimeAgrees(entry.st)) return absl::OkStatus();
  KILN_RETURN_IF_ERROR(CopyUp(path, &st));
  KILN_RETURN_IF_ERROR(Unshare(path, &st));
  Place place{path, ".", root_->get()};
  if (path != "/") {
    const auto [parent, name] = SplitPath(path);
    KILN_ASSIGN_OR_RETURN(place.dir, OpenUpperDir(parent));
    place.name = name;
  }
  if (!same) Changed(path);
  return Finish(place, wanted, is_symlink);
}

absl::Status LayerWriter::SetXattr(absl::string_view raw_path, const std::string& name,
                                   absl::string_view value) {
  const std::string path = CleanPath(raw_path);
  if (absl::StartsWith(name, "trusted.overlay.") || absl::StartsWith(name, "user.overlay."))
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": extended attribute ", name, " belongs to the overlay file system"));
  struct stat st;
  KILN_RETURN_IF_ERROR(Ready());
  KILN_RETURN_IF_ERROR(CopyUp(path, &st));
  KILN_RETURN_IF_ERROR(Unshare(path, &st));
  Changed(path);
  const std::string host = UpperPath(path);
  if (::lsetxattr(host.c_str(), name.c_str(), value.data(), value.size(), 0) != 0)
    return ErrnoStatus(errno, absl::StrCat("setxattr ", name, " on ", path));
  return absl::OkStatus();
}

std::unique_ptr<TreeWriter> NewTreeWriter(Layers lower, std::string upper_dir, bool overlay_form,
                                          ChecksumRecorder* recorder) {
  return std::make_unique<LayerWriter>(std::move(lower), std::move(upper_dir), overlay_form,
                                       recorder);
}

std::unique_ptr<TreeWriter> SiblingOf(const TreeWriter& writer) {
  // Nobody else implements the interface.
  return std::make_unique<LayerWriter>(static_cast<const LayerWriter*>(&writer));
}

}  // namespace kiln::store
