#include "client/llb/description.h"

#include <algorithm>
#include <utility>

namespace kiln::client::llb {

void Description::Set(absl::string_view key, std::string text) {
  const auto at =
      std::lower_bound(entries_.begin(), entries_.end(), key,
                       [](const Entry& entry, absl::string_view k) { return entry.key < k; });
  if (at != entries_.end() && at->key == key) {
    at->text = std::move(text);
  } else {
    entries_.insert(at, Entry{std::string(key), std::move(text)});
  }
}

}  // namespace kiln::client::llb
