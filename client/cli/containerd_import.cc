#include "client/cli/containerd_import.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
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

}  // namespace

absl::StatusOr<std::vector<Digest>> BlobsInContainerd(const std::string& address, size_t limit,
                                                      const CancelToken& cancel) {
  KILN_ASSIGN_OR_RETURN(const std::string list, Ctr(address, {"content", "ls", "-q"}, -1, cancel));
  std::vector<Digest> blobs;
  for (const absl::string_view line : absl::StrSplit(list, '\n', absl::SkipWhitespace())) {
    const absl::StatusOr<Digest> digest = Digest::Parse(line);
    if (digest.ok() && blobs.size() < limit) blobs.push_back(*digest);
  }
  return blobs;
}

absl::Status ImportIntoContainerd(const std::string& address, int file, const CancelToken& cancel) {
  // A file and no pipe: to write into a pipe that ctr leaves unread would kill this process.
  if (lseek(file, 0, SEEK_SET) < 0) return ErrnoStatus(errno, "rewind the archive");
  return Ctr(address, {"images", "import", "--all-platforms", "-"}, file, cancel).status();
}

}  // namespace kiln::client
