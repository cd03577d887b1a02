#include "daemon/frontend/dockerfile/archive.h"

#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <memory>

#include "absl/strings/match.h"

namespace kiln::daemon::dockerfile {
namespace {

// The checksum of a tar header: the sum of its bytes, with blanks in place of itself.
bool IsTarHeader(absl::string_view head) {
  constexpr size_t kHeader = 512, kChecksum = 148, kChecksumSize = 8;
  if (head.size() < kHeader) return false;
  int64_t want = 0, sum = 0;
  bool any = false;
  for (size_t i = 0; i < kChecksumSize; ++i) {
    const char c = head[kChecksum + i];
    if (c >= '0' && c <= '7') {
      want = want * 8 + (c - '0');
      any = true;
    } else if (any) {
      break;
    }
  }
  for (size_t i = 0; i < kHeader; ++i) {
    const bool own = i >= kChecksum && i < kChecksum + kChecksumSize;
    sum += own ? ' ' : static_cast<unsigned char>(head[i]);
  }
  return any && sum == want;
}

}  // namespace

bool IsArchive(absl::string_view head) {
  return absl::StartsWith(head, "BZh") || absl::StartsWith(head, "\x1f\x8b\x08") ||
         absl::StartsWith(head, absl::string_view("\xfd"
                                                  "7zXZ\0",
                                                  6)) ||
         IsTarHeader(head);
}

std::optional<int64_t> NewestFileTime(const std::string& data) {
  struct Closer {
    void operator()(struct archive* archive) const { archive_read_free(archive); }
  };
  const std::unique_ptr<struct archive, Closer> reader(archive_read_new());
  archive_read_support_filter_all(reader.get());
  archive_read_support_format_tar(reader.get());
  if (archive_read_open_memory(reader.get(), data.data(), data.size()) != ARCHIVE_OK) {
    return std::nullopt;
  }
  std::optional<int64_t> newest;
  struct archive_entry* entry = nullptr;
  for (;;) {
    const int status = archive_read_next_header(reader.get(), &entry);
    if (status == ARCHIVE_EOF) return newest;
    if (status != ARCHIVE_OK && status != ARCHIVE_WARN) return std::nullopt;
    if (archive_entry_filetype(entry) != AE_IFREG) continue;
    const int64_t time = archive_entry_mtime(entry);
    newest = newest ? std::max(*newest, time) : time;
  }
}

}  // namespace kiln::daemon::dockerfile
