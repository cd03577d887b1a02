// What tree_writer.cc and layer_copy.cc make a TreeWriter of.
#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "store/base/fd.h"
#include "store/base/mutex.h"
#include "store/checksum_recorder.h"
#include "store/tree_writer.h"

namespace kiln::store {

inline constexpr uint32_t kPermissionBits = 07777;

// The metadata a new entry shall have; absent members are the defaults of a file made by us.
struct Wanted {
  uint32_t uid, gid, mode;
  std::optional<absl::Time> mtime;

  Wanted(const Attributes& attributes, uint32_t default_mode);
  Wanted(const Attributes& attributes, const struct stat& st)
      : uid(attributes.uid.value_or(st.st_uid)),
        gid(attributes.gid.value_or(st.st_gid)),
        mode(attributes.mode.value_or(st.st_mode) & kPermissionBits),
        mtime(attributes.mtime) {}

  bool Agrees(const struct stat& st) const {
    return st.st_uid == uid && st.st_gid == gid && (st.st_mode & kPermissionBits) == mode;
  }
  bool TimeAgrees(const struct stat& st) const {
    return !mtime.has_value() || absl::TimeFromTimespec(st.st_mtim) == *mtime;
  }
};

inline void RemoveLeaf(int dir, const std::string& name) {
  ::unlinkat(dir, name.c_str(), 0);  // cleaning up after an error that is already being reported
}

// The one TreeWriter: of a layer's folder, in overlayfs form or a whole tree.
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
  absl::StatusOr<Place> Put(absl::string_view path, bool is_new,
                            absl::FunctionRef<absl::Status(const Place&)> make);
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

}  // namespace kiln::store
