#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/ops/owner.h"
#include "store/base/cancel.h"
#include "store/tree.h"
#include "store/tree_writer.h"

namespace kiln::daemon {

// True when the regular file at `path` (resolved) reads as a tar archive, plain or compressed with
// gzip, bzip2, xz or zstd.
absl::StatusOr<bool> IsArchive(const store::TreeReader& tree, absl::string_view path);

// Extracts the archive at `path` into the existing directory `dest` (resolved). Owner, mode and
// time come from the archive; `owner` overrides. Whiteout names are ordinary names. Links are
// followed inside `dest` only; an entry or link that leads out of it is refused with
// kInvalidArgument naming it.
absl::Status Unpack(const store::TreeReader& tree, absl::string_view path, store::TreeWriter& to,
                    const std::string& dest, const std::optional<Owner>& owner,
                    const CancelToken& cancel);

}  // namespace kiln::daemon
