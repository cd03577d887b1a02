#include "daemon/ops/content_digest.h"

#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "proto/digest.h"

namespace kiln::daemon {

std::string CombineContentDigests(absl::Span<const std::string> checksums) {
  return Digest::Of(absl::StrJoin(checksums, absl::string_view("\0", 1))).ToString();
}

}  // namespace kiln::daemon
