#include "daemon/frontend/gateway/socket_holders.h"

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "store/base/fd.h"

namespace kiln::daemon {
namespace {

namespace fs = std::filesystem;

pid_t PidOf(int pidfd) {
  const std::string info = ReadFileToString(absl::StrCat("/proc/self/fdinfo/", pidfd)).value_or("");
  for (absl::string_view line : absl::StrSplit(info, '\n')) {
    pid_t pid = 0;
    const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(line, ":\t");
    if (parts.first == "Pid" && absl::SimpleAtoi(parts.second, &pid)) return pid;
  }
  return -1;
}

// Processes go while they are looked at: what cannot be read has none.
std::vector<pid_t> Children(pid_t pid) {
  std::vector<pid_t> out;
  std::error_code error;
  for (const auto& task : fs::directory_iterator(absl::StrCat("/proc/", pid, "/task"), error)) {
    const std::string text = ReadFileToString(task.path().string() + "/children").value_or("");
    for (absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
      pid_t child = 0;
      if (absl::SimpleAtoi(word, &child)) out.push_back(child);
    }
  }
  return out;
}

bool Holds(pid_t pid, const std::string& socket) {
  std::error_code error;
  for (const auto& fd : fs::directory_iterator(absl::StrCat("/proc/", pid, "/fd"), error)) {
    std::error_code closed;
    if (fs::read_symlink(fd.path(), closed) == socket) return true;
  }
  return false;
}

}  // namespace

std::optional<bool> DescendantHolds(int pidfd, ino_t socket) {
  const pid_t ancestor = PidOf(pidfd);
  if (ancestor <= 0) return std::nullopt;
  const std::string name = absl::StrCat("socket:[", socket, "]");
  std::vector<pid_t> left = Children(ancestor);
  if (left.empty()) return std::nullopt;
  while (!left.empty()) {
    const pid_t pid = left.back();
    left.pop_back();
    if (Holds(pid, name)) return true;
    const std::vector<pid_t> more = Children(pid);
    left.insert(left.end(), more.begin(), more.end());
  }
  return false;
}

}  // namespace kiln::daemon
