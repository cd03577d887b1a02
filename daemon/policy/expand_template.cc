#include "daemon/policy/expand_template.h"

#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace kiln::daemon {
namespace {

using Groups = std::vector<re2::StringPiece>;

re2::StringPiece Piece(absl::string_view text) { return {text.data(), text.size()}; }

bool Match(const RE2& pattern, absl::string_view text, size_t from, Groups* groups) {
  groups->assign(pattern.NumberOfCapturingGroups() + 1, re2::StringPiece());
  return pattern.Match(Piece(text), from, text.size(), RE2::UNANCHORED, groups->data(),
                       static_cast<int>(groups->size()));
}

absl::string_view GroupNamed(const RE2& pattern, const Groups& groups, absl::string_view name) {
  size_t index = groups.size();
  uint32_t number = 0;
  if (absl::SimpleAtoi(name, &number)) {
    index = number;
  } else {
    const auto& names = pattern.NamedCapturingGroups();
    if (const auto found = names.find(std::string(name)); found != names.end())
      index = static_cast<size_t>(found->second);
  }
  if (index >= groups.size()) return "";
  return {groups[index].data(), groups[index].size()};
}

// The name after a '$', taken off `rest`; nullopt: the '$' stands for itself.
std::optional<absl::string_view> TakeName(absl::string_view* rest) {
  const auto is_name = [](char c) { return absl::ascii_isalnum(c) || c == '_'; };
  const bool braced = !rest->empty() && rest->front() == '{';
  const size_t begin = braced ? 1 : 0;
  size_t end = begin;
  while (end < rest->size() && is_name((*rest)[end])) ++end;
  if (end == begin || (braced && (end == rest->size() || (*rest)[end] != '}'))) return std::nullopt;
  const absl::string_view name = rest->substr(begin, end - begin);
  rest->remove_prefix(end + begin);
  return name;
}

void Expand(const RE2& pattern, const Groups& groups, absl::string_view replacement,
            std::string* out) {
  while (!replacement.empty()) {
    const size_t dollar = replacement.find('$');
    absl::StrAppend(out, replacement.substr(0, dollar));
    if (dollar == absl::string_view::npos) return;
    replacement.remove_prefix(dollar + 1);
    if (!replacement.empty() && replacement.front() == '$') {
      out->push_back('$');
      replacement.remove_prefix(1);
      continue;
    }
    const auto name = TakeName(&replacement);
    absl::StrAppend(out, name ? GroupNamed(pattern, groups, *name) : "$");
  }
}

}  // namespace

std::optional<std::string> ExpandMatch(const RE2& pattern, absl::string_view text,
                                       absl::string_view replacement) {
  Groups groups;
  if (!Match(pattern, text, 0, &groups)) return std::nullopt;
  std::string out;
  Expand(pattern, groups, replacement, &out);
  return out;
}

std::string ReplaceAllMatches(const RE2& pattern, absl::string_view text,
                              absl::string_view replacement) {
  std::string out;
  Groups groups;
  size_t done = 0;  // what is copied
  size_t from = 0;
  while (from <= text.size() && Match(pattern, text, from, &groups)) {
    const size_t begin = static_cast<size_t>(groups[0].data() - text.data());
    const size_t end = begin + groups[0].size();
    absl::StrAppend(&out, text.substr(done, begin - done));
    // An empty match right after another one counts as part of it.
    if (end > begin || begin > done || begin == 0) Expand(pattern, groups, replacement, &out);
    done = end;
    from = end > begin ? end : end + 1;
  }
  absl::StrAppend(&out, text.substr(done));
  return out;
}

}  // namespace kiln::daemon
