#include "daemon/exporter/tar_writer.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

using Sink = std::function<absl::Status(absl::string_view)>;

constexpr size_t kBlock = 512;

// POSIX ustar header (POSIX.1-2017, pax, ustar interchange format).
struct Header {
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
static_assert(sizeof(Header) == kBlock);

bool IsAscii(absl::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<signed char>(c) > 0; });
}

template <size_t N>
void PutText(absl::string_view text, char (&field)[N]) {
  std::memcpy(field, text.data(), std::min(text.size(), N));
}

// Octal digits and a NUL; what does not fit is told in a pax record and is 0 here.
template <size_t N>
bool PutNumber(int64_t value, char (&field)[N]) {
  const bool fits = value >= 0 && value < (int64_t{1} << (3 * (N - 1)));
  const std::string digits =
      absl::StrFormat("%0*o", static_cast<int>(N - 1), fits ? value : int64_t{0});
  std::memcpy(field, digits.data(), N - 1);
  return fits;
}

// Puts the name in one field, or in two when it splits at a '/'. False when neither works.
bool PutName(absl::string_view name, Header* header) {
  if (!IsAscii(name)) return false;
  if (name.size() <= sizeof header->name) {
    PutText(name, header->name);
    return true;
  }
  if (name.size() > sizeof header->name + sizeof header->prefix + 1) return false;
  // The last '/' that leaves a prefix which fits; a trailing one belongs to the name.
  const size_t slash =
      name.substr(0, std::min(name.size() - 1, sizeof header->prefix + 1)).rfind('/');
  if (slash == absl::string_view::npos || slash == 0) return false;
  const absl::string_view rest = name.substr(slash + 1);
  if (rest.empty() || rest.size() > sizeof header->name) return false;
  PutText(name.substr(0, slash), header->prefix);
  PutText(rest, header->name);
  return true;
}

void Seal(Header* header) {
  std::memcpy(header->magic, "ustar", 6);
  std::memcpy(header->version, "00", 2);
  std::memset(header->checksum, ' ', sizeof header->checksum);
  uint32_t sum = 0;
  const auto* bytes = reinterpret_cast<const uint8_t*>(header);
  for (size_t i = 0; i < kBlock; ++i) sum += bytes[i];
  const std::string digits = absl::StrFormat("%06o", sum);
  std::memcpy(header->checksum, digits.data(), 6);
  header->checksum[6] = '\0';
}

absl::string_view Bytes(const Header& header) {
  return absl::string_view(reinterpret_cast<const char*>(&header), kBlock);
}

// "LENGTH key=value\n", the length counting itself.
std::string PaxRecord(absl::string_view key, absl::string_view value) {
  const size_t rest = key.size() + value.size() + 3;
  size_t size = rest + absl::StrCat(rest).size();
  while (rest + absl::StrCat(size).size() != size) size = rest + absl::StrCat(size).size();
  return absl::StrCat(size, " ", key, "=", value, "\n");
}

absl::string_view Padding(size_t size) {
  static constexpr char kZeros[kBlock] = {};
  return absl::string_view(kZeros, (kBlock - size % kBlock) % kBlock);
}

char TypeFlag(const fsutil::Stat& stat) {
  if (fsutil::IsDir(stat.mode)) return '5';
  if (fsutil::IsSymlink(stat.mode)) return '2';
  if (!stat.linkname.empty()) return '1';
  if ((stat.mode & fsutil::kModeCharDevice) != 0) return '3';
  if ((stat.mode & fsutil::kModeDevice) != 0) return '4';
  if ((stat.mode & fsutil::kModeNamedPipe) != 0) return '6';
  return '0';
}

int64_t RoundedSeconds(int64_t ns) {
  const int64_t shifted = ns + 500000000;
  return shifted >= 0 ? shifted / 1000000000 : -((-shifted + 999999999) / 1000000000);
}

absl::Status WritePax(const std::string& records, absl::string_view name, const Sink& sink) {
  Header header = {};
  absl::string_view base = name;
  absl::ConsumeSuffix(&base, "/");
  const size_t slash = base.rfind('/');
  std::string pax_name = absl::StrCat(
      slash == absl::string_view::npos ? "" : base.substr(0, slash + 1), "PaxHeaders.0/",
      slash == absl::string_view::npos ? base : base.substr(slash + 1));
  // Of no meaning to a reader that knows pax.
  for (char& c : pax_name)
    if (static_cast<signed char>(c) <= 0) c = '_';
  PutText(pax_name.substr(0, sizeof header.name), header.name);
  PutNumber(0644, header.mode);
  PutNumber(0, header.uid);
  PutNumber(0, header.gid);
  PutNumber(static_cast<int64_t>(records.size()), header.size);
  PutNumber(0, header.mtime);
  PutNumber(0, header.devmajor);
  PutNumber(0, header.devminor);
  header.typeflag = 'x';
  Seal(&header);
  KILN_RETURN_IF_ERROR(sink(Bytes(header)));
  KILN_RETURN_IF_ERROR(sink(records));
  return sink(Padding(records.size()));
}

absl::Status WriteHeader(const fsutil::Stat& stat, int64_t size, const Sink& sink) {
  const std::string name = fsutil::IsDir(stat.mode) ? absl::StrCat(stat.path, "/") : stat.path;
  std::map<std::string, std::string> pax;
  Header header = {};
  if (!PutName(name, &header)) {
    pax["path"] = name;
    PutText(absl::string_view(name).substr(0, sizeof header.name), header.name);
  }
  if (!IsAscii(stat.linkname) || stat.linkname.size() > sizeof header.linkname)
    pax["linkpath"] = stat.linkname;
  PutText(stat.linkname, header.linkname);
  PutNumber(fsutil::PosixModeFromGo(stat.mode) & 07777, header.mode);
  if (!PutNumber(stat.uid, header.uid)) pax["uid"] = absl::StrCat(stat.uid);
  if (!PutNumber(stat.gid, header.gid)) pax["gid"] = absl::StrCat(stat.gid);
  if (!PutNumber(size, header.size)) pax["size"] = absl::StrCat(size);
  const int64_t seconds = RoundedSeconds(stat.mod_time_ns);
  if (!PutNumber(seconds, header.mtime)) pax["mtime"] = absl::StrCat(seconds);
  PutNumber(stat.devmajor, header.devmajor);
  PutNumber(stat.devminor, header.devminor);
  for (const auto& [key, value] : stat.xattrs) {
    if (!absl::StrContains(key, '=')) pax[absl::StrCat("SCHILY.xattr.", key)] = value;
  }
  header.typeflag = TypeFlag(stat);
  if (!pax.empty()) {
    std::string records;
    for (const auto& [key, value] : pax) records += PaxRecord(key, value);
    KILN_RETURN_IF_ERROR(WritePax(records, name, sink));
  }
  Seal(&header);
  return sink(Bytes(header));
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
  return sink(Padding(static_cast<size_t>(stat.size)));
}

}  // namespace

absl::Status WriteTar(fsutil::FileSource& source, const Sink& sink) {
  const absl::Status walked = source.Walk([&](fsutil::Stat* stat) -> absl::Status {
    const bool has_content = TypeFlag(*stat) == '0' && stat->size > 0;
    KILN_RETURN_IF_ERROR(WriteHeader(*stat, has_content ? stat->size : 0, sink));
    return has_content ? WriteContent(source, *stat, sink) : absl::OkStatus();
  });
  if (!walked.ok()) return walked;
  return sink(std::string(2 * kBlock, '\0'));
}

}  // namespace kiln::daemon
