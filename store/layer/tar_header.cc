#include "store/layer/tar_header.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "store/base/status_macros.h"

namespace kiln::store {
namespace {

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("the tar archive is damaged: ", what));
}

template <size_t N>
absl::string_view Field(const char (&field)[N]) {
  return absl::string_view(field, N);
}

// Text ends at the first NUL or at the end of the field.
std::string Text(absl::string_view field) { return std::string(field.substr(0, field.find('\0'))); }

absl::StatusOr<int64_t> Number(absl::string_view field, const char* name) {
  return Annotate(ParseTarNumber(field), name);
}

}  // namespace

bool IsZeroBlock(absl::string_view block) {
  return std::all_of(block.begin(), block.end(), [](char c) { return c == '\0'; });
}

absl::StatusOr<int64_t> ParseTarNumber(absl::string_view field) {
  if (field.empty()) return 0;
  if ((field[0] & 0x80) != 0) {
    // Base 256, two's complement; the first bit only marks the form, the second is the sign.
    const bool negative = (field[0] & 0x40) != 0;
    uint64_t value = 0;
    for (size_t i = 0; i < field.size(); ++i) {
      auto byte = static_cast<uint8_t>(field[i]);
      if (negative) byte = static_cast<uint8_t>(~byte);
      if (i == 0) byte &= 0x7f;
      if ((value >> 56) != 0) return Damaged("a number is too large");
      value = value << 8 | byte;
    }
    if ((value >> 63) != 0) return Damaged("a number is too large");
    const auto number = static_cast<int64_t>(value);
    return negative ? -number - 1 : number;
  }
  // Octal; writers pad with blanks and NULs on either side.
  auto padding = [](char c) { return c == ' ' || c == '\0'; };
  while (!field.empty() && padding(field.front())) field.remove_prefix(1);
  while (!field.empty() && padding(field.back())) field.remove_suffix(1);
  field = field.substr(0, field.find('\0'));
  int64_t value = 0;
  for (const char c : field) {
    if (c < '0' || c > '7') return Damaged("a number is not octal");
    if (value > std::numeric_limits<int64_t>::max() >> 3) return Damaged("a number is too large");
    value = value << 3 | (c - '0');
  }
  return value;
}

absl::StatusOr<TarHeaderFields> ParseTarHeader(absl::string_view block) {
  if (block.size() != kTarBlock) return Damaged("a header is cut short");
  RawTarHeader raw;
  std::memcpy(&raw, block.data(), sizeof raw);

  // Both sums are seen in the wild: of unsigned and of signed bytes, the field itself as blanks.
  absl::StatusOr<int64_t> want = ParseTarNumber(Field(raw.checksum));
  int64_t sum = 0, signed_sum = 0;
  for (size_t i = 0; i < kTarBlock; ++i) {
    const bool own = i >= offsetof(RawTarHeader, checksum) && i < offsetof(RawTarHeader, typeflag);
    const char c = own ? ' ' : block[i];
    sum += static_cast<uint8_t>(c);
    signed_sum += static_cast<int8_t>(c);
  }
  if (!want.ok() || (*want != sum && *want != signed_sum))
    return Damaged("a header has a wrong checksum");

  TarHeaderFields out;
  out.typeflag = raw.typeflag;
  out.name = Text(Field(raw.name));
  out.link = Text(Field(raw.linkname));
  KILN_ASSIGN_OR_RETURN(out.mode, Number(Field(raw.mode), "mode"));
  KILN_ASSIGN_OR_RETURN(out.uid, Number(Field(raw.uid), "uid"));
  KILN_ASSIGN_OR_RETURN(out.gid, Number(Field(raw.gid), "gid"));
  KILN_ASSIGN_OR_RETURN(out.size, Number(Field(raw.size), "size"));
  KILN_ASSIGN_OR_RETURN(out.mtime, Number(Field(raw.mtime), "mtime"));

  const bool ustar = std::memcmp(raw.magic,
                                 "ustar\0"
                                 "00",
                                 8) == 0;
  const bool gnu = std::memcmp(raw.magic, "ustar  \0", 8) == 0;
  if (!ustar && !gnu) return out;  // version 7: no further fields
  KILN_ASSIGN_OR_RETURN(out.devmajor, Number(Field(raw.devmajor), "device"));
  KILN_ASSIGN_OR_RETURN(out.devminor, Number(Field(raw.devminor), "device"));
  if (ustar) {
    const bool star = std::memcmp(block.data() + 508, "tar\0", 4) == 0;
    const std::string prefix = Text(Field(raw.prefix).substr(0, star ? 131 : 155));
    if (!prefix.empty()) out.name = absl::StrCat(prefix, "/", out.name);
  }
  return out;
}

absl::StatusOr<PaxRecords> ParsePaxRecords(absl::string_view bytes) {
  PaxRecords out;
  while (!bytes.empty()) {
    const size_t space = bytes.find(' ');
    size_t size = 0;
    if (space == absl::string_view::npos || space == 0 || bytes[0] < '0' || bytes[0] > '9' ||
        !absl::SimpleAtoi(bytes.substr(0, space), &size) || size > bytes.size() ||
        size < space + 2 || bytes[size - 1] != '\n')
      return Damaged("a pax record has a wrong length");
    const absl::string_view record = bytes.substr(space + 1, size - space - 2);
    const size_t equals = record.find('=');
    if (equals == absl::string_view::npos || equals == 0) return Damaged("a pax record has no key");
    const absl::string_view key = record.substr(0, equals), value = record.substr(equals + 1);
    const bool text = key == "path" || key == "linkpath" || key == "uname" || key == "gname";
    if (key.find('\0') != key.npos || (text && value.find('\0') != value.npos))
      return Damaged("a pax record has a NUL in its text");
    // Sparse maps of GNU's version 0.0 repeat two keys.
    if (key == "GNU.sparse.offset" || key == "GNU.sparse.numbytes") {
      std::string& map = out["GNU.sparse.map"];
      absl::StrAppend(&map, map.empty() ? "" : ",", value);
    } else {
      out[std::string(key)] = std::string(value);
    }
    bytes.remove_prefix(size);
  }
  return out;
}

absl::StatusOr<std::pair<int64_t, int64_t>> ParsePaxTime(absl::string_view text) {
  auto wrong = [&] { return Damaged(absl::StrCat("\"", text, "\" is no time")); };
  absl::string_view digits = text;
  const bool negative = absl::ConsumePrefix(&digits, "-");
  const size_t dot = digits.find('.');
  const absl::string_view whole = digits.substr(0, dot);
  int64_t seconds = 0, nanos = 0;
  if (whole.empty() || whole[0] < '0' || whole[0] > '9' || !absl::SimpleAtoi(whole, &seconds))
    return wrong();
  if (dot != absl::string_view::npos) {
    int64_t unit = 100000000;
    for (const char c : digits.substr(dot + 1)) {
      if (c < '0' || c > '9') return wrong();
      nanos += (c - '0') * unit;  // digits beyond the ninth are cut
      unit /= 10;
    }
  }
  if (!negative) return std::make_pair(seconds, nanos);
  if (nanos == 0) return std::make_pair(-seconds, int64_t{0});
  return std::make_pair(-seconds - 1, 1000000000 - nanos);
}

}  // namespace kiln::store
