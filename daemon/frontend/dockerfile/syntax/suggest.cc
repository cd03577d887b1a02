#include "daemon/frontend/dockerfile/syntax/suggest.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "daemon/frontend/dockerfile/syntax/unicode.h"

namespace kiln::daemon::dockerfile {

namespace {

constexpr size_t kTooFar = 3;

std::u32string Runes(absl::string_view text) {
  std::u32string runes;
  while (!text.empty()) {
    const Rune rune = DecodeRune(text);
    runes.push_back(rune.value);
    text.remove_prefix(rune.width);
  }
  return runes;
}

// Levenshtein's distance, or kTooFar when it is that or more.
size_t Distance(const std::u32string& a, const std::u32string& b) {
  const size_t longer = std::max(a.size(), b.size());
  if (longer - std::min(a.size(), b.size()) >= kTooFar) return kTooFar;
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return std::min(row[b.size()], kTooFar);
}

}  // namespace

std::string Nearest(absl::string_view word, absl::Span<const std::string> options) {
  // Options are short, so what is much longer is near to none; this bounds the cost.
  constexpr size_t kLongest = 256;
  if (word.size() > kLongest) return "";
  const std::u32string runes = Runes(word);
  std::string best;
  size_t best_distance = kTooFar;
  for (const std::string& option : options) {
    if (option == word) return "";
    if (option.size() > kLongest) continue;
    const size_t distance = Distance(runes, Runes(option));
    if (distance < best_distance) {
      best = option;
      best_distance = distance;
    }
  }
  return best;
}

std::string NearestIgnoringCase(absl::string_view word, absl::Span<const std::string> options) {
  const std::string lower = absl::AsciiStrToLower(word);
  std::vector<std::string> lower_options;
  lower_options.reserve(options.size());
  for (const std::string& option : options) lower_options.push_back(absl::AsciiStrToLower(option));
  const std::string best = Nearest(lower, lower_options);
  if (word != lower && word == absl::AsciiStrToUpper(word)) return absl::AsciiStrToUpper(best);
  return best;
}

std::string DidYouMean(absl::string_view nearest) {
  if (nearest.empty()) return "";
  return absl::StrCat(" (did you mean ", nearest, "?)");
}

}  // namespace kiln::daemon::dockerfile
