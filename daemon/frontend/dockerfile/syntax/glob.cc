#include "daemon/frontend/dockerfile/syntax/glob.h"

#include <re2/re2.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "daemon/frontend/dockerfile/syntax/unicode.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {

namespace {

re2::StringPiece Piece(absl::string_view text) { return {text.data(), text.size()}; }
absl::string_view View(re2::StringPiece piece) { return {piece.data(), piece.size()}; }

absl::Status Invalid(absl::string_view pattern, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("invalid pattern (", pattern, ") in substitution: ", why));
}

absl::StatusOr<std::string> ToRegex(absl::string_view pattern, GlobMatch match) {
  std::string out;
  for (absl::string_view rest = pattern; !rest.empty();) {
    Rune rune = DecodeRune(rest);
    rest.remove_prefix(rune.width);
    if (rune.value == '*') {
      out += match == GlobMatch::kShortest ? ".*?" : ".*";
      continue;
    }
    if (rune.value == '?') {
      out += '.';
      continue;
    }
    if (rune.value == '\\') {
      if (rest.empty()) return Invalid(pattern, "invalid escape '\\'");
      rune = DecodeRune(rest);
      if (absl::string_view("*?\\}/").find(rest[0]) == absl::string_view::npos) {
        return Invalid(pattern,
                       absl::StrCat("invalid escape '\\", rest.substr(0, rune.width), "'"));
      }
      rest.remove_prefix(rune.width);
    }
    std::string literal;
    AppendRune(rune.value, &literal);
    out += RE2::QuoteMeta(literal);
  }
  return out;
}

absl::StatusOr<std::unique_ptr<RE2>> Compile(absl::string_view pattern, absl::string_view regex) {
  RE2::Options options;
  options.set_log_errors(false);
  auto compiled = std::make_unique<RE2>(Piece(regex), options);
  // The only fault left to have is its size.
  if (!compiled->ok()) return Invalid(pattern, "too large");
  return compiled;
}

}  // namespace

absl::StatusOr<std::string> TrimGlobPrefix(absl::string_view value, absl::string_view pattern,
                                           GlobMatch match) {
  KILN_ASSIGN_OR_RETURN(const std::string regex, ToRegex(pattern, match));
  KILN_ASSIGN_OR_RETURN(const auto compiled, Compile(pattern, regex));
  re2::StringPiece found;
  if (compiled->Match(Piece(value), 0, value.size(), RE2::ANCHOR_START, &found, 1))
    value.remove_prefix(found.size());
  return std::string(value);
}

absl::StatusOr<std::string> TrimGlobSuffix(absl::string_view value, absl::string_view pattern,
                                           GlobMatch match) {
  KILN_ASSIGN_OR_RETURN(const std::string regex, ToRegex(pattern, match));
  // The more the rest takes, the less is left for the suffix.
  const absl::string_view rest = match == GlobMatch::kShortest ? "((?s:.*))" : "((?s:.*?))";
  KILN_ASSIGN_OR_RETURN(const auto compiled, Compile(pattern, absl::StrCat(rest, regex)));
  re2::StringPiece found[2];
  if (compiled->Match(Piece(value), 0, value.size(), RE2::ANCHOR_BOTH, found, 2))
    return std::string(View(found[1]));
  return std::string(value);
}

absl::StatusOr<std::string> ReplaceGlob(absl::string_view value, absl::string_view pattern,
                                        absl::string_view replacement, bool all, size_t max_bytes) {
  KILN_ASSIGN_OR_RETURN(const std::string regex, ToRegex(pattern, GlobMatch::kLongest));
  KILN_ASSIGN_OR_RETURN(const auto compiled, Compile(pattern, regex));
  std::string out;
  size_t at = 0;      // what comes before is in `out`
  size_t search = 0;  // where the next match may begin
  bool first = true;
  while (search <= value.size()) {
    re2::StringPiece found;
    if (!compiled->Match(Piece(value), search, value.size(), RE2::UNANCHORED, &found, 1)) break;
    const size_t begin = found.data() - value.data();
    const size_t end = begin + found.size();
    // An empty match right after another one is the same place again.
    if (!found.empty() || first || begin > at) {
      absl::StrAppend(&out, value.substr(at, begin - at), replacement);
      at = end;
      first = false;
      if (out.size() > max_bytes)
        return absl::ResourceExhaustedError(
            absl::StrCat("result of substitution is larger than ", max_bytes, " bytes"));
      if (!all) break;
    }
    if (found.empty()) {
      if (end == value.size()) break;
      search = end + DecodeRune(value.substr(end)).width;
    } else {
      search = end;
    }
  }
  absl::StrAppend(&out, value.substr(at));
  return out;
}

}  // namespace kiln::daemon::dockerfile
