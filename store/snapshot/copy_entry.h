#pragma once

#include <sys/stat.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::store {

// Copies single entries between trees by their host paths. Nothing here follows a symlink in the
// last component. Thread-safe; blocks.

// overlayfs.rst: a whiteout is a character device 0:0, an opaque directory carries an xattr.
inline bool IsWhiteout(const struct stat& st) { return S_ISCHR(st.st_mode) && st.st_rdev == 0; }
bool IsOpaque(const std::string& directory);
absl::Status SetOpaque(const std::string& directory);
absl::Status MakeWhiteout(const std::string& path);

// Makes `to`, which must not exist, with the content of `from`: file (reflinked where possible,
// holes kept), symlink, fifo, socket or device. No metadata.
absl::Status CopyBody(const std::string& from, const struct stat& st, const std::string& to);

// Owner, mode and xattrs, in that order (chown clears the suid bits), without overlayfs's own
// marks. xattrs that the file system refuses are left out.
absl::Status CopyMetadata(const std::string& from, const struct stat& st, const std::string& to);
// All xattrs, with the same exceptions.
absl::Status RemoveXattrs(const std::string& path);
absl::Status CopyTimes(const struct stat& st, const std::string& to);

// A second name for `from`. False when the file system wants a copy instead (EXDEV, EMLINK, or no
// right to link).
absl::StatusOr<bool> Hardlink(const std::string& from, const std::string& to);

// "" when absent.
absl::StatusOr<std::string> ReadXattr(const std::string& path, const char* name);
absl::StatusOr<std::string> ReadLink(const std::string& path);

}  // namespace kiln::store
