#include "store/fsutil/packet_codec.h"

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::fsutil {
namespace {

// Field numbers (wire.md A.4).
enum PacketField { kType = 1, kStat = 2, kId = 3, kData = 4 };
enum StatField {
  kPath = 1,
  kMode = 2,
  kUid = 3,
  kGid = 4,
  kSize = 5,
  kModTime = 6,
  kLinkname = 7,
  kDevmajor = 8,
  kDevminor = 9,
  kXattrs = 10,
};
enum WireType { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

size_t VarintSize(uint64_t value) {
  size_t n = 1;
  while (value >= 0x80) {
    value >>= 7;
    ++n;
  }
  return n;
}

void AppendVarint(uint64_t value, std::string* out) {
  while (value >= 0x80) {
    out->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out->push_back(static_cast<char>(value));
}

// All field numbers here are below 16: a tag is one byte. Zero values are left out (proto3).
void AppendUint(int field, uint64_t value, std::string* out) {
  if (value == 0) return;
  out->push_back(static_cast<char>(field << 3 | kVarint));
  AppendVarint(value, out);
}

void AppendBytesAlways(int field, absl::string_view value, std::string* out) {
  out->push_back(static_cast<char>(field << 3 | kBytes));
  AppendVarint(value.size(), out);
  out->append(value.data(), value.size());
}

void AppendBytes(int field, absl::string_view value, std::string* out) {
  if (!value.empty()) AppendBytesAlways(field, value, out);
}

size_t UintSize(uint64_t value) { return value == 0 ? 0 : 1 + VarintSize(value); }
size_t BytesSizeAlways(size_t n) { return 1 + VarintSize(n) + n; }
size_t BytesSize(size_t n) { return n == 0 ? 0 : BytesSizeAlways(n); }

size_t XattrSize(const std::string& name, const std::string& value) {
  return BytesSizeAlways(name.size()) + BytesSizeAlways(value.size());
}

absl::Status Malformed(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("malformed packet: ", what));
}

// Takes a message apart, field by field.
class Reader {
 public:
  explicit Reader(absl::string_view bytes) : rest_(bytes) {}

  bool done() const { return rest_.empty(); }

  absl::Status Tag(int* field, int* wire_type) {
    uint64_t tag = 0;
    KILN_RETURN_IF_ERROR(Varint(&tag));
    if (tag >> 3 == 0 || tag >> 32 != 0) return Malformed("bad field number");
    *field = static_cast<int>(tag >> 3);
    *wire_type = static_cast<int>(tag & 7);
    return absl::OkStatus();
  }

  absl::Status Varint(uint64_t* value) {
    uint64_t result = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      if (rest_.empty()) return Malformed("truncated number");
      const auto byte = static_cast<uint8_t>(rest_.front());
      rest_.remove_prefix(1);
      result |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) {
        *value = result;
        return absl::OkStatus();
      }
    }
    return Malformed("number too long");
  }

  absl::Status Bytes(absl::string_view* value) {
    uint64_t size = 0;
    KILN_RETURN_IF_ERROR(Varint(&size));
    if (size > rest_.size()) return Malformed("truncated field");
    *value = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return absl::OkStatus();
  }

  absl::Status Skip(int wire_type) {
    uint64_t number = 0;
    absl::string_view bytes;
    switch (wire_type) {
      case kVarint:
        return Varint(&number);
      case kBytes:
        return Bytes(&bytes);
      case kFixed64:
      case kFixed32: {
        const size_t size = wire_type == kFixed64 ? 8 : 4;
        if (rest_.size() < size) return Malformed("truncated field");
        rest_.remove_prefix(size);
        return absl::OkStatus();
      }
      default:
        return Malformed("bad wire type");
    }
  }

 private:
  absl::string_view rest_;
};

absl::Status ParseXattr(absl::string_view bytes, Stat* stat) {
  Reader reader(bytes);
  absl::string_view name, value;
  while (!reader.done()) {
    int field = 0, type = 0;
    KILN_RETURN_IF_ERROR(reader.Tag(&field, &type));
    if (field == 1 && type == kBytes) {
      KILN_RETURN_IF_ERROR(reader.Bytes(&name));
    } else if (field == 2 && type == kBytes) {
      KILN_RETURN_IF_ERROR(reader.Bytes(&value));
    } else {
      KILN_RETURN_IF_ERROR(reader.Skip(type));
    }
  }
  stat->xattrs[std::string(name)] = std::string(value);
  return absl::OkStatus();
}

absl::Status ParseStatBytesField(Reader& reader, int field, Stat* stat) {
  absl::string_view value;
  KILN_RETURN_IF_ERROR(reader.Bytes(&value));
  if (field == kPath) stat->path.assign(value.data(), value.size());
  if (field == kLinkname) stat->linkname.assign(value.data(), value.size());
  if (field == kXattrs) return ParseXattr(value, stat);
  return absl::OkStatus();
}

absl::Status ParseStatNumber(Reader& reader, int field, Stat* stat) {
  uint64_t value = 0;
  KILN_RETURN_IF_ERROR(reader.Varint(&value));
  switch (field) {
    case kMode:
      stat->mode = static_cast<uint32_t>(value);
      break;
    case kUid:
      stat->uid = static_cast<uint32_t>(value);
      break;
    case kGid:
      stat->gid = static_cast<uint32_t>(value);
      break;
    case kSize:
      stat->size = static_cast<int64_t>(value);
      break;
    case kModTime:
      stat->mod_time_ns = static_cast<int64_t>(value);
      break;
    case kDevmajor:
      stat->devmajor = static_cast<int64_t>(value);
      break;
    case kDevminor:
      stat->devminor = static_cast<int64_t>(value);
      break;
    default:
      break;
  }
  return absl::OkStatus();
}

// Adds to what `stat` holds: a message field that occurs twice is merged (protobuf encoding).
absl::Status MergeStat(absl::string_view bytes, Stat* stat) {
  Reader reader(bytes);
  while (!reader.done()) {
    int field = 0, type = 0;
    KILN_RETURN_IF_ERROR(reader.Tag(&field, &type));
    if (type == kBytes) {
      KILN_RETURN_IF_ERROR(ParseStatBytesField(reader, field, stat));
    } else if (type == kVarint) {
      KILN_RETURN_IF_ERROR(ParseStatNumber(reader, field, stat));
    } else {
      KILN_RETURN_IF_ERROR(reader.Skip(type));
    }
  }
  return absl::OkStatus();
}

void Clear(Packet* packet) {
  packet->type = Packet::Type::kStat;
  packet->has_stat = false;
  packet->stat = Stat();
  packet->id = 0;
  packet->data.clear();
}

}  // namespace

size_t EncodedSize(const Stat& stat) {
  size_t n = BytesSize(stat.path.size()) + UintSize(stat.mode) + UintSize(stat.uid) +
             UintSize(stat.gid) + UintSize(static_cast<uint64_t>(stat.size)) +
             UintSize(static_cast<uint64_t>(stat.mod_time_ns)) + BytesSize(stat.linkname.size()) +
             UintSize(static_cast<uint64_t>(stat.devmajor)) +
             UintSize(static_cast<uint64_t>(stat.devminor));
  for (const auto& [name, value] : stat.xattrs) n += BytesSizeAlways(XattrSize(name, value));
  return n;
}

size_t EncodedSize(const Packet& packet) {
  size_t n = UintSize(static_cast<uint64_t>(packet.type)) + UintSize(packet.id) +
             BytesSize(packet.data.size());
  if (packet.has_stat) n += BytesSizeAlways(EncodedSize(packet.stat));
  return n;
}

void AppendStat(const Stat& stat, std::string* out) {
  AppendBytes(kPath, stat.path, out);
  AppendUint(kMode, stat.mode, out);
  AppendUint(kUid, stat.uid, out);
  AppendUint(kGid, stat.gid, out);
  AppendUint(kSize, static_cast<uint64_t>(stat.size), out);
  AppendUint(kModTime, static_cast<uint64_t>(stat.mod_time_ns), out);
  AppendBytes(kLinkname, stat.linkname, out);
  AppendUint(kDevmajor, static_cast<uint64_t>(stat.devmajor), out);
  AppendUint(kDevminor, static_cast<uint64_t>(stat.devminor), out);
  for (const auto& [name, value] : stat.xattrs) {
    out->push_back(static_cast<char>(kXattrs << 3 | kBytes));
    AppendVarint(XattrSize(name, value), out);
    AppendBytesAlways(1, name, out);
    AppendBytesAlways(2, value, out);
  }
}

void AppendPacket(const Packet& packet, std::string* out) {
  AppendUint(kType, static_cast<uint64_t>(packet.type), out);
  if (packet.has_stat) {
    out->push_back(static_cast<char>(kStat << 3 | kBytes));
    AppendVarint(EncodedSize(packet.stat), out);
    AppendStat(packet.stat, out);
  }
  AppendUint(kId, packet.id, out);
  AppendBytes(kData, packet.data, out);
}

absl::Status ParseStat(absl::string_view bytes, Stat* stat) {
  *stat = Stat();
  return MergeStat(bytes, stat);
}

absl::Status ParsePacket(absl::string_view bytes, Packet* packet) {
  Clear(packet);
  Reader reader(bytes);
  while (!reader.done()) {
    int field = 0, wire_type = 0;
    KILN_RETURN_IF_ERROR(reader.Tag(&field, &wire_type));
    absl::string_view value;
    uint64_t number = 0;
    if (field == kStat && wire_type == kBytes) {
      KILN_RETURN_IF_ERROR(reader.Bytes(&value));
      packet->has_stat = true;
      KILN_RETURN_IF_ERROR(MergeStat(value, &packet->stat));
    } else if (field == kData && wire_type == kBytes) {
      KILN_RETURN_IF_ERROR(reader.Bytes(&value));
      packet->data.assign(value.data(), value.size());
    } else if (field == kType && wire_type == kVarint) {
      KILN_RETURN_IF_ERROR(reader.Varint(&number));
      if (number > static_cast<uint64_t>(Packet::Type::kErr))
        return Malformed(absl::StrCat("unknown type ", number));
      packet->type = static_cast<Packet::Type>(number);
    } else if (field == kId && wire_type == kVarint) {
      KILN_RETURN_IF_ERROR(reader.Varint(&number));
      packet->id = static_cast<uint32_t>(number);
    } else {
      KILN_RETURN_IF_ERROR(reader.Skip(wire_type));
    }
  }
  return absl::OkStatus();
}

}  // namespace kiln::fsutil
