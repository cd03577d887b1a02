#include "daemon/registry/challenge.h"

#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace kiln::daemon {

namespace {

// Reads a list of challenges from the front of a text.
class Reader {
 public:
  explicit Reader(absl::string_view text) : rest_(text) {}

  bool AtEnd() {
    SkipSpace();
    return rest_.empty();
  }
  bool Take(char c) {
    SkipSpace();
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  std::string Token() {
    SkipSpace();
    size_t n = 0;
    while (n < rest_.size() && IsTokenChar(rest_[n])) ++n;
    std::string out(rest_.substr(0, n));
    rest_.remove_prefix(n);
    return out;
  }
  // A token or a quoted string.
  std::string Value() {
    if (!Take('"')) return Token();
    std::string out;
    while (!rest_.empty() && rest_[0] != '"') {
      if (rest_[0] == '\\' && rest_.size() > 1) rest_.remove_prefix(1);
      out.push_back(rest_[0]);
      rest_.remove_prefix(1);
    }
    if (!rest_.empty()) rest_.remove_prefix(1);
    return out;
  }

 private:
  static bool IsTokenChar(char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
           absl::string_view("!#$%&'*+-.^_`|~/:@?").find(c) != absl::string_view::npos;
  }
  void SkipSpace() { rest_ = absl::StripLeadingAsciiWhitespace(rest_); }

  absl::string_view rest_;
};

}  // namespace

const std::string& Challenge::Parameter(const std::string& name) const {
  static const std::string* const kEmpty = new std::string;
  auto it = parameters.find(name);
  return it == parameters.end() ? *kEmpty : it->second;
}

std::vector<Challenge> ParseChallenges(absl::string_view header) {
  std::vector<Challenge> out;
  Reader reader(header);
  while (!reader.AtEnd()) {
    if (reader.Take(',')) continue;
    const std::string word = absl::AsciiStrToLower(reader.Token());
    if (word.empty()) break;
    if (!out.empty() && reader.Take('=')) {
      out.back().parameters.emplace(word, reader.Value());
    } else {
      out.push_back({word, {}});
    }
  }
  return out;
}

std::vector<std::string> NormalizeScopes(const std::vector<std::string>& scopes) {
  std::map<std::string, std::set<std::string>> by_resource;
  std::set<std::string> out;
  for (const std::string& scope : scopes) {
    const size_t first = scope.find(':');
    const size_t last = scope.rfind(':');
    if (first == std::string::npos || first == last) {
      if (!scope.empty()) out.insert(scope);
      continue;
    }
    std::set<std::string>& actions = by_resource[scope.substr(0, last)];
    for (absl::string_view action :
         absl::StrSplit(absl::string_view(scope).substr(last + 1), ',', absl::SkipEmpty()))
      actions.emplace(action);
  }
  for (const auto& [resource, actions] : by_resource)
    out.insert(absl::StrCat(resource, ":", absl::StrJoin(actions, ",")));
  return {out.begin(), out.end()};
}

}  // namespace kiln::daemon
