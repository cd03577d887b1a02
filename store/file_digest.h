#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/digest.h"
#include "store/base/cancel.h"

namespace kiln::store {

// What of an entry's metadata its digest covers: permissions, owner, type, size, link target,
// device number and extended attributes; never times, inode or name.
struct DigestedMetadata {
  struct stat st = {};
  std::string link;  // symlink target
  std::map<std::string, std::string> xattrs;
};

// The bytes hashed before a file's content: a version 1 "tarsum" header as BuildKit writes it.
// Device numbers count for devices only; BuildKit leaves them out for trees read from disk, which
// would make two different devices equal.
std::string DigestHeader(const DigestedMetadata& metadata);

// The digest of an entry without content: directory (its header), symlink, device, fifo, socket.
Digest DigestWithoutContent(const DigestedMetadata& metadata);

// Digests a regular file from its content at `fd`, read from the start. kFailedPrecondition when
// it has not `metadata.st.st_size` bytes; the cause when cancelled.
absl::StatusOr<Digest> DigestFile(const DigestedMetadata& metadata, int fd,
                                  const CancelToken& cancel);

}  // namespace kiln::store
