#include "store/tree_writer.h"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "store/base/check.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"
#include "store/beneath.h"
#include "store/checksum_recorder.h"
#include "store/file_copy.h"
#include "store/file_digest.h"
#include "store/sibling_writer.h"

namespace kiln::store {

namespace {

constexpr uint32_t kPermissionBits = 07777;

// The process does not change them.
const uid_t kOurUid = ::geteuid();
const gid_t kOurGid = ::getegid();

bool IsWhiteout(const struct stat& st) { return S_ISCHR(st.st_mode) && st.st_rdev == 0; }

absl::Status IsADirectory(absl::string_view path) {
  return absl::FailedPreconditionError(absl::StrCat(path, ": is a directory"));
}

// The metadata a new entry shall have; absent members are the defaults of a file made by us.
struct Wanted {
  uint32_t uid, gid, mode;
  std::optional<absl::Time> mtime;

  Wanted(const Attributes& attributes, uint32_t default_mode)
      : uid(attributes.uid.value_or(kOurUid)),
        gid(attributes.gid.value_or(kOurGid)),
        mode(attributes.mode.value_or(default_mode) & kPermissionBits),
        mtime(attributes.mtime) {}
  Wanted(const Attributes& attributes, const struct stat& st)
      : uid(attributes.uid.value_or(st.st_uid)),
        gid(attributes.gid.value_or(st.st_gid)),
        mode(attributes.mode.value_or(st.st_mode) & kPermissionBits),
        mtime(attributes.mtime) {}

  bool Agrees(const struct stat& st) const {
    return st.st_uid == uid && st.st_gid == gid && (st.st_mode & kPermissionBits) == mode;
  }
};

// Whether `st` already has the wanted modification time.
bool TimeAgrees(const std::optional<absl::Time>& mtime, const struct stat& st) {
  return !mtime.has_value() || absl::TimeFromTimespec(st.st_mtim) == *mtime;
}

void RemoveLeaf(int dir, const std::string& name) {
  ::unlinkat(dir, name.c_str(), 0);  // cleaning up after an error that is already being reported
}

class LayerWriter final : public TreeWriter {
 public:
  LayerWriter(Layers lower, std::string upper_dir, bool overlay_form, ChecksumRecorder* recorder);
  // A sibling.
  explicit LayerWriter(const LayerWriter* other)
      : overlay_form_(other->overlay_form_),
        recorder_(other->recorder_),
        reader_(other->reader_),
        root_(other->root_),
        root_status_(other->root_status_),
        shared_(other->shared_) {}

  const TreeReader& reader() const override { return reader_; }
  absl::Status MakeDir(absl::string_view path, const Attributes& attributes) override;
  absl::Status MakeSymlink(absl::string_view path, absl::string_view target,
                           const Attributes& attributes) override;
  absl::Status WriteFile(absl::string_view path, absl::string_view data,
                         const Attributes& attributes) override;
  absl::StatusOr<std::unique_ptr<TreeFile>> CreateFile(absl::string_view path,
                                                       int64_t expected_size,
                                                       const Attributes& attributes) override;
  absl::Status MakeNode(absl::string_view path, uint32_t type_and_mode, uint64_t device,
                        const Attributes& attributes) override;
  absl::Status MakeHardlink(absl::string_view path, absl::string_view existing) override;
  absl::Status CopyFile(const TreeReader& from, absl::string_view from_path, const Entry& entry,
                        absl::string_view path, const Attributes& attributes) override {
    return Take(from, from_path, entry, path, attributes, /*is_new=*/false);
  }
  absl::Status CopyNewFile(const TreeReader& from, absl::string_view from_path, const Entry& entry,
                           absl::string_view path, const Attributes& attributes) override {
    return Take(from, from_path, entry, path, attributes, /*is_new=*/true);
  }
  absl::Status Remove(absl::string_view path) override;
  absl::Status SetAttributes(absl::string_view path, const Attributes& attributes) override;
  absl::Status SetXattr(absl::string_view path, const std::string& name,
                        absl::string_view value) override;

 private:
  friend class LayerFile;

  // What the writers of one layer have in common.
  struct Shared {
    Mutex copy_up_mu;  // held while directories are copied up
    Mutex mu;
    // Foreign inodes linked here: a second copy of one must not become a hard link of the first.
    absl::flat_hash_set<std::pair<dev_t, ino_t>> taken ABSL_GUARDED_BY(mu);
  };

  // A name to be made: its parent directory in the upper layer, open.
  struct Place {
    std::string path, name;
    int dir = -1;            // of parent_
    bool hid_lower = false;  // a whiteout of ours was there
  };

  int upper_index() const { return static_cast<int>(reader_.layers().size()) - 1; }
  std::string UpperPath(absl::string_view path) const {
    return absl::StrCat(reader_.layers().back(), path == "/" ? "" : path);
  }
  absl::Status Ready() const { return root_status_; }

  // Opens a directory of the upper layer, copying it and its parents up when needed. The
  // descriptor is good until the next call.
  absl::StatusOr<int> OpenUpperDir(const std::string& path);
  absl::StatusOr<Fd> CopyUpDirs(const std::string& path);
  absl::Status CopyUpDir(int parent, const std::string& name, const std::string& path);

  absl::StatusOr<Place> Locate(absl::string_view path);
  // What the upper layer has at `place` is cleared away. `exclusive`: an existing name is an error;
  // else a directory is.
  absl::StatusOr<Place> Clear(absl::string_view path, bool exclusive);
  // Has `make(place)` put a file there, instead of what has its name. Most names are new, so it is
  // left to `make` to say kAlreadyExists; the place is cleared then and `make` called once more.
  // Lower layers are asked first, unless the name `is_new` to the whole tree.
  template <typename Make>
  absl::StatusOr<Place> Put(absl::string_view path, bool is_new, Make make);
  absl::Status Take(const TreeReader& from, absl::string_view from_path, const Entry& entry,
                    absl::string_view path, const Attributes& attributes, bool is_new);
  absl::StatusOr<bool> ExistsBelow(const Place& place, bool* is_dir);

  // Makes the entry itself present in the upper layer; `*st` is what it is there.
  absl::Status CopyUp(const std::string& path, struct stat* st);
  // Gives `path`, a file in the upper layer, an inode that nobody else has.
  absl::Status Unshare(const std::string& path, struct stat* st);
  absl::StatusOr<bool> TryHardlink(const std::string& host, const Entry& entry,
                                   const Wanted& wanted, const Place& place);
  absl::Status CopyContentAs(const TreeReader& from, absl::string_view from_path,
                             const Entry& entry, const Wanted& wanted, const Place& place);

  // Owner, mode and times of what was just made at `place`; never follows.
  absl::Status Finish(const Place& place, const Wanted& wanted, bool is_symlink);
  absl::Status FinishFile(int fd, const std::string& path, const Wanted& wanted, struct stat* st);
  absl::Status SetTimes(const Place& place, const struct timespec times[2]);

  void Recorded(absl::string_view path, const Digest& digest) {
    if (recorder_ != nullptr) recorder_->Recorded(path, digest);
  }
  void Changed(absl::string_view path) {
    if (recorder_ != nullptr) recorder_->Changed(path);
  }

  const bool overlay_form_;
  ChecksumRecorder* const recorder_;
  const TreeReader reader_;
  std::shared_ptr<Fd> root_;
  absl::Status root_status_;

  // The directory used last: most work goes file by file through one directory.
  struct {
    std::string path;  // "" = none
    Fd fd;             // not of the root: that is root_
    DirView view;
  } parent_;
  // The directory of an immutable layer that was linked from last, with its '/' at the end. It is
  // opened when a second file is taken from it.
  struct {
    std::string path;
    Fd fd;
  } source_;
  // Inodes whose names are all of our making, so that changing them in place is safe.
  absl::flat_hash_set<ino_t> own_links_;
  const std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

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

Layers Stack(Layers lower, std::string upper) {
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

absl::StatusOr<Fd> LayerWriter::CopyUpDirs(const std::string& path) {
  MutexLock one_at_a_time(&shared_->copy_up_mu);
  KILN_ASSIGN_OR_RETURN(Fd here, OpenFileAt(root_->get(), ".", O_PATH | O_DIRECTORY));
  std::string walked;
  for (absl::string_view part : absl::StrSplit(absl::string_view(path).substr(1), '/')) {
    const std::string name(part);
    absl::StrAppend(&walked, "/", name);
    const int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    Fd next(::openat(here.get(), name.c_str(), flags));
    if (!next.valid()) {
      KILN_ASSIGN_OR_RETURN(const Entry entry, reader_.Lstat(walked));
      if (S_ISLNK(entry.st.st_mode))
        return absl::InvalidArgumentError(absl::StrCat(walked, ": is a symlink, not a directory"));
      if (!S_ISDIR(entry.st.st_mode))
        return absl::FailedPreconditionError(absl::StrCat(walked, ": not a directory"));
      KILN_RETURN_IF_ERROR(CopyUpDir(here.get(), name, walked));
      next = Fd(::openat(here.get(), name.c_str(), flags));
      if (!next.valid()) return ErrnoStatus(errno, absl::StrCat("open ", walked));
    }
    here = std::move(next);
  }
  return here;
}

absl::Status LayerWriter::CopyUpDir(int parent, const std::string& name, const std::string& path) {
  KILN_ASSIGN_OR_RETURN(const Entry entry, reader_.Lstat(path));
  KILN_ASSIGN_OR_RETURN(const auto xattrs, reader_.Xattrs(entry, path));
  if (::mkdirat(parent, name.c_str(), 0700) != 0)
    return ErrnoStatus(errno, absl::StrCat("mkdir ", path));
  KILN_RETURN_IF_ERROR(Annotate(SetXattrs(UpperPath(path), xattrs), path));
  const Place place{path, name, parent};
  KILN_RETURN_IF_ERROR(Finish(place, Wanted(Attributes(), entry.st), false));
  const struct timespec times[2] = {entry.st.st_atim, entry.st.st_mtim};
  return SetTimes(place, times);
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

template <typename Make>
absl::StatusOr<LayerWriter::Place> LayerWriter::Put(absl::string_view path, bool is_new,
                                                    Make make) {
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

absl::StatusOr<bool> LayerWriter::TryHardlink(const std::string& host, const Entry& entry,
                                              const Wanted& wanted, const Place& place) {
  if (!overlay_form_ || !wanted.Agrees(entry.st) || !TimeAgrees(wanted.mtime, entry.st))
    return false;
  const std::pair<dev_t, ino_t> inode(entry.st.st_dev, entry.st.st_ino);
  {
    MutexLock lock(&shared_->mu);
    if (!shared_->taken.insert(inode).second) return false;
  }
  // Whole directories are taken over: one look-up of a short name instead of a long path.
  const size_t slash = host.rfind('/');
  const absl::string_view dir = absl::string_view(host).substr(0, slash + 1);
  if (source_.path != dir) {
    source_.path = std::string(dir);
    source_.fd = Fd();
  } else if (!source_.fd.valid()) {
    source_.fd = Fd(::open(source_.path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  }
  const bool opened = source_.fd.valid();
  const int linked =
      ::linkat(opened ? source_.fd.get() : AT_FDCWD, host.c_str() + (opened ? slash + 1 : 0),
               place.dir, place.name.c_str(), 0);
  if (linked == 0) return true;
  const int error = errno;
  if (error == EXDEV || error == EMLINK || error == EPERM) return false;
  MutexLock lock(&shared_->mu);
  shared_->taken.erase(inode);
  return ErrnoStatus(error, absl::StrCat("link ", place.path));
}

absl::Status LayerWriter::CopyContentAs(const TreeReader& from, absl::string_view from_path,
                                        const Entry& entry, const Wanted& wanted,
                                        const Place& place) {
  KILN_ASSIGN_OR_RETURN(const Fd source, from.Open(from_path));
  KILN_ASSIGN_OR_RETURN(const auto xattrs, from.Xattrs(entry, from_path));
  const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
  KILN_ASSIGN_OR_RETURN(const Fd target, OpenFileAt(place.dir, place.name, flags, 0600));
  absl::Cleanup discard = [&] { RemoveLeaf(place.dir, place.name); };
  KILN_RETURN_IF_ERROR(Annotate(CopyContent(source.get(), target.get()), place.path));
  struct stat st;
  Wanted attributes = wanted;
  attributes.mtime.reset();
  KILN_RETURN_IF_ERROR(FinishFile(target.get(), place.path, attributes, &st));
  // After the owner: chown drops file capabilities.
  KILN_RETURN_IF_ERROR(Annotate(SetXattrs(UpperPath(place.path), xattrs), place.path));
  struct timespec times[2] = {entry.st.st_atim, entry.st.st_mtim};
  if (wanted.mtime.has_value()) times[0] = times[1] = absl::ToTimespec(*wanted.mtime);
  if (::futimens(target.get(), times) != 0)
    return ErrnoStatus(errno, absl::StrCat("utimes ", place.path));
  std::move(discard).Cancel();
  return absl::OkStatus();
}

absl::Status LayerWriter::Take(const TreeReader& from, absl::string_view from_path,
                               const Entry& entry, absl::string_view path,
                               const Attributes& attributes, bool is_new) {
  if (!S_ISREG(entry.st.st_mode))
    return absl::InvalidArgumentError(absl::StrCat(from_path, ": not a regular file"));
  const std::string host = from.HostPath(entry, from_path);
  const std::string& from_layer = from.layers()[static_cast<size_t>(entry.layer)];
  const Wanted wanted(attributes, entry.st);
  // What this very layer has may still change, and with it every name of the inode.
  const bool shareable = from_layer != reader_.layers().back();
  bool linked = false;
  KILN_ASSIGN_OR_RETURN(const Place place, Put(path, is_new, [&](const Place& at) -> absl::Status {
                          if (shareable) {
                            KILN_ASSIGN_OR_RETURN(linked, TryHardlink(host, entry, wanted, at));
                          }
                          return linked ? absl::OkStatus()
                                        : CopyContentAs(from, from_path, entry, wanted, at);
                        }));
  Changed(place.path);
  if (recorder_ == nullptr || !(linked || wanted.Agrees(entry.st))) return absl::OkStatus();
  if (const auto digest = recorder_->Known(from_layer, from_path))
    recorder_->Recorded(place.path, *digest);
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

absl::Status LayerWriter::CopyUp(const std::string& path, struct stat* st) {
  KILN_ASSIGN_OR_RETURN(const Entry entry, reader_.Lstat(path));
  *st = entry.st;
  if (entry.layer == upper_index()) return absl::OkStatus();
  if (S_ISDIR(entry.st.st_mode)) return OpenUpperDir(path).status();
  Attributes same;
  same.uid = entry.st.st_uid;
  same.gid = entry.st.st_gid;
  same.mode = entry.st.st_mode & kPermissionBits;
  same.mtime = absl::TimeFromTimespec(entry.st.st_mtim);
  // The name is free in the upper layer; Clear in the calls below lets a lower file be covered.
  KILN_ASSIGN_OR_RETURN(const Place place, Clear(path, false));
  if (S_ISREG(entry.st.st_mode)) {
    KILN_RETURN_IF_ERROR(CopyContentAs(reader_, path, entry, Wanted(same, entry.st), place));
  } else {
    const int made =
        S_ISLNK(entry.st.st_mode)
            ? ::symlinkat(entry.link.c_str(), place.dir, place.name.c_str())
            : ::mknodat(place.dir, place.name.c_str(), entry.st.st_mode & S_IFMT, entry.st.st_rdev);
    if (made != 0) return ErrnoStatus(errno, absl::StrCat("copy up ", path));
    KILN_RETURN_IF_ERROR(Finish(place, Wanted(same, entry.st), S_ISLNK(entry.st.st_mode)));
  }
  Changed(path);
  if (::fstatat(place.dir, place.name.c_str(), st, AT_SYMLINK_NOFOLLOW) != 0)
    return ErrnoStatus(errno, absl::StrCat("stat ", path));
  return absl::OkStatus();
}

absl::Status LayerWriter::Unshare(const std::string& path, struct stat* st) {
  if (!S_ISREG(st->st_mode) || st->st_nlink == 1 || own_links_.contains(st->st_ino))
    return absl::OkStatus();
  const auto [parent, name] = SplitPath(path);
  KILN_ASSIGN_OR_RETURN(const int dir, OpenUpperDir(parent));
  const std::string temporary = absl::StrCat(".kiln-unshare-", st->st_ino);
  const Place place{absl::StrCat(parent == "/" ? "" : parent, "/", temporary), temporary, dir};
  KILN_ASSIGN_OR_RETURN(const Entry entry, reader_.Lstat(path));
  KILN_RETURN_IF_ERROR(CopyContentAs(reader_, path, entry, Wanted(Attributes(), entry.st), place));
  if (::renameat(dir, temporary.c_str(), dir, name.c_str()) != 0 ||
      ::fstatat(dir, name.c_str(), st, AT_SYMLINK_NOFOLLOW) != 0) {
    const int error = errno;
    RemoveLeaf(dir, temporary);
    return ErrnoStatus(error, absl::StrCat("replace ", path));
  }
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
  if (same && TimeAgrees(attributes.mtime, entry.st)) return absl::OkStatus();
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

}  // namespace

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
