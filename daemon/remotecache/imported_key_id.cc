#include "daemon/remotecache/imported_key_id.h"

#include <algorithm>
#include <array>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace kiln::daemon {

namespace {

constexpr absl::string_view kMark("kiln\x01imp", 8);

store::KeyId Marked(absl::string_view text) {
  const Digest hash = Digest::Of(text);
  std::array<uint8_t, Digest::kSize> bytes;
  std::copy(kMark.begin(), kMark.end(), bytes.begin());
  std::copy_n(hash.raw().begin(), bytes.size() - kMark.size(), bytes.begin() + kMark.size());
  return Digest(bytes);
}

}  // namespace

store::KeyId ImportedResultKey(const Digest& record, absl::Span<const Digest> diff_ids) {
  std::string text = absl::StrCat("result", record.raw());
  for (const Digest& diff_id : diff_ids) absl::StrAppend(&text, diff_id.raw());
  return Marked(text);
}

store::KeyId ImportedStepKey(const Digest& record, absl::string_view way) {
  return Marked(absl::StrCat("step", record.raw(), way));
}

bool IsImportedKey(const store::KeyId& key) { return absl::StartsWith(key.raw(), kMark); }

}  // namespace kiln::daemon
