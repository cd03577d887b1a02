#include "store/layer/tar_writer.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "store/layer/tar_header.h"

namespace kiln::store {
namespace {

constexpr char kZeros[2 * kTarBlock] = {};

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
  uint64_t rest = fits ? static_cast<uint64_t>(value) : 0;
  for (size_t i = N - 1; i-- > 0; rest >>= 3) field[i] = static_cast<char>('0' + (rest & 7));
  field[N - 1] = '\0';
  return fits;
}

// Puts the name in one field, or in two when it splits at a '/'. False when neither works.
bool PutName(absl::string_view name, RawTarHeader* header) {
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

void Seal(RawTarHeader* header) {
  std::memcpy(header->magic, "ustar", 6);
  std::memcpy(header->version, "00", 2);
  std::memset(header->checksum, ' ', sizeof header->checksum);
  uint32_t sum = 0;
  const auto* bytes = reinterpret_cast<const uint8_t*>(header);
  for (size_t i = 0; i < kTarBlock; ++i) sum += bytes[i];
  for (size_t i = 6; i-- > 0; sum >>= 3) header->checksum[i] = static_cast<char>('0' + (sum & 7));
  header->checksum[6] = '\0';
}

absl::string_view Bytes(const RawTarHeader& header) {
  return absl::string_view(reinterpret_cast<const char*>(&header), kTarBlock);
}

void AppendPax(const std::string& records, absl::string_view name, std::string* out) {
  RawTarHeader header = {};
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
  absl::StrAppend(out, Bytes(header), records, TarPadding(static_cast<int64_t>(records.size())));
}

std::string Fraction(const struct timespec& time) {
  std::string digits = absl::StrFormat("%d.%09d", static_cast<int64_t>(time.tv_sec),
                                       static_cast<int64_t>(time.tv_nsec));
  digits.erase(digits.find_last_not_of('0') + 1);
  return digits;
}

}  // namespace

std::string EncodePaxRecord(absl::string_view key, absl::string_view value) {
  // The length counts its own digits.
  const size_t rest = key.size() + value.size() + 3;
  size_t size = rest + absl::StrCat(rest).size();
  while (rest + absl::StrCat(size).size() != size) size = rest + absl::StrCat(size).size();
  return absl::StrCat(size, " ", key, "=", value, "\n");
}

absl::string_view TarPadding(int64_t size) {
  constexpr auto kBlock = static_cast<int64_t>(kTarBlock);
  return absl::string_view(kZeros, static_cast<size_t>((kBlock - size % kBlock) % kBlock));
}

absl::string_view TarEnd() { return absl::string_view(kZeros, sizeof kZeros); }

std::string EncodeTarHeader(const TarEntry& entry) {
  std::map<std::string, std::string> pax;
  RawTarHeader header = {};
  const absl::string_view name = entry.name;
  if (!PutName(name, &header)) {
    pax["path"] = entry.name;
    PutText(name.substr(0, sizeof header.name), header.name);
  }
  if (!IsAscii(entry.link) || entry.link.size() > sizeof header.linkname)
    pax["linkpath"] = entry.link;
  PutText(entry.link, header.linkname);
  PutNumber(entry.mode & 07777, header.mode);
  if (!PutNumber(entry.uid, header.uid)) pax["uid"] = absl::StrCat(entry.uid);
  if (!PutNumber(entry.gid, header.gid)) pax["gid"] = absl::StrCat(entry.gid);
  if (!PutNumber(entry.size, header.size)) pax["size"] = absl::StrCat(entry.size);
  const bool whole_seconds = PutNumber(entry.mtime.tv_sec, header.mtime);
  if (entry.mtime.tv_nsec != 0) {
    pax["mtime"] = Fraction(entry.mtime);
  } else if (!whole_seconds) {
    pax["mtime"] = absl::StrCat(entry.mtime.tv_sec);
  }
  PutNumber(major(entry.device), header.devmajor);
  PutNumber(minor(entry.device), header.devminor);
  for (const auto& [key, value] : entry.xattrs) {
    if (!absl::StrContains(key, '=')) pax[absl::StrCat("SCHILY.xattr.", key)] = value;
  }
  header.typeflag = static_cast<char>(entry.type);
  std::string out;
  if (!pax.empty()) {
    std::string records;
    for (const auto& [key, value] : pax) records += EncodePaxRecord(key, value);
    AppendPax(records, name, &out);
  }
  Seal(&header);
  absl::StrAppend(&out, Bytes(header));
  return out;
}

}  // namespace kiln::store
