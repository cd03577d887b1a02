#include "daemon/source/local_target.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
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

absl::Status LocalTarget::MakeDir(const fsutil::Stat& stat) {
  const absl::Status status = writer_.MakeDir(TreePath(stat.path), AttributesOf(stat));
  // The updater removes anything but a directory first.
  return absl::IsAlreadyExists(status) ? absl::OkStatus() : status;
}

absl::Status LocalTarget::FinishDir(const fsutil::Stat& stat) {
  SetXattrs(writer_, stat);
  return writer_.SetAttributes(TreePath(stat.path), AttributesOf(stat));
}

absl::Status LocalTarget::MakeSymlink(const fsutil::Stat& stat) {
  return Replace(writer_, stat.path, [&] {
    return writer_.MakeSymlink(TreePath(stat.path), stat.linkname, AttributesOf(stat));
  });
}

absl::Status LocalTarget::MakeNode(const fsutil::Stat& stat) {
  return Replace(writer_, stat.path, [&] {
    return writer_.MakeNode(TreePath(stat.path), fsutil::PosixModeFromGo(stat.mode), 0,
                            AttributesOf(stat));
  });
}

absl::Status LocalTarget::MakeHardlink(const fsutil::Stat& stat) {
  return Replace(writer_, stat.path, [&] {
    return writer_.MakeHardlink(TreePath(stat.path), TreePath(stat.linkname));
  });
}

absl::Status LocalTarget::WriteFile(const fsutil::Stat& stat, std::string data) {
  const size_t slash = stat.path.rfind('/');
  const absl::string_view dir =
      slash == std::string::npos ? "" : absl::string_view(stat.path).substr(0, slash);
  return files_.Post(
      dir, data.size(), [stat, data = std::move(data)](store::TreeWriter& writer) -> absl::Status {
        KILN_RETURN_IF_ERROR(writer.WriteFile(TreePath(stat.path), data, AttributesOf(stat)));
        SetXattrs(writer, stat);
        return absl::OkStatus();
      });
}

absl::StatusOr<std::unique_ptr<fsutil::ReceiveFile>> LocalTarget::CreateFile(
    const fsutil::Stat& stat) {
  // A size of 0 may be that of a promoted hard link (fsutil protocol): then it says nothing.
  KILN_ASSIGN_OR_RETURN(
      auto file,
      writer_.CreateFile(TreePath(stat.path), stat.size > 0 ? stat.size : -1, AttributesOf(stat)));
  return std::unique_ptr<fsutil::ReceiveFile>(new File(writer_, std::move(file), stat));
}

absl::Status LocalTarget::Remove(const std::string& path) {
  const absl::Status status = writer_.Remove(TreePath(path));
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

}  // namespace kiln::daemon
