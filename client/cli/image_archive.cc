#include "client/cli/image_archive.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

constexpr int64_t kBlock = 512;
constexpr int64_t kMaxJsonBytes = 16 << 20;
constexpr int64_t kTrailerBytes = 2 * kBlock;

// Fewer bytes only at the end of the file.
absl::StatusOr<std::string> ReadAt(int fd, int64_t offset, int64_t size) {
  std::string out(static_cast<size_t>(size), '\0');
  size_t have = 0;
  while (have < out.size()) {
    const ssize_t n =
        ::pread(fd, out.data() + have, out.size() - have, offset + static_cast<int64_t>(have));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "read the archive");
    if (n == 0) break;
    have += static_cast<size_t>(n);
  }
  out.resize(have);
  return out;
}

std::string Field(const std::string& header, size_t offset, size_t size) {
  return std::string(header.data() + offset, strnlen(header.data() + offset, size));
}

absl::Status NotPlain(absl::string_view what) {
  return absl::UnimplementedError(absl::StrCat("the archive has ", what));
}

}  // namespace

absl::StatusOr<std::string> ImageArchive::Content(int fd, const std::string& path) const {
  for (const Entry& entry : entries_) {
    if (entry.path != path) continue;
    if (entry.bytes > kMaxJsonBytes) return NotPlain(absl::StrCat("a large ", path));
    return ReadAt(fd, entry.begin + kBlock, entry.bytes);
  }
  return absl::NotFoundError(absl::StrCat("the archive has no ", path));
}

absl::StatusOr<ImageArchive> ImageArchive::Read(int fd) {
  ImageArchive archive;
  for (int64_t at = 0;;) {
    KILN_ASSIGN_OR_RETURN(const std::string header, ReadAt(fd, at, kTrailerBytes));
    if (static_cast<int64_t>(header.size()) < kTrailerBytes) return NotPlain("no end");
    if (header[0] == '\0') break;
    const char type = header[156];
    if (type != '0' && type != '5' && type != '\0') return NotPlain("extended headers");
    if (!Field(header, 345, 155).empty()) return NotPlain("long names");
    Entry entry;
    entry.path = Field(header, 0, 100);
    entry.begin = at;
    const std::string size = Field(header, 124, 12);
    for (const char digit : size) {
      if (digit == ' ') break;
      if (digit < '0' || digit > '7') return NotPlain("a file of unusual size");
      entry.bytes = entry.bytes * 8 + (digit - '0');
    }
    entry.size = kBlock + (entry.bytes + kBlock - 1) / kBlock * kBlock;
    at += entry.size;
    archive.end_ = at;
    archive.entries_.push_back(std::move(entry));
  }
  KILN_ASSIGN_OR_RETURN(const std::string text, archive.Content(fd, "manifest.json"));
  const nlohmann::json manifest = nlohmann::json::parse(text, nullptr, false);
  if (!manifest.is_array() || manifest.size() != 1 || !manifest[0].is_object())
    return NotPlain("not just one image");
  // Members of other types than wanted make nlohmann throw.
  try {
    KILN_ASSIGN_OR_RETURN(const std::string config_text,
                          archive.Content(fd, manifest[0].value("Config", "")));
    archive.layers_ = manifest[0].value("Layers", std::vector<std::string>());
    const nlohmann::json config = nlohmann::json::parse(config_text);
    for (const std::string& id :
         config.at("rootfs").value("diff_ids", std::vector<std::string>())) {
      KILN_ASSIGN_OR_RETURN(const Digest diff_id, Digest::Parse(id));
      archive.diff_ids_.push_back(diff_id);
    }
  } catch (const nlohmann::json::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat("the archive's image: ", e.what()));
  }
  if (archive.layers_.size() != archive.diff_ids_.size())
    return absl::InvalidArgumentError("the archive's image has layers of unknown content");
  return archive;
}

std::set<std::string> ImageArchive::LowestLayers(size_t count) const {
  const auto boundary =
      layers_.begin() + static_cast<std::ptrdiff_t>(std::min(count, layers_.size()));
  std::set<std::string> lowest(layers_.begin(), boundary);
  for (auto higher = boundary; higher != layers_.end(); ++higher) lowest.erase(*higher);
  return lowest;
}

std::vector<ImageArchive::Range> ImageArchive::Without(const std::set<std::string>& paths) const {
  std::vector<Range> ranges = {{0, 0}};
  for (const Entry& entry : entries_) {
    if (paths.count(entry.path) != 0) continue;
    if (ranges.back().offset + ranges.back().size != entry.begin)
      ranges.push_back({entry.begin, 0});
    ranges.back().size += entry.size;
  }
  if (ranges.back().offset + ranges.back().size != end_) ranges.push_back({end_, 0});
  ranges.back().size += kTrailerBytes;
  return ranges;
}

size_t CommonLayers(absl::Span<const Digest> a, absl::Span<const Digest> b) {
  size_t count = 0;
  while (count < a.size() && count < b.size() && a[count] == b[count]) ++count;
  return count;
}

}  // namespace kiln::client
