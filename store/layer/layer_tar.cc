#include "store/layer/layer_tar.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"
#include "store/layer/tar_entry.h"
#include "store/layer/tar_writer.h"
#include "store/snapshot/copy_entry.h"

namespace kiln::store {
namespace {

constexpr size_t kPieceBytes = 256 << 10;
constexpr char kCapability[] = "security.capability";

TarType TypeOf(const struct stat& st) {
  switch (st.st_mode & S_IFMT) {
    case S_IFDIR:
      return TarType::kDirectory;
    case S_IFLNK:
      return TarType::kSymlink;
    case S_IFCHR:
      return TarType::kCharDevice;
    case S_IFBLK:
      return TarType::kBlockDevice;
    case S_IFIFO:
      return TarType::kFifo;
    default:
      return TarType::kFile;
  }
}

class LayerTarWriter {
 public:
  LayerTarWriter(const TreeReader& upper, const LayerTarOptions& options, const ByteSink& sink)
      : upper_(upper), options_(options), sink_(sink), buffer_(kPieceBytes, '\0') {}

  absl::Status Write(const Change& change) {
    if (change.path == "/") return absl::OkStatus();  // a layer says nothing of the root
    if (change.kind == Change::Kind::kDelete) return WriteWhiteout(change.path);
    if (S_ISSOCK(change.st.st_mode)) return absl::OkStatus();
    if (S_ISDIR(change.st.st_mode)) {
      if (!directories_.insert(change.path).second) return absl::OkStatus();
      return WriteEntry(change, "");
    }
    if (change.st.st_nlink < 2)
      return change.kind == Change::Kind::kSame ? absl::OkStatus() : WriteEntry(change, "");

    // The first changed name of a file is the file, every other one a link to it. Unchanged names
    // are told only if there is a changed one: else the link would be torn.
    Linked& file = linked_[{change.layer, change.st.st_dev, change.st.st_ino}];
    if (!file.name.empty()) return WriteLink(change, file.name);
    if (change.kind == Change::Kind::kSame) {
      file.unchanged.push_back(change);
      return absl::OkStatus();
    }
    file.name = change.path.substr(1);
    const std::vector<Change> unchanged = std::move(file.unchanged);
    const std::string name = file.name;
    KILN_RETURN_IF_ERROR(WriteEntry(change, ""));
    for (const Change& other : unchanged) KILN_RETURN_IF_ERROR(WriteLink(other, name));
    return absl::OkStatus();
  }

  absl::StatusOr<bool> Finish() {
    if (!written_) return false;
    KILN_RETURN_IF_ERROR(sink_(TarEnd()));
    return true;
  }

 private:
  struct Linked {
    std::string name;               // in the archive; "": not written yet
    std::vector<Change> unchanged;  // names told before
  };

  absl::Status WriteWhiteout(const std::string& path) {
    TarEntry entry;
    const auto [parent, name] = SplitPath(path);
    entry.name = JoinPath(parent, absl::StrCat(".wh.", name)).substr(1);
    written_ = true;
    return sink_(EncodeTarHeader(entry));
  }

  absl::Status WriteLink(const Change& change, const std::string& target) {
    KILN_RETURN_IF_ERROR(WriteParents(SplitPath(change.path).first));
    return WriteEntry(change, target);
  }

  // An unchanged name may lie where no other change does.
  absl::Status WriteParents(const std::string& path) {
    if (path == "/" || directories_.contains(path)) return absl::OkStatus();
    KILN_RETURN_IF_ERROR(WriteParents(SplitPath(path).first));
    directories_.insert(path);
    KILN_ASSIGN_OR_RETURN(const Entry entry, upper_.Lstat(path));
    return WriteEntry(
        {Change::Kind::kPut, path, upper_.HostPath(entry, path), entry.st, false, entry.layer}, "");
  }

  struct timespec TimeOf(const struct stat& st) const {
    struct timespec time = {st.st_mtim.tv_sec, 0};
    if (options_.clamp.has_value())
      time.tv_sec = std::min<time_t>(time.tv_sec, absl::ToUnixSeconds(*options_.clamp));
    return time;
  }

  // `link`: the name in the archive that this is another name of; "": the file itself.
  absl::Status WriteEntry(const Change& change, const std::string& link) {
    const struct stat& st = change.st;
    TarEntry entry;
    entry.type = link.empty() ? TypeOf(st) : TarType::kHardlink;
    entry.name = change.path.substr(1);
    if (entry.type == TarType::kDirectory) entry.name.push_back('/');
    entry.mode = st.st_mode & 07777;
    entry.uid = st.st_uid;
    entry.gid = st.st_gid;
    entry.mtime = TimeOf(st);
    if (entry.type == TarType::kFile) entry.size = st.st_size;
    if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) entry.device = st.st_rdev;
    entry.link = link;
    if (entry.type == TarType::kSymlink) {
      KILN_ASSIGN_OR_RETURN(entry.link, ReadHostLink(change.host_path, st.st_size));
    }
    if (!S_ISLNK(st.st_mode)) {
      KILN_ASSIGN_OR_RETURN(std::string value, ReadXattr(change.host_path, kCapability));
      if (!value.empty()) entry.xattrs.emplace(kCapability, std::move(value));
    }
    written_ = true;
    KILN_RETURN_IF_ERROR(sink_(EncodeTarHeader(entry)));
    return entry.size > 0 ? WriteContent(change) : absl::OkStatus();
  }

  absl::Status WriteContent(const Change& change) {
    KILN_ASSIGN_OR_RETURN(const Fd file, OpenFile(change.host_path, O_RDONLY | O_NOFOLLOW));
    for (int64_t left = change.st.st_size; left > 0;) {
      KILN_RETURN_IF_ERROR(options_.cancel.status());
      const auto want = static_cast<size_t>(std::min<int64_t>(left, kPieceBytes));
      const ssize_t n = ::read(file.get(), buffer_.data(), want);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoStatus(errno, absl::StrCat("read ", change.path));
      if (n == 0)
        return absl::DataLossError(absl::StrCat(change.path, ": ", left, " bytes are missing"));
      KILN_RETURN_IF_ERROR(sink_(absl::string_view(buffer_.data(), static_cast<size_t>(n))));
      left -= n;
    }
    const absl::string_view padding = TarPadding(change.st.st_size);
    return padding.empty() ? absl::OkStatus() : sink_(padding);
  }

  const TreeReader& upper_;
  const LayerTarOptions& options_;
  const ByteSink& sink_;
  std::string buffer_;
  bool written_ = false;
  absl::flat_hash_set<std::string> directories_;  // those in the archive
  absl::flat_hash_map<std::tuple<int, dev_t, ino_t>, Linked> linked_;
};

}  // namespace

absl::StatusOr<bool> WriteLayerTar(const TreeReader& lower, const TreeReader& upper,
                                   DiffOptions diff, const LayerTarOptions& options,
                                   const ByteSink& sink) {
  diff.report_links = true;
  LayerTarWriter writer(upper, options, sink);
  KILN_RETURN_IF_ERROR(TreeChanges(
      lower, upper, diff, [&](const Change& change) { return writer.Write(change); },
      options.cancel));
  return writer.Finish();
}

}  // namespace kiln::store
