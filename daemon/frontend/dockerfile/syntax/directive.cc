#include "daemon/frontend/dockerfile/syntax/directive.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "daemon/frontend/dockerfile/syntax/unicode.h"
#include "proto/utf8.h"

namespace kiln::daemon::dockerfile {

namespace {

constexpr size_t kMaxLine = 65535;

// A line's first part, "key = value", cut in two. False when it has another form.
bool CutKeyValue(absl::string_view text, std::string* key, std::string* value) {
  size_t length = 0;
  while (length < text.size() && absl::ascii_isalnum(text[length])) ++length;
  if (length == 0 || !absl::ascii_isalpha(text[0])) return false;
  *key = absl::AsciiStrToLower(text.substr(0, length));
  text = absl::StripLeadingAsciiWhitespace(text.substr(length));
  if (!absl::ConsumePrefix(&text, "=")) return false;
  *value = std::string(absl::StripAsciiWhitespace(text));
  return !value->empty();
}

// The text after the first line "#!…", if there is one.
absl::string_view SkipShebang(absl::string_view data, int* lines_skipped) {
  *lines_skipped = 0;
  if (!absl::StartsWith(data, "#!")) return data;
  *lines_skipped = 1;
  const size_t end = data.find('\n');
  return end == absl::string_view::npos ? absl::string_view() : data.substr(end + 1);
}

std::optional<Directive> Find(absl::string_view key, absl::string_view data,
                              absl::string_view marker, int lines_before) {
  DirectiveScanner scanner(marker, lines_before);
  while (!data.empty() && !scanner.done()) {
    const size_t end = std::min(data.find('\n'), data.size());
    absl::string_view line = data.substr(0, end);
    data.remove_prefix(std::min(end + 1, data.size()));
    if (line.size() > kMaxLine) break;
    absl::ConsumeSuffix(&line, "\r");
    auto directive = scanner.Next(line);
    if (!directive.ok()) break;
    if (directive->has_value() && (*directive)->key == key) return *std::move(directive);
  }
  return std::nullopt;
}

std::string FirstWord(absl::string_view text) {
  return std::string(text.substr(0, std::min(text.find(' '), text.size())));
}

// The member of a file that is one JSON object; nullopt when it is not, or the member no string.
std::optional<std::string> JsonMember(absl::string_view key, absl::string_view data) {
  if (!absl::StartsWith(absl::StripLeadingAsciiWhitespace(data), "{")) return std::nullopt;
  const auto json = nlohmann::json::parse(ToValidUtf8(data), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  const auto found = json.find(std::string(key));
  if (found == json.end() || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}

}  // namespace

absl::StatusOr<std::optional<Directive>> DirectiveScanner::Next(absl::string_view line) {
  ++line_;
  if (done_) return std::nullopt;
  Directive directive;
  directive.line = line_;
  if (!absl::ConsumePrefix(&line, marker_) ||
      !CutKeyValue(TrimLeadingSpace(line), &directive.key, &directive.value) ||
      (directive.key != "syntax" && directive.key != "escape" && directive.key != "check")) {
    done_ = true;
    return std::nullopt;
  }
  if (!seen_.insert(directive.key).second) {
    return absl::InvalidArgumentError(
        absl::StrCat("only one ", directive.key, " parser directive can be used"));
  }
  return directive;
}

std::optional<SyntaxDirective> FindSyntax(absl::string_view data) {
  int skipped = 0;
  data = SkipShebang(StripBom(data), &skipped);
  for (const absl::string_view marker : {"#", "//"}) {
    if (const auto directive = Find("syntax", data, marker, skipped); directive.has_value())
      return SyntaxDirective{FirstWord(directive->value), directive->value, directive->line};
  }
  const std::optional<std::string> member = JsonMember("syntax", data);
  if (!member.has_value()) return std::nullopt;
  return SyntaxDirective{*member, *member, skipped + 1};
}

std::optional<std::string> FindCheck(absl::string_view data) {
  int skipped = 0;
  data = SkipShebang(StripBom(data), &skipped);
  const auto directive = Find("check", data, "#", skipped);
  if (!directive.has_value()) return std::nullopt;
  return FirstWord(directive->value);
}

}  // namespace kiln::daemon::dockerfile
