#include "daemon/frontend/dockerfile/syntax/heredoc.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "daemon/frontend/dockerfile/syntax/expand.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {

namespace {

std::optional<absl::string_view> Unset(absl::string_view) { return std::nullopt; }

int64_t CountQuotes(absl::string_view text) {
  return std::count(text.begin(), text.end(), '\'') + std::count(text.begin(), text.end(), '"');
}

}  // namespace

absl::StatusOr<std::optional<Heredoc>> ParseHeredocWord(absl::string_view word) {
  size_t digits = 0;
  while (digits < word.size() && absl::ascii_isdigit(word[digits])) ++digits;
  absl::string_view rest = word.substr(digits);
  if (!absl::ConsumePrefix(&rest, "<<")) return std::nullopt;
  Heredoc heredoc;
  heredoc.chomp = absl::ConsumePrefix(&rest, "-");
  while (!rest.empty() && absl::string_view("\t\n\f\r ").find(rest[0]) != rest.npos)
    rest.remove_prefix(1);
  if (rest.empty() || rest.find('<') != absl::string_view::npos) return std::nullopt;
  // A number that does not fit is as good as none: nobody has such a descriptor.
  if (!absl::SimpleAtoi(word.substr(0, digits), &heredoc.fd)) heredoc.fd = 0;

  ExpandOptions options;
  options.keep_unset = true;
  KILN_ASSIGN_OR_RETURN(std::vector<std::string> bare, ExpandWords(rest, options, Unset));
  if (bare.size() != 1) return std::nullopt;
  options.keep_quotes = true;
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> quoted, ExpandWords(rest, options, Unset));
  // Quotes that went away were not escaped ones.
  heredoc.expand = quoted.size() == 1 && CountQuotes(bare[0]) == CountQuotes(quoted[0]);
  heredoc.name = std::move(bare[0]);
  return heredoc;
}

absl::StatusOr<std::vector<Heredoc>> FindHeredocs(absl::string_view line) {
  std::vector<Heredoc> heredocs;
  ExpandOptions options;
  options.keep_quotes = true;
  options.keep_escapes = true;
  options.keep_unset = true;
  const auto words = ExpandWords(line, options, Unset);
  if (!words.ok()) return heredocs;
  for (const std::string& word : *words) {
    KILN_ASSIGN_OR_RETURN(std::optional<Heredoc> heredoc, ParseHeredocWord(word));
    if (heredoc.has_value()) heredocs.push_back(*std::move(heredoc));
  }
  return heredocs;
}

std::string ChompTabs(absl::string_view content) {
  std::string out;
  out.reserve(content.size());
  bool line_start = true;
  for (const char c : content) {
    if (line_start && c == '\t') continue;
    line_start = c == '\n';
    out.push_back(c);
  }
  return out;
}

}  // namespace kiln::daemon::dockerfile
