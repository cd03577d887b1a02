#include "client/cli/containerd_import.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/digest.h"
#include "store/base/fd.h"
#include "store/base/process.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

absl::StatusOr<std::string> Ctr(const std::string& address, std::vector<std::string> args,
                                int stdin_fd, const CancelToken& cancel) {
  const char* space = std::getenv("CONTAINERD_NAMESPACE");
  ProcessOptions options;
  options.args = {"ctr", "--address", address, "--namespace",
                  space != nullptr && *space != '\0' ? space : "default"};
  for (std::string& arg : args) options.args.push_back(std::move(arg));
  options.stdin_fd = stdin_fd;
  return RunCommandForOutput(options, cancel);
}

// A nameless file of these ranges.
absl::StatusOr<Fd> Copy(int file, const std::vector<ImageArchive::Range>& ranges) {
  const char* folder = std::getenv("TMPDIR");
  std::string pattern =
      absl::StrCat(folder != nullptr && *folder != '\0' ? folder : "/tmp", "/kiln-load-XXXXXX");
  Fd copy(mkostemp(pattern.data(), O_CLOEXEC));
  if (!copy.valid()) return ErrnoStatus(errno, absl::StrCat("make ", pattern));
  unlink(pattern.c_str());
  std::string buffer(1 << 20, '\0');
  for (const auto& [offset, size] : ranges) {
    for (int64_t done = 0; done < size;) {
      const auto wanted =
          static_cast<size_t>(std::min<int64_t>(size - done, static_cast<int64_t>(buffer.size())));
      const ssize_t n = pread(file, buffer.data(), wanted, offset + done);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return ErrnoStatus(n < 0 ? errno : EIO, "read the archive");
      KILN_RETURN_IF_ERROR(
          WriteAll(copy.get(), absl::string_view(buffer.data(), static_cast<size_t>(n))));
      done += n;
    }
  }
  return copy;
}

}  // namespace

absl::StatusOr<std::set<std::string>> LayersInContainerd(const std::string& address,
                                                         const ImageArchive& archive,
                                                         const CancelToken& cancel) {
  KILN_ASSIGN_OR_RETURN(const std::string list, Ctr(address, {"content", "ls", "-q"}, -1, cancel));
  std::set<std::string> blobs;
  for (const absl::string_view line : absl::StrSplit(list, '\n', absl::SkipWhitespace())) {
    const absl::StatusOr<Digest> digest = Digest::Parse(line);
    if (digest.ok()) blobs.insert(absl::StrCat("blobs/sha256/", digest->hex()));
  }
  std::set<std::string> known;
  for (const std::string& layer : archive.layers())
    if (blobs.count(layer) != 0) known.insert(layer);
  return known;
}

absl::Status ImportIntoContainerd(const std::string& address, int file,
                                  const std::vector<ImageArchive::Range>& ranges,
                                  const CancelToken& cancel) {
  const auto import = [&](int from) -> absl::Status {
    if (lseek(from, 0, SEEK_SET) < 0) return ErrnoStatus(errno, "rewind the archive");
    return Ctr(address, {"images", "import", "--all-platforms", "-"}, from, cancel).status();
  };
  if (ranges.size() == 1) return import(file);  // it ends where an archive ends
  // A file and no pipe: to write into a pipe that ctr leaves unread would kill this process.
  KILN_ASSIGN_OR_RETURN(const Fd copy, Copy(file, ranges));
  return import(copy.get());
}

}  // namespace kiln::client
