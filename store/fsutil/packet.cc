#include "store/fsutil/packet.h"

#include <sys/stat.h>

namespace kiln::fsutil {
namespace {

uint32_t GoTypeBits(uint32_t st_mode) {
  switch (st_mode & S_IFMT) {
    case S_IFREG:
      return 0;
    case S_IFDIR:
      return kModeDir;
    case S_IFLNK:
      return kModeSymlink;
    case S_IFIFO:
      return kModeNamedPipe;
    case S_IFSOCK:
      return kModeSocket;
    case S_IFBLK:
      return kModeDevice;
    case S_IFCHR:
      return kModeDevice | kModeCharDevice;
    default:
      return kModeIrregular;
  }
}

uint32_t PosixTypeBits(uint32_t go_mode) {
  if ((go_mode & kModeDir) != 0) return S_IFDIR;
  if ((go_mode & kModeSymlink) != 0) return S_IFLNK;
  if ((go_mode & kModeCharDevice) != 0) return S_IFCHR;
  if ((go_mode & kModeDevice) != 0) return S_IFBLK;
  if ((go_mode & kModeNamedPipe) != 0) return S_IFIFO;
  if ((go_mode & kModeSocket) != 0) return S_IFSOCK;
  return S_IFREG;
}

}  // namespace

uint32_t GoModeFromPosix(uint32_t st_mode) {
  uint32_t mode = (st_mode & 0777) | GoTypeBits(st_mode);
  if ((st_mode & S_ISUID) != 0) mode |= kModeSetuid;
  if ((st_mode & S_ISGID) != 0) mode |= kModeSetgid;
  if ((st_mode & S_ISVTX) != 0) mode |= kModeSticky;
  return mode;
}

uint32_t PosixModeFromGo(uint32_t go_mode) {
  uint32_t mode = (go_mode & 0777) | PosixTypeBits(go_mode);
  if ((go_mode & kModeSetuid) != 0) mode |= S_ISUID;
  if ((go_mode & kModeSetgid) != 0) mode |= S_ISGID;
  if ((go_mode & kModeSticky) != 0) mode |= S_ISVTX;
  return mode;
}

}  // namespace kiln::fsutil
