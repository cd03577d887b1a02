#include "store/layer/tar_clamp.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"
#include "store/layer/tar_header.h"
#include "store/layer/tar_writer.h"

namespace kiln::store {
namespace {

absl::Status CutShort() {
  return absl::DataLossError("the tar archive is damaged: it ends within an entry");
}

// Octal digits and a NUL, as in every field of this width.
void PutOctal(int64_t value, char* field, size_t width) {
  for (size_t i = width - 1; i-- > 0; value >>= 3) field[i] = static_cast<char>('0' + (value & 7));
  field[width - 1] = '\0';
}

void Seal(std::string* block) {
  char* const checksum = block->data() + offsetof(RawTarHeader, checksum);
  std::memset(checksum, ' ', 8);
  int64_t sum = 0;
  for (const char c : *block) sum += static_cast<uint8_t>(c);
  PutOctal(sum, checksum, 7);
  checksum[7] = ' ';
}

class Clamper {
 public:
  Clamper(ByteStream& tar, absl::Time latest, const CancelToken& cancel, const ByteSink& sink)
      : tar_(tar), latest_(absl::ToUnixSeconds(latest)), cancel_(cancel), sink_(sink) {}

  absl::Status Run() {
    int64_t pax_size = -1;  // of the entry that follows; -1: not told
    for (;;) {
      KILN_RETURN_IF_ERROR(cancel_.status());
      std::string block;
      KILN_ASSIGN_OR_RETURN(const bool more, Read(kTarBlock, &block));
      if (!more) return absl::OkStatus();
      if (IsZeroBlock(block)) {
        KILN_RETURN_IF_ERROR(sink_(block));
        return CopyRest();
      }
      KILN_ASSIGN_OR_RETURN(const TarHeaderFields fields, ParseTarHeader(block));
      ClampHeader(&block);
      if (fields.typeflag == 'x' || fields.typeflag == 'g') {
        KILN_RETURN_IF_ERROR(
            CopyPax(std::move(block), fields.size, fields.typeflag == 'x' ? &pax_size : nullptr));
        continue;
      }
      KILN_RETURN_IF_ERROR(sink_(block));
      bool extended = fields.typeflag == 'S' && block[482] != 0;
      while (extended) {
        std::string map;
        KILN_ASSIGN_OR_RETURN(const bool there, Read(kTarBlock, &map));
        if (!there) return CutShort();
        extended = map[504] != 0;
        KILN_RETURN_IF_ERROR(sink_(map));
      }
      const bool long_name = fields.typeflag == 'L' || fields.typeflag == 'K';
      const bool header_only = fields.typeflag >= '1' && fields.typeflag <= '6';
      int64_t size = header_only ? 0 : fields.size;
      if (!header_only && !long_name && pax_size >= 0) size = pax_size;
      if (!long_name) pax_size = -1;
      if (size < 0 || size > std::numeric_limits<int64_t>::max() - 512)
        return absl::DataLossError("the tar archive is damaged: a size is out of range");
      KILN_RETURN_IF_ERROR(Copy(size + static_cast<int64_t>(TarPadding(size).size())));
    }
  }

 private:
  absl::StatusOr<absl::string_view> Take(int64_t limit) {
    if (piece_.empty()) {
      KILN_ASSIGN_OR_RETURN(piece_, tar_.Next());
    }
    const absl::string_view out =
        piece_.substr(0, static_cast<size_t>(std::min<int64_t>(limit, INT32_MAX)));
    piece_.remove_prefix(out.size());
    return out;
  }

  // False: the stream ended before.
  absl::StatusOr<bool> Read(int64_t size, std::string* out) {
    while (static_cast<int64_t>(out->size()) < size) {
      KILN_ASSIGN_OR_RETURN(const absl::string_view part,
                            Take(size - static_cast<int64_t>(out->size())));
      if (part.empty() && out->empty()) return false;
      if (part.empty()) return CutShort();
      out->append(part.data(), part.size());
    }
    return true;
  }

  absl::Status Copy(int64_t size) {
    while (size > 0) {
      KILN_RETURN_IF_ERROR(cancel_.status());
      KILN_ASSIGN_OR_RETURN(const absl::string_view part, Take(size));
      if (part.empty()) return CutShort();
      size -= static_cast<int64_t>(part.size());
      KILN_RETURN_IF_ERROR(sink_(part));
    }
    return absl::OkStatus();
  }

  absl::Status CopyRest() {
    for (;;) {
      KILN_ASSIGN_OR_RETURN(const absl::string_view part, Take(INT32_MAX));
      if (part.empty()) return absl::OkStatus();
      KILN_RETURN_IF_ERROR(sink_(part));
    }
  }

  void ClampHeader(std::string* block) const {
    bool changed = false;
    auto clamp = [&](size_t at) {
      const absl::StatusOr<int64_t> time =
          ParseTarNumber(absl::string_view(*block).substr(at, sizeof(RawTarHeader::mtime)));
      if (!time.ok() || *time <= latest_) return;
      PutOctal(latest_, block->data() + at, sizeof(RawTarHeader::mtime));
      changed = true;
    };
    clamp(offsetof(RawTarHeader, mtime));
    if (std::memcmp(block->data() + offsetof(RawTarHeader, magic), "ustar  \0", 8) == 0) {
      // GNU keeps access and change time where ustar has the prefix.
      clamp(345);
      clamp(357);
    }
    if (changed) Seal(block);
  }

  // Records are taken over as they are, except for late times. `size` gets the entry's.
  absl::Status CopyPax(std::string header, int64_t body_size, int64_t* size) {
    if (body_size < 0 || static_cast<uint64_t>(body_size) > kMaxTarRecordBytes)
      return absl::InvalidArgumentError(
          absl::StrCat("tar archive: a pax header has ", body_size, " bytes"));
    std::string body;
    if (body_size > 0) {
      KILN_ASSIGN_OR_RETURN(const bool there, Read(body_size, &body));
      if (!there) return CutShort();
    }
    std::string padding;
    if (const size_t rest = TarPadding(body_size).size(); rest > 0) {
      KILN_ASSIGN_OR_RETURN(const bool there, Read(static_cast<int64_t>(rest), &padding));
      if (!there) return CutShort();
    }
    KILN_ASSIGN_OR_RETURN(const PaxRecords records, ParsePaxRecords(body));
    bool late = false;
    std::string rewritten;
    for (absl::string_view rest = body; !rest.empty();) {
      size_t length = 0;
      const size_t space = rest.find(' ');
      if (!absl::SimpleAtoi(rest.substr(0, space), &length)) return CutShort();  // parsed above
      const absl::string_view record = rest.substr(0, length);
      const absl::string_view text = record.substr(space + 1, length - space - 2);
      const absl::string_view key = text.substr(0, text.find('='));
      const absl::string_view value = text.substr(key.size() + 1);
      rest.remove_prefix(length);
      if (size != nullptr && key == "size" && !absl::SimpleAtoi(value, size))
        return absl::DataLossError("the tar archive is damaged: pax record size");
      if ((key == "mtime" || key == "atime" || key == "ctime") && !value.empty()) {
        KILN_ASSIGN_OR_RETURN(const auto time, ParsePaxTime(value));
        if (time.first > latest_ || (time.first == latest_ && time.second > 0)) {
          late = true;
          rewritten += EncodePaxRecord(key, absl::StrCat(latest_));
          continue;
        }
      }
      absl::StrAppend(&rewritten, record);
    }
    if (!late) {
      KILN_RETURN_IF_ERROR(sink_(header));
      KILN_RETURN_IF_ERROR(sink_(body));
      return padding.empty() ? absl::OkStatus() : sink_(padding);
    }
    const auto new_size = static_cast<int64_t>(rewritten.size());
    PutOctal(new_size, header.data() + offsetof(RawTarHeader, size), sizeof(RawTarHeader::size));
    Seal(&header);
    KILN_RETURN_IF_ERROR(sink_(header));
    KILN_RETURN_IF_ERROR(sink_(rewritten));
    return sink_(TarPadding(new_size));
  }

  ByteStream& tar_;
  const int64_t latest_;
  const CancelToken& cancel_;
  const ByteSink& sink_;
  absl::string_view piece_;
};

}  // namespace

absl::Status ClampTarTimes(ByteStream& tar, absl::Time latest, const CancelToken& cancel,
                           const ByteSink& sink) {
  if (latest < absl::UnixEpoch())
    return absl::InvalidArgumentError("times cannot be set to before 1970");
  return Clamper(tar, latest, cancel, sink).Run();
}

}  // namespace kiln::store
