#pragma once

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln {

// Owns one file descriptor; closes it on destruction. Move-only; not thread-safe.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      Reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~Fd() { Reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }
  void Reset();

  // Closes now and reports the error that a destructor would swallow. Idempotent.
  absl::Status Close();

 private:
  int fd_ = -1;  // -1 means nothing is owned
};

// open(2) with O_CLOEXEC added; retries EINTR. The error names the path.
absl::StatusOr<Fd> OpenFile(const std::string& path, int flags, int mode = 0600);
absl::StatusOr<Fd> OpenFileAt(int dir_fd, const std::string& path, int flags, int mode = 0600);

// Whole-file helpers; blocking. `limit` bytes at most, else kResourceExhausted.
absl::StatusOr<std::string> ReadFileToString(const std::string& path, size_t limit = 64 << 20);
absl::StatusOr<std::string> ReadAll(int fd, size_t limit = 64 << 20);
absl::Status WriteAll(int fd, absl::string_view data);

// Writes a sibling temporary file, fsyncs it and renames it over `path`.
absl::Status WriteFileAtomic(const std::string& path, absl::string_view data, int mode = 0600);

}  // namespace kiln
