#include "daemon/exporter/tar_writer.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"
#include "store/layer/tar_writer.h"

namespace kiln::daemon {
namespace {

using Sink = std::function<absl::Status(absl::string_view)>;
using store::TarEntry;
using store::TarType;

TarType TypeOf(const fsutil::Stat& stat) {
  if (fsutil::IsDir(stat.mode)) return TarType::kDirectory;
  if (fsutil::IsSymlink(stat.mode)) return TarType::kSymlink;
  if (!stat.linkname.empty()) return TarType::kHardlink;
  if ((stat.mode & fsutil::kModeCharDevice) != 0) return TarType::kCharDevice;
  if ((stat.mode & fsutil::kModeDevice) != 0) return TarType::kBlockDevice;
  if ((stat.mode & fsutil::kModeNamedPipe) != 0) return TarType::kFifo;
  return TarType::kFile;
}

int64_t RoundedSeconds(int64_t ns) {
  const int64_t shifted = ns + 500000000;
  return shifted >= 0 ? shifted / 1000000000 : -((-shifted + 999999999) / 1000000000);
}

TarEntry EntryOf(const fsutil::Stat& stat) {
  TarEntry entry;
  entry.type = TypeOf(stat);
  entry.name = fsutil::IsDir(stat.mode) ? absl::StrCat(stat.path, "/") : stat.path;
  entry.link = stat.linkname;
  entry.mode = fsutil::PosixModeFromGo(stat.mode) & 07777;
  entry.uid = stat.uid;
  entry.gid = stat.gid;
  if (entry.type == TarType::kFile) entry.size = stat.size;
  entry.mtime.tv_sec = RoundedSeconds(stat.mod_time_ns);
  entry.device =
      makedev(static_cast<unsigned>(stat.devmajor), static_cast<unsigned>(stat.devminor));
  entry.xattrs.insert(stat.xattrs.begin(), stat.xattrs.end());
  return entry;
}

absl::Status WriteContent(fsutil::FileSource& source, const fsutil::Stat& stat, const Sink& sink) {
  KILN_ASSIGN_OR_RETURN(const Fd fd, source.Open(stat.path));
  std::string buffer(128 << 10, '\0');
  int64_t left = stat.size;
  while (left > 0) {
    const size_t want = static_cast<size_t>(std::min<int64_t>(left, 128 << 10));
    const ssize_t n = ::read(fd.get(), buffer.data(), want);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, absl::StrCat("read ", stat.path));
    if (n == 0)
      return absl::DataLossError(absl::StrCat(stat.path, ": ", left, " bytes are missing"));
    KILN_RETURN_IF_ERROR(sink(absl::string_view(buffer.data(), static_cast<size_t>(n))));
    left -= n;
  }
  return sink(store::TarPadding(stat.size));
}

}  // namespace

absl::Status WriteTar(fsutil::FileSource& source, const Sink& sink) {
  const absl::Status walked = source.Walk([&](fsutil::Stat* stat) -> absl::Status {
    const TarEntry entry = EntryOf(*stat);
    KILN_RETURN_IF_ERROR(sink(store::EncodeTarHeader(entry)));
    return entry.size > 0 ? WriteContent(source, *stat, sink) : absl::OkStatus();
  });
  if (!walked.ok()) return walked;
  return sink(store::TarEnd());
}

}  // namespace kiln::daemon
