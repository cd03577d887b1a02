#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "store/base/mount.h"

namespace kiln::daemon {

// The folder for what steps need while they run and nobody else may read: secrets, agent sockets.
// A tmpfs of its own (64 MiB), so that secrets never reach a disk; mode 0700.
class RuntimeFolder {
 public:
  // Makes `path` and removes what a killed daemon left there. Without the right to mount, a plain
  // folder takes the place of the tmpfs.
  static absl::StatusOr<std::unique_ptr<RuntimeFolder>> Create(const std::string& path);
  ~RuntimeFolder();

  const std::string& path() const { return path_; }

 private:
  explicit RuntimeFolder(std::string path) : path_(std::move(path)) {}

  const std::string path_;
  std::optional<Mount> tmpfs_;
};

}  // namespace kiln::daemon
