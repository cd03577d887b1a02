#include "store/layer/estargz.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "store/base/status_macros.h"
#include "store/layer/block_codec.h"
#include "store/layer/block_compressor.h"
#include "store/layer/tar_reader.h"
#include "store/layer/tar_writer.h"
#include "store/tree.h"

namespace kiln::store {
namespace {

constexpr char kTocName[] = "stargz.index.json";
constexpr int64_t kChunkBytes = 4 << 20;

// One line of the table, and the member in which its bytes begin.
struct TocEntry {
  nlohmann::ordered_json json;
  std::optional<size_t> member;
};

const char* TypeName(TarType type) {
  switch (type) {
    case TarType::kFile:
      return "reg";
    case TarType::kHardlink:
      return "hardlink";
    case TarType::kSymlink:
      return "symlink";
    case TarType::kCharDevice:
      return "char";
    case TarType::kBlockDevice:
      return "block";
    case TarType::kDirectory:
      return "dir";
    case TarType::kFifo:
      return "fifo";
  }
  return "";
}

// What is empty or 0 is left out, as the readers expect.
template <typename T>
void Put(nlohmann::ordered_json* json, const char* key, const T& value) {
  if (value != T()) (*json)[key] = value;
}

nlohmann::ordered_json JsonOf(const TarEntry& entry) {
  nlohmann::ordered_json json;
  json["name"] = entry.name;
  json["type"] = TypeName(entry.type);
  Put(&json, "size", entry.size);
  json["modtime"] = absl::FormatTime("%Y-%m-%dT%H:%M:%E*SZ", absl::TimeFromTimespec(entry.mtime),
                                     absl::UTCTimeZone());
  Put(&json, "linkName", entry.link);
  Put(&json, "mode", entry.mode);
  Put(&json, "uid", entry.uid);
  Put(&json, "gid", entry.gid);
  Put(&json, "devMajor", major(entry.device));
  Put(&json, "devMinor", minor(entry.device));
  for (const auto& [name, value] : entry.xattrs) json["xattrs"][name] = absl::Base64Escape(value);
  return json;
}

// An empty gzip member whose extra field says where the table begins.
std::string Footer(int64_t toc_offset) {
  std::string out("\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\0SG\x16\0", 16);
  absl::StrAppend(&out, absl::StrFormat("%016xSTARGZ", toc_offset));
  out.append("\x01\0\0\xff\xff\0\0\0\0\0\0\0\0", 13);
  return out;
}

}  // namespace

absl::StatusOr<EstargzResult> WriteEstargz(ByteStream& tar, std::optional<int> level,
                                           CompressionBudget* budget, const ByteSink& out) {
  EstargzResult result;
  Sha256 plain;
  std::vector<int64_t> offsets;  // of the members
  int64_t written = 0;
  KILN_ASSIGN_OR_RETURN(std::unique_ptr<BlockCodec> codec, NewGzipMemberCodec(level));
  BlockCompressor members(budget, std::move(codec), [&](absl::string_view bytes) {
    offsets.push_back(written);
    written += static_cast<int64_t>(bytes.size());
    return out(bytes);
  });
  const ByteSink append = [&](absl::string_view bytes) {
    plain.Update(bytes);
    result.plain_bytes += static_cast<int64_t>(bytes.size());
    return members.Append(bytes);
  };

  std::vector<TocEntry> toc;
  TarReader reader(&tar);
  reader.SetTap(append);
  TarEntry entry;
  for (;;) {
    KILN_ASSIGN_OR_RETURN(const bool more, reader.Next(&entry));
    if (!more) break;
    if (CleanPath(entry.name) == absl::StrCat("/", kTocName))
      return absl::InvalidArgumentError(
          absl::StrCat("a layer with the file ", kTocName, " cannot be stored as estargz"));
    if (entry.sparse)
      return absl::UnimplementedError(
          absl::StrCat(entry.name, ": sparse files cannot be stored as estargz"));
    TocEntry line{JsonOf(entry), std::nullopt};
    const size_t first = toc.size();
    Sha256 whole;
    for (int64_t at = 0; at < entry.size; at += kChunkBytes) {
      const int64_t size = std::min(kChunkBytes, entry.size - at);
      KILN_RETURN_IF_ERROR(members.Cut());
      line.member = members.blocks();
      Put(&line.json, "chunkOffset", at);
      // The last piece of a file says nothing of its size.
      if (at + size < entry.size) line.json["chunkSize"] = size;
      Sha256 chunk;
      for (int64_t left = size; left > 0;) {
        KILN_ASSIGN_OR_RETURN(const absl::string_view bytes, reader.Data(left));
        chunk.Update(bytes);
        whole.Update(bytes);
        left -= static_cast<int64_t>(bytes.size());
      }
      line.json["chunkDigest"] = chunk.Finish().ToString();
      toc.push_back(std::exchange(line, TocEntry{{{"name", entry.name}, {"type", "chunk"}}, {}}));
    }
    if (entry.type == TarType::kFile && entry.size > 0) {
      toc[first].json["digest"] = whole.Finish().ToString();
    } else {
      if (entry.type == TarType::kFile) line.json["digest"] = Digest::Of("").ToString();
      toc.push_back(std::move(line));
    }
  }
  KILN_RETURN_IF_ERROR(reader.Drain());
  KILN_RETURN_IF_ERROR(members.Flush());

  nlohmann::ordered_json table;
  table["version"] = 1;
  table["entries"] = nlohmann::ordered_json::array();
  for (TocEntry& line : toc) {
    if (line.member.has_value() && offsets[*line.member] != 0)
      line.json["offset"] = offsets[*line.member];
    table["entries"].push_back(std::move(line.json));
  }
  // Names that are no UTF-8 cannot be told in JSON.
  const std::string json =
      table.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  result.toc_digest = Digest::Of(json);
  TarEntry file;
  file.name = kTocName;
  file.size = static_cast<int64_t>(json.size());
  const int64_t toc_offset = written;
  KILN_RETURN_IF_ERROR(append(EncodeTarHeader(file)));
  KILN_RETURN_IF_ERROR(append(json));
  KILN_RETURN_IF_ERROR(append(TarPadding(file.size)));
  KILN_RETURN_IF_ERROR(append(TarEnd()));
  KILN_RETURN_IF_ERROR(members.Flush());
  KILN_RETURN_IF_ERROR(out(Footer(toc_offset)));
  result.diff_id = plain.Finish();
  return result;
}

}  // namespace kiln::store
