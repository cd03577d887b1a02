#include "daemon/source/local_target.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

std::string TreePath(const std::string& path) { return absl::StrCat("/", path); }

store::Attributes AttributesOf(const fsutil::Stat& stat) {
  store::Attributes out;
  out.uid = stat.uid;
  out.gid = stat.gid;
  out.mode = fsutil::PosixModeFromGo(stat.mode) & 07777;
  out.mtime = absl::FromUnixNanos(stat.mod_time_ns);
  return out;
}

// Each needs one more call: most entries have none.
void SetXattrs(store::TreeWriter& writer, const fsutil::Stat& stat) {
  for (const auto& [name, value] : stat.xattrs) {
    if (absl::StartsWith(name, "trusted.overlay.") || absl::StartsWith(name, "user.overlay."))
      continue;
    // Upstream ignores refusals too: a client's file system may know attributes that ours does not.
    (void)writer.SetXattr(TreePath(stat.path), name, value);
  }
}

// Makes an entry that must not exist, in place of what has its name.
template <typename Make>
absl::Status Replace(store::TreeWriter& writer, const std::string& path, Make make) {
  absl::Status status = make();
  if (!absl::IsAlreadyExists(status)) return status;
  KILN_RETURN_IF_ERROR(writer.Remove(TreePath(path)));
  return make();
}

}  // namespace

class LocalTarget::File : public fsutil::ReceiveFile {
 public:
  File(store::TreeWriter& writer, std::unique_ptr<store::TreeFile> file, const fsutil::Stat& stat)
      : writer_(writer), file_(std::move(file)), stat_(stat) {}
  absl::Status Append(absl::string_view data) override { return file_->Append(data); }
  absl::Status Close() override {
    KILN_RETURN_IF_ERROR(file_->Close());
    SetXattrs(writer_, stat_);
    return absl::OkStatus();
  }

 private:
  store::TreeWriter& writer_;
  const std::unique_ptr<store::TreeFile> file_;
  const fsutil::Stat stat_;
};

absl::StatusOr<store::TreeWriter*> LocalTarget::Writer() {
  if (writer_ == nullptr) {
    KILN_ASSIGN_OR_RETURN(writer_, open_());
  }
  return writer_;
}

bool LocalTarget::IsThere(const fsutil::Stat& stat, const std::string* data) const {
  if (writer_ != nullptr) return false;
  const std::string path = TreePath(stat.path);
  const absl::StatusOr<store::Entry> entry = existing_.Lstat(path);
  if (!entry.ok()) return false;
  const struct stat& st = entry->st;
  const store::Attributes wanted = AttributesOf(stat);
  if (st.st_uid != wanted.uid || st.st_gid != wanted.gid || (st.st_mode & 07777) != wanted.mode ||
      absl::TimeFromTimespec(st.st_mtim) != wanted.mtime)
    return false;
  const auto xattrs = existing_.Xattrs(*entry, path);
  if (!xattrs.ok() ||
      !std::equal(xattrs->begin(), xattrs->end(), stat.xattrs.begin(), stat.xattrs.end()))
    return false;
  if (data == nullptr) return S_ISDIR(st.st_mode);
  // One of several names may be of the same file as another one that is no link any more.
  if (!S_ISREG(st.st_mode) || st.st_nlink > 1 || static_cast<size_t>(st.st_size) != data->size())
    return false;
  const absl::StatusOr<Fd> file = existing_.Open(path);
  if (!file.ok()) return false;
  const absl::StatusOr<std::string> now = ReadAll(file->get());
  return now.ok() && *now == *data;
}

absl::Status LocalTarget::MakeDir(const fsutil::Stat& stat) {
  KILN_ASSIGN_OR_RETURN(store::TreeWriter * writer, Writer());
  const absl::Status status = writer->MakeDir(TreePath(stat.path), AttributesOf(stat));
  // The updater removes anything but a directory first.
  return absl::IsAlreadyExists(status) ? absl::OkStatus() : status;
}

absl::Status LocalTarget::FinishDir(const fsutil::Stat& stat) {
  if (IsThere(stat, nullptr)) return absl::OkStatus();
  KILN_ASSIGN_OR_RETURN(store::TreeWriter * writer, Writer());
  SetXattrs(*writer, stat);
  return writer->SetAttributes(TreePath(stat.path), AttributesOf(stat));
}

absl::Status LocalTarget::MakeSymlink(const fsutil::Stat& stat) {
  KILN_ASSIGN_OR_RETURN(store::TreeWriter * writer, Writer());
  return Replace(*writer, stat.path, [&] {
    return writer->MakeSymlink(TreePath(stat.path), stat.linkname, AttributesOf(stat));
  });
}

absl::Status LocalTarget::MakeNode(const fsutil::Stat& stat) {
  KILN_ASSIGN_OR_RETURN(store::TreeWriter * writer, Writer());
  return Replace(*writer, stat.path, [&] {
    return writer->MakeNode(TreePath(stat.path), fsutil::PosixModeFromGo(stat.mode), 0,
                            AttributesOf(stat));
  });
}

absl::Status LocalTarget::MakeHardlink(const fsutil::Stat& stat) {
  KILN_ASSIGN_OR_RETURN(store::TreeWriter * writer, Writer());
  return Replace(*writer, stat.path, [&] {
    return writer->MakeHardlink(TreePath(stat.path), TreePath(stat.linkname));
  });
}

absl::Status LocalTarget::WriteFile(const fsutil::Stat& stat, std::string data) {
  if (IsThere(stat, &data)) return absl::OkStatus();
  KILN_ASSIGN_OR_RETURN(store::TreeWriter * writer, Writer());
  if (!files_.has_value()) files_.emplace(*writer);
  const size_t slash = stat.path.rfind('/');
  const absl::string_view dir =
      slash == std::string::npos ? "" : absl::string_view(stat.path).substr(0, slash);
  return files_->Post(
      dir, data.size(), [stat, data = std::move(data)](store::TreeWriter& to) -> absl::Status {
        KILN_RETURN_IF_ERROR(to.WriteFile(TreePath(stat.path), data, AttributesOf(stat)));
        SetXattrs(to, stat);
        return absl::OkStatus();
      });
}

absl::StatusOr<std::unique_ptr<fsutil::ReceiveFile>> LocalTarget::CreateFile(
    const fsutil::Stat& stat) {
  KILN_ASSIGN_OR_RETURN(store::TreeWriter * writer, Writer());
  // A size of 0 may be that of a promoted hard link (fsutil protocol): then it says nothing.
  KILN_ASSIGN_OR_RETURN(
      auto file,
      writer->CreateFile(TreePath(stat.path), stat.size > 0 ? stat.size : -1, AttributesOf(stat)));
  return std::unique_ptr<fsutil::ReceiveFile>(new File(*writer, std::move(file), stat));
}

absl::Status LocalTarget::Remove(const std::string& path) {
  KILN_ASSIGN_OR_RETURN(store::TreeWriter * writer, Writer());
  const absl::Status status = writer->Remove(TreePath(path));
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::Status LocalTarget::Flush() {
  return files_.has_value() ? files_->Drain() : absl::OkStatus();
}

}  // namespace kiln::daemon
