#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kiln::fsutil {

// One entry of a transfer (fsutil.types.Stat). `mode` holds Go's os.FileMode bits, not POSIX.
struct Stat {
  std::string path;  // relative, '/'-separated, clean; any bytes
  uint32_t mode = 0;
  uint32_t uid = 0, gid = 0;
  int64_t size = 0;
  int64_t mod_time_ns = 0;
  std::string linkname;  // symlink target, or the earlier path of a hard link
  int64_t devmajor = 0, devminor = 0;
  std::map<std::string, std::string> xattrs;
};

// Go os.FileMode bits (wire.md 3.2).
inline constexpr uint32_t kModeDir = 1u << 31;
inline constexpr uint32_t kModeSymlink = 1u << 27;
inline constexpr uint32_t kModeDevice = 1u << 26;
inline constexpr uint32_t kModeNamedPipe = 1u << 25;
inline constexpr uint32_t kModeSocket = 1u << 24;
inline constexpr uint32_t kModeSetuid = 1u << 23;
inline constexpr uint32_t kModeSetgid = 1u << 22;
inline constexpr uint32_t kModeCharDevice = 1u << 21;
inline constexpr uint32_t kModeSticky = 1u << 20;
inline constexpr uint32_t kModeIrregular = 1u << 19;
inline constexpr uint32_t kModeTypeMask = kModeDir | kModeSymlink | kModeNamedPipe | kModeSocket |
                                          kModeDevice | kModeCharDevice | kModeIrregular;

uint32_t GoModeFromPosix(uint32_t st_mode);
// Type and permission bits; a mode with several type bits yields the first of directory, symlink,
// device, pipe, socket. A regular file otherwise.
uint32_t PosixModeFromGo(uint32_t go_mode);

inline bool IsDir(uint32_t go_mode) { return (go_mode & kModeDir) != 0; }
inline bool IsSymlink(uint32_t go_mode) { return (go_mode & kModeSymlink) != 0; }
// No type bit: has content that can be asked for, unless it is a hard link.
inline bool IsRegular(uint32_t go_mode) { return (go_mode & kModeTypeMask) == 0; }
inline bool IsHardlink(const Stat& stat) {
  return !IsDir(stat.mode) && !IsSymlink(stat.mode) && !stat.linkname.empty();
}

struct Packet {
  enum class Type { kStat = 0, kReq = 1, kData = 2, kFin = 3, kErr = 4 };
  Type type = Type::kStat;
  bool has_stat = false;  // a kStat packet without one ends the listing
  Stat stat;
  uint32_t id = 0;
  std::string data;
};

// A duplex stream of packets. One reader and one writer thread at a time; blocking.
class PacketStream {
 public:
  virtual ~PacketStream() = default;
  // False at the peer's end of stream.
  virtual absl::StatusOr<bool> Read(Packet* packet) = 0;
  virtual absl::Status Write(const Packet& packet) = 0;
  // Hint that no more will be written for a while: whatever was held back goes out now. Called by
  // the writer's thread.
  virtual absl::Status Flush() { return absl::OkStatus(); }
  // Write and Flush of the last packet of this side: what goes out may say so.
  virtual absl::Status WriteLast(const Packet& packet) {
    const absl::Status written = Write(packet);
    return written.ok() ? Flush() : written;
  }
  // Makes blocked and later calls fail, in both directions. Thread-safe.
  virtual void Abort() = 0;
};

}  // namespace kiln::fsutil
