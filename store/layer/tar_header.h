#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::store {

inline constexpr size_t kTarBlock = 512;
inline constexpr size_t kMaxTarRecordBytes = 1 << 20;  // of one pax header, or one GNU long name

// The fields of a header block, in the file: POSIX.1-2017, pax, ustar interchange format.
struct RawTarHeader {
  char name[100];
  char mode[8];
  char uid[8];
  char gid[8];
  char size[12];
  char mtime[12];
  char checksum[8];
  char typeflag;
  char linkname[100];
  char magic[6];
  char version[2];
  char uname[32];
  char gname[32];
  char devmajor[8];
  char devminor[8];
  char prefix[155];
  char padding[12];
};
static_assert(sizeof(RawTarHeader) == kTarBlock);

// What the header block alone says; extensions may override it.
struct TarHeaderFields {
  char typeflag = '0';
  std::string name, link;
  int64_t mode = 0, uid = 0, gid = 0, size = 0, mtime = 0, devmajor = 0, devminor = 0;
};

// Reads one block. kDataLoss: the checksum is wrong or a number is ill-formed; the message says
// which. Numbers may be octal or base 256 (GNU, star). As Go's archive/tar reads them.
absl::StatusOr<TarHeaderFields> ParseTarHeader(absl::string_view block);

bool IsZeroBlock(absl::string_view block);

using PaxRecords = std::map<std::string, std::string>;
// The records of a pax header; kDataLoss when ill-formed.
absl::StatusOr<PaxRecords> ParsePaxRecords(absl::string_view bytes);

// "1700000000.123456789" in seconds and nanoseconds; may be negative.
absl::StatusOr<std::pair<int64_t, int64_t>> ParsePaxTime(absl::string_view text);

// The number in a field; kDataLoss when ill-formed.
absl::StatusOr<int64_t> ParseTarNumber(absl::string_view field);

}  // namespace kiln::store
