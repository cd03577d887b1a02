#include "store/layer/tar_reader.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "store/base/status_macros.h"

namespace kiln::store {

std::string ShownName(absl::string_view name) {
  constexpr size_t kMaxShown = 256;
  return absl::StrCat("\"", absl::CHexEscape(std::string(name.substr(0, kMaxShown))), "\"",
                      name.size() > kMaxShown ? "…" : "");
}

namespace {

constexpr int64_t kNanos = 1000000000;
constexpr char kXattrKey[] = "SCHILY.xattr.";
constexpr size_t kMaxExtents = 1 << 20;

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("the tar archive is damaged: ", what));
}

absl::Status CutShort() { return Damaged("it ends within an entry"); }

int64_t PaddingOf(int64_t size) {
  constexpr auto kBlock = static_cast<int64_t>(kTarBlock);
  return (kBlock - size % kBlock) % kBlock;
}

// Times before 1970 or beyond what 64 bits of nanoseconds hold are moved to the nearest end.
struct timespec Clamp(int64_t seconds, int64_t nanos) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  if (seconds < 0) return {0, 0};
  if (seconds > kMax / kNanos || (seconds == kMax / kNanos && nanos > kMax % kNanos))
    return {kMax / kNanos, kMax % kNanos};
  return {seconds, nanos};
}

bool Before(const struct timespec& a, const struct timespec& b) {
  return a.tv_sec != b.tv_sec ? a.tv_sec < b.tv_sec : a.tv_nsec < b.tv_nsec;
}

absl::StatusOr<int64_t> ParseDecimal(absl::string_view text, absl::string_view key) {
  int64_t value = 0;
  if (text.empty() || !(text[0] == '-' || (text[0] >= '0' && text[0] <= '9')) ||
      !absl::SimpleAtoi(text, &value))
    return Damaged(absl::StrCat("pax record ", key, " is \"", text, "\""));
  return value;
}

absl::StatusOr<uint32_t> OwnerId(int64_t value, const char* what) {
  if (value < 0 || value > std::numeric_limits<uint32_t>::max())
    return Damaged(absl::StrCat(what, " ", value, " is out of range"));
  return static_cast<uint32_t>(value);
}

}  // namespace

absl::StatusOr<absl::string_view> TarReader::Take(size_t limit) {
  if (piece_.empty()) {
    KILN_ASSIGN_OR_RETURN(piece_, in_->Next());
  }
  const absl::string_view out = piece_.substr(0, limit);
  piece_.remove_prefix(out.size());
  position_ += static_cast<int64_t>(out.size());
  if (tap_ && !out.empty()) KILN_RETURN_IF_ERROR(tap_(out));
  return out;
}

// False: the stream ended before the block.
absl::StatusOr<bool> TarReader::ReadBlock(char* block) {
  for (size_t have = 0; have < kTarBlock;) {
    KILN_ASSIGN_OR_RETURN(const absl::string_view part, Take(kTarBlock - have));
    if (part.empty()) {
      if (have == 0) return false;
      return CutShort();
    }
    std::memcpy(block + have, part.data(), part.size());
    have += part.size();
  }
  return true;
}

absl::StatusOr<absl::string_view> TarReader::Data(int64_t limit) {
  if (left_ == 0) return absl::string_view();
  KILN_ASSIGN_OR_RETURN(const absl::string_view part,
                        Take(static_cast<size_t>(std::min(left_, limit))));
  if (part.empty()) return CutShort();
  left_ -= static_cast<int64_t>(part.size());
  return part;
}

absl::Status TarReader::SkipEntry() {
  while (left_ > 0) KILN_RETURN_IF_ERROR(Data().status());
  while (padding_ > 0) {
    KILN_ASSIGN_OR_RETURN(const absl::string_view part, Take(static_cast<size_t>(padding_)));
    if (part.empty()) return CutShort();
    padding_ -= static_cast<int64_t>(part.size());
  }
  return absl::OkStatus();
}

absl::Status TarReader::Drain() {
  KILN_RETURN_IF_ERROR(SkipEntry());
  for (;;) {
    KILN_ASSIGN_OR_RETURN(const absl::string_view part, Take(absl::string_view::npos));
    if (part.empty()) return absl::OkStatus();
  }
}

// The whole body of a pax header or of a GNU long name.
absl::StatusOr<std::string> TarReader::ReadRecord(int64_t size, const char* what) {
  if (size < 0 || static_cast<uint64_t>(size) > kMaxTarRecordBytes)
    return absl::InvalidArgumentError(absl::StrCat("tar archive: a ", what, " has ", size,
                                                   " bytes, the limit is ",
                                                   static_cast<int64_t>(kMaxTarRecordBytes)));
  left_ = size;
  padding_ = PaddingOf(size);
  std::string out;
  while (left_ > 0) {
    KILN_ASSIGN_OR_RETURN(const absl::string_view part, Data());
    out.append(part.data(), part.size());
  }
  KILN_RETURN_IF_ERROR(SkipEntry());
  return out;
}

absl::StatusOr<bool> TarReader::Next(TarEntry* entry) {
  KILN_RETURN_IF_ERROR(SkipEntry());
  PaxRecords pax;
  std::string long_name, long_link;
  bool has_name = false, has_link = false, extended = false;
  char block[kTarBlock];
  for (;;) {
    KILN_ASSIGN_OR_RETURN(const bool more, ReadBlock(block));
    const absl::string_view bytes(block, kTarBlock);
    if (!more) {
      if (extended) return CutShort();
      return false;
    }
    if (IsZeroBlock(bytes)) {
      KILN_ASSIGN_OR_RETURN(const bool second, ReadBlock(block));
      if (second && !IsZeroBlock(bytes)) return Damaged("a header follows a block of zeros");
      return false;
    }
    KILN_ASSIGN_OR_RETURN(TarHeaderFields fields, ParseTarHeader(bytes));
    switch (fields.typeflag) {
      case 'x': {
        KILN_ASSIGN_OR_RETURN(const std::string body, ReadRecord(fields.size, "pax header"));
        KILN_ASSIGN_OR_RETURN(pax, ParsePaxRecords(body));
        extended = true;
        continue;
      }
      case 'g':
        KILN_RETURN_IF_ERROR(ReadRecord(fields.size, "global pax header").status());
        continue;
      case 'L':
      case 'K': {
        KILN_ASSIGN_OR_RETURN(std::string text, ReadRecord(fields.size, "GNU long name"));
        text = text.substr(0, text.find('\0'));
        (fields.typeflag == 'L' ? long_name : long_link) = std::move(text);
        (fields.typeflag == 'L' ? has_name : has_link) = extended = true;
        continue;
      }
      default:
        break;
    }
    if (has_name) fields.name = std::move(long_name);
    if (has_link) fields.link = std::move(long_link);
    *entry = TarEntry();
    KILN_RETURN_IF_ERROR(
        Annotate(Fill(fields, pax, entry), absl::StrCat("entry ", ShownName(fields.name))));
    if (fields.typeflag == 'S')
      KILN_RETURN_IF_ERROR(Annotate(ReadOldSparseMap(bytes, entry), entry->name));
    if (entry->type == TarType::kFile && !entry->sparse)
      KILN_RETURN_IF_ERROR(Annotate(ReadPaxSparse(pax, entry), entry->name));
    return true;
  }
}

absl::Status TarReader::Fill(const TarHeaderFields& fields, const PaxRecords& pax,
                             TarEntry* entry) {
  std::string name = fields.name, link = fields.link;
  int64_t uid = fields.uid, gid = fields.gid, size = fields.size;
  entry->mtime = Clamp(fields.mtime, 0);
  bool has_atime = false;
  for (const auto& [key, value] : pax) {
    if (absl::StartsWith(key, kXattrKey)) {
      const std::string xattr = key.substr(sizeof kXattrKey - 1);
      if (xattr.empty() || xattr.find('\0') != xattr.npos)
        return Damaged("a pax record names no extended attribute");
      entry->xattrs[xattr] = value;
      continue;
    }
    if (value.empty()) continue;  // POSIX: the header's own field counts
    if (key == "path") {
      name = value;
    } else if (key == "linkpath") {
      link = value;
    } else if (key == "uid") {
      KILN_ASSIGN_OR_RETURN(uid, ParseDecimal(value, key));
    } else if (key == "gid") {
      KILN_ASSIGN_OR_RETURN(gid, ParseDecimal(value, key));
    } else if (key == "size") {
      KILN_ASSIGN_OR_RETURN(size, ParseDecimal(value, key));
    } else if (key == "mtime" || key == "atime") {
      KILN_ASSIGN_OR_RETURN(const auto time, ParsePaxTime(value));
      (key == "mtime" ? entry->mtime : entry->atime) = Clamp(time.first, time.second);
      has_atime |= key == "atime";
    }
  }
  if (!has_atime || Before(entry->atime, entry->mtime)) entry->atime = entry->mtime;
  if (name.empty()) return Damaged("an entry has no name");
  if (size < 0) return Damaged("a size is negative");
  entry->name = std::move(name);
  entry->mode = static_cast<uint32_t>(fields.mode) & 07777;
  KILN_ASSIGN_OR_RETURN(entry->uid, OwnerId(uid, "uid"));
  KILN_ASSIGN_OR_RETURN(entry->gid, OwnerId(gid, "gid"));

  left_ = padding_ = 0;
  switch (fields.typeflag) {
    case '\0':
      // Archives older than POSIX mark directories by their name only.
      entry->type = absl::EndsWith(entry->name, "/") ? TarType::kDirectory : TarType::kFile;
      break;
    case '0':
    case 'S':
      entry->type = TarType::kFile;
      break;
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
      entry->type = static_cast<TarType>(fields.typeflag);
      break;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("unknown type ", static_cast<int>(static_cast<uint8_t>(fields.typeflag))));
  }
  switch (entry->type) {
    case TarType::kFile:
      entry->size = entry->stored_size = left_ = size;
      padding_ = PaddingOf(size);
      break;
    case TarType::kHardlink:
    case TarType::kSymlink:
      if (link.empty()) return Damaged("a link has no target");
      entry->link = std::move(link);
      break;
    case TarType::kCharDevice:
    case TarType::kBlockDevice:
      if (fields.devmajor < 0 || fields.devminor < 0 || fields.devmajor > 0xfff ||
          fields.devminor > 0xfffff)
        return Damaged("a device number is out of range");
      entry->device =
          makedev(static_cast<unsigned>(fields.devmajor), static_cast<unsigned>(fields.devminor));
      break;
    default:
      break;
  }
  return absl::OkStatus();
}

absl::Status TarReader::CheckExtents(TarEntry* entry) const {
  int64_t end = 0, sum = 0;
  for (const TarEntry::Extent& extent : entry->extents) {
    if (extent.offset < end || extent.size < 0 || extent.size > entry->size - extent.offset)
      return Damaged("a sparse map is ill-formed");
    end = extent.offset + extent.size;
    sum += extent.size;
  }
  if (sum != left_) return Damaged("a sparse file has not the bytes of its map");
  entry->stored_size = sum;
  return absl::OkStatus();
}

// GNU's old form (tar.h, struct oldgnu_header and sparse_header): four pieces in the header, 21 in
// each block that follows while a flag says so.
absl::Status TarReader::ReadOldSparseMap(absl::string_view header, TarEntry* entry) {
  const int64_t stored = left_, padding = padding_;
  constexpr size_t kPiece = 24;
  KILN_ASSIGN_OR_RETURN(entry->size, ParseTarNumber(header.substr(483, 12)));
  if (entry->size < 0) return Damaged("a size is negative");
  bool more = header[482] != 0;
  auto add = [&](absl::string_view fields) -> absl::StatusOr<bool> {
    if (fields[0] == '\0') return false;
    TarEntry::Extent extent;
    KILN_ASSIGN_OR_RETURN(extent.offset, ParseTarNumber(fields.substr(0, 12)));
    KILN_ASSIGN_OR_RETURN(extent.size, ParseTarNumber(fields.substr(12, 12)));
    if (entry->extents.size() == kMaxExtents) return Damaged("a sparse map is too long");
    entry->extents.push_back(extent);
    return true;
  };
  for (size_t i = 0; i < 4; ++i) {
    KILN_ASSIGN_OR_RETURN(const bool set, add(header.substr(386 + i * kPiece, kPiece)));
    if (!set) break;
  }
  char block[kTarBlock];
  while (more) {
    KILN_ASSIGN_OR_RETURN(const bool there, ReadBlock(block));
    if (!there) return CutShort();
    const absl::string_view fields(block, kTarBlock);
    more = fields[504] != 0;
    for (size_t i = 0; i < 21; ++i) {
      KILN_ASSIGN_OR_RETURN(const bool set, add(fields.substr(i * kPiece, kPiece)));
      if (!set) break;
    }
  }
  left_ = stored;
  padding_ = padding;
  entry->sparse = true;
  return CheckExtents(entry);
}

// GNU's forms in pax records: 0.0 and 0.1 with the map in a record, 1.0 with it before the data.
absl::Status TarReader::ReadPaxSparse(const PaxRecords& pax, TarEntry* entry) {
  auto find = [&](const char* key) -> const std::string* {
    auto it = pax.find(key);
    return it == pax.end() ? nullptr : &it->second;
  };
  const std::string* map = find("GNU.sparse.map");
  const std::string* major = find("GNU.sparse.major");
  const std::string* minor = find("GNU.sparse.minor");
  const bool version_1 = major != nullptr && minor != nullptr && *major == "1" && *minor == "0";
  if (!version_1 && map == nullptr) return absl::OkStatus();
  if (const std::string* name = find("GNU.sparse.name"); name != nullptr && !name->empty())
    entry->name = *name;
  const std::string* size = find("GNU.sparse.size");
  if (const std::string* real = find("GNU.sparse.realsize"); real != nullptr) size = real;
  if (size == nullptr) return Damaged("a sparse file has no size");
  KILN_ASSIGN_OR_RETURN(entry->size, ParseDecimal(*size, "GNU.sparse.size"));
  if (entry->size < 0) return Damaged("a size is negative");
  entry->sparse = true;
  if (version_1) return ReadSparseMapInData(entry);
  const std::vector<absl::string_view> numbers = absl::StrSplit(*map, ',', absl::SkipEmpty());
  if (numbers.size() % 2 != 0 || numbers.size() / 2 > kMaxExtents)
    return Damaged("a sparse map is ill-formed");
  for (size_t i = 0; i < numbers.size(); i += 2) {
    TarEntry::Extent extent;
    KILN_ASSIGN_OR_RETURN(extent.offset, ParseDecimal(numbers[i], "GNU.sparse.map"));
    KILN_ASSIGN_OR_RETURN(extent.size, ParseDecimal(numbers[i + 1], "GNU.sparse.map"));
    entry->extents.push_back(extent);
  }
  return CheckExtents(entry);
}

// Decimal numbers, each with a newline: how many pieces, then offset and size of each; padded to a
// block.
absl::Status TarReader::ReadSparseMapInData(TarEntry* entry) {
  std::string number;
  size_t used = 0, wanted = 1;
  std::vector<int64_t> numbers;
  while (numbers.size() < wanted) {
    if (left_ == 0) return Damaged("a sparse map is cut short");
    KILN_ASSIGN_OR_RETURN(const absl::string_view part, Take(1));
    if (part.empty()) return CutShort();
    --left_;
    ++used;
    if (part[0] != '\n') {
      number.push_back(part[0]);
      if (number.size() > 20) return Damaged("a sparse map is ill-formed");
      continue;
    }
    KILN_ASSIGN_OR_RETURN(const int64_t value, ParseDecimal(number, "sparse map"));
    number.clear();
    numbers.push_back(value);
    if (numbers.size() == 1) {
      if (value < 0 || static_cast<uint64_t>(value) > kMaxExtents)
        return Damaged("a sparse map is too long");
      wanted += 2 * static_cast<size_t>(value);
    }
  }
  int64_t padding = PaddingOf(static_cast<int64_t>(used));
  if (padding > left_) return Damaged("a sparse map is cut short");
  while (padding > 0) {
    KILN_ASSIGN_OR_RETURN(const absl::string_view part, Take(static_cast<size_t>(padding)));
    if (part.empty()) return CutShort();
    padding -= static_cast<int64_t>(part.size());
    left_ -= static_cast<int64_t>(part.size());
  }
  for (size_t i = 1; i < numbers.size(); i += 2)
    entry->extents.push_back({numbers[i], numbers[i + 1]});
  return CheckExtents(entry);
}

}  // namespace kiln::store
