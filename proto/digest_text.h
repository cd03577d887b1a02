#pragma once

#include <array>
#include <cstddef>

#include "absl/strings/string_view.h"
#include "proto/digest.h"

namespace kiln {

// What Digest::ToString returns, without a string's memory: for those who write thousands.
class DigestText {
 public:
  explicit DigestText(const Digest& digest);

  absl::string_view view() const { return absl::string_view(text_.data(), text_.size()); }

 private:
  static constexpr size_t kPrefixSize = 7;  // "sha256:"

  std::array<char, kPrefixSize + 2 * Digest::kSize> text_;
};

}  // namespace kiln
