#pragma once

#include <sys/types.h>
#include <time.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace kiln::store {

// What an entry of a tar archive is; the values are the type flags of POSIX ustar.
enum class TarType : char {
  kFile = '0',
  kHardlink = '1',
  kSymlink = '2',
  kCharDevice = '3',
  kBlockDevice = '4',
  kDirectory = '5',
  kFifo = '6',
};

// One entry of a tar archive, extensions resolved. A plain value.
struct TarEntry {
  // Where a piece of a sparse file lies; pieces ascend and do not overlap.
  struct Extent {
    int64_t offset = 0, size = 0;
  };

  TarType type = TarType::kFile;
  std::string name;   // as written in the archive: untrusted
  std::string link;   // target of a link, as written
  uint32_t mode = 0;  // permission, suid, sgid and sticky bits
  uint32_t uid = 0, gid = 0;
  int64_t size = 0;         // bytes of the file; 0 for what is no file
  int64_t stored_size = 0;  // bytes in the archive: less than `size` only for a sparse file
  struct timespec mtime = {};
  struct timespec atime = {};  // never before mtime
  dev_t device = 0;
  std::map<std::string, std::string> xattrs;
  bool sparse = false;
  std::vector<Extent> extents;  // of a sparse file; their sizes sum up to `stored_size`
};

// A name out of an archive for people to read: quoted, printable, cut to 256 bytes.
std::string ShownName(absl::string_view name);

}  // namespace kiln::store
