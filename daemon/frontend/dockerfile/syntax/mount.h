#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/frontend/dockerfile/syntax/expand.h"

namespace kiln::daemon::dockerfile {

enum class MountType { kBind, kCache, kTmpfs, kSecret, kSsh };
enum class CacheSharing { kShared, kPrivate, kLocked };

// "bind", "cache", …
absl::string_view MountTypeName(MountType type);

// The value of a RUN's --mount flag. Values are as given: defaults that depend on the stage
// (target, id, mode) are for the user of this struct.
struct Mount {
  MountType type = MountType::kBind;
  std::string from;    // stage, image or named context; "": the build context or nothing
  std::string source;  // for a secret: another word for id
  std::string target;
  bool read_only = true;
  int64_t size_bytes = 0;  // of a tmpfs; 0: no limit
  std::string id;          // of a cache, secret or agent
  std::optional<CacheSharing> sharing;
  bool required = false;
  std::optional<std::string> env;  // variable that gets the secret; "" is a value, too
  std::optional<uint32_t> mode, uid, gid;
};

// All of the flag, with `$` in the values expanded. Options take effect from left to right: `type`
// must come before `required` and `size`. kInvalidArgument in the words clients know.
absl::StatusOr<Mount> ParseMount(absl::string_view flag, WordExpander expand);

// Only the `from` of the flag: what can be known before variables have values, and all that is
// checked while a Dockerfile is read. kInvalidArgument when it refers to a variable.
absl::StatusOr<std::string> ParseMountFrom(absl::string_view flag);

}  // namespace kiln::daemon::dockerfile
