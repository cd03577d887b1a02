// Strings. Characters are code points; upper and lower case are ASCII's.
#include <re2/re2.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/bake/hcl/functions.h"
#include "proto/go_json.h"
#include "store/base/status_macros.h"

namespace kiln::client::hcl {
namespace {

using List = Value::List;

constexpr size_t kMaxResultBytes = 4 << 20;
constexpr int kMaxWidth = 1000;

// All arguments as strings.
absl::StatusOr<std::vector<std::string>> Strings(const List& arguments) {
  std::vector<std::string> texts;
  for (const Value& argument : arguments) {
    KILN_ASSIGN_OR_RETURN(texts.emplace_back(), argument.ToString());
  }
  return texts;
}

// A function of strings alone.
template <std::string (*kFunction)(const std::vector<std::string>&)>
absl::StatusOr<Value> OfStrings(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> texts, Strings(arguments));
  return Value(kFunction(texts));
}

using Texts = std::vector<std::string>;

std::string Lower(const Texts& t) { return absl::AsciiStrToLower(t[0]); }
std::string Upper(const Texts& t) { return absl::AsciiStrToUpper(t[0]); }
std::string TrimSpace(const Texts& t) { return std::string(absl::StripAsciiWhitespace(t[0])); }
std::string TrimPrefix(const Texts& t) { return std::string(absl::StripPrefix(t[0], t[1])); }
std::string TrimSuffix(const Texts& t) { return std::string(absl::StripSuffix(t[0], t[1])); }

std::string Title(const Texts& t) {
  std::string text = t[0];
  for (size_t i = 0; i < text.size(); ++i)
    if (i == 0 || absl::ascii_isspace(text[i - 1])) text[i] = absl::ascii_toupper(text[i]);
  return text;
}

std::string Chomp(const Texts& t) {
  absl::string_view text = t[0];
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.remove_suffix(1);
  return std::string(text);
}

std::string Trim(const Texts& t) {
  const size_t first = t[0].find_first_not_of(t[1]);
  if (first == std::string::npos) return "";
  return t[0].substr(first, t[0].find_last_not_of(t[1]) - first + 1);
}

std::string Sanitize(const Texts& t) {
  std::string text;
  for (const char c : t[0]) {
    if ((static_cast<unsigned char>(c) & 0xC0) == 0x80) continue;  // one per character
    text.push_back(absl::ascii_isalnum(c) || c == '_' || c == '-' ? c : '_');
  }
  return text;
}

std::vector<std::string> Characters(const std::string& text) {
  std::vector<std::string> characters;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xC0) != 0x80 || characters.empty())
      characters.emplace_back();
    characters.back().push_back(c);
  }
  return characters;
}

std::string Reverse(const Texts& t) {
  std::vector<std::string> characters = Characters(t[0]);
  std::reverse(characters.begin(), characters.end());
  return absl::StrJoin(characters, "");
}

absl::StatusOr<Value> Length(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const std::string text, arguments[0].ToString());
  return Value(static_cast<double>(Characters(text).size()));
}

absl::StatusOr<Value> Substring(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const std::string text, arguments[0].ToString());
  KILN_ASSIGN_OR_RETURN(double offset, arguments[1].ToNumber());
  KILN_ASSIGN_OR_RETURN(double length, arguments[2].ToNumber());
  const std::vector<std::string> characters = Characters(text);
  const double size = static_cast<double>(characters.size());
  if (offset < 0) offset += size;
  if (offset < 0 || length < -1)
    return absl::InvalidArgumentError("offset or length is outside of the string");
  offset = std::min(std::floor(offset), size);
  length = length < 0 ? size - offset : std::min(std::floor(length), size - offset);
  const auto begin = characters.begin() + static_cast<std::ptrdiff_t>(offset);
  return Value(absl::StrJoin(begin, begin + static_cast<std::ptrdiff_t>(length), ""));
}

absl::StatusOr<Value> Replace(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const Texts t, Strings(arguments));
  if (t[1].empty()) return absl::InvalidArgumentError("the text to replace is empty");
  std::string out;
  size_t at = 0;
  while (out.size() <= kMaxResultBytes) {
    const size_t found = t[0].find(t[1], at);
    out.append(t[0], at, found - at);
    if (found == std::string::npos) return Value(std::move(out));
    out += t[2];
    at = found + t[1].size();
  }
  return absl::InvalidArgumentError("the result is too long");
}

absl::StatusOr<Value> Indent(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const double spaces, arguments[0].ToNumber());
  KILN_ASSIGN_OR_RETURN(const std::string text, arguments[1].ToString());
  if (spaces < 0 || spaces > kMaxWidth) return absl::InvalidArgumentError("too many spaces");
  const std::string indent(static_cast<size_t>(spaces), ' ');
  return Replace({Value(text), Value("\n"), Value("\n" + indent)});
}

absl::StatusOr<Value> Join(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const std::string separator, arguments[0].ToString());
  std::string out;
  bool first = true;
  for (size_t i = 1; i < arguments.size(); ++i) {
    KILN_ASSIGN_OR_RETURN(const List items, AsList(arguments[i]));
    for (const Value& item : items) {
      KILN_ASSIGN_OR_RETURN(const std::string text, item.ToString());
      if (!std::exchange(first, false)) out += separator;
      out += text;
      if (out.size() > kMaxResultBytes) return absl::InvalidArgumentError("the result is too long");
    }
  }
  return Value(std::move(out));
}

absl::StatusOr<Value> Split(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const Texts t, Strings(arguments));
  List parts;
  if (t[0].empty()) {
    for (std::string& character : Characters(t[1])) parts.emplace_back(std::move(character));
  } else {
    for (const absl::string_view part : absl::StrSplit(t[1], t[0]))
      parts.emplace_back(std::string(part));
  }
  return Value(std::move(parts));
}

absl::StatusOr<std::unique_ptr<RE2>> Pattern(const std::string& text) {
  RE2::Options options;
  options.set_log_errors(false);
  auto pattern = std::make_unique<RE2>(text, options);
  if (!pattern->ok())
    return absl::InvalidArgumentError(absl::StrCat("bad pattern: ", pattern->error()));
  return pattern;
}

// A match: the text; with groups a list of them; with named ones an object.
Value MatchValue(const RE2& pattern, const std::vector<re2::StringPiece>& groups) {
  const auto text = [](const re2::StringPiece& piece) {
    return piece.data() == nullptr ? Value() : Value(std::string(piece));
  };
  if (groups.size() == 1) return text(groups[0]);
  if (!pattern.NamedCapturingGroups().empty()) {
    Value::Object object;
    for (const auto& [name, number] : pattern.NamedCapturingGroups())
      object[name] = text(groups[number]);
    return Value(std::move(object));
  }
  List list;
  for (size_t i = 1; i < groups.size(); ++i) list.push_back(text(groups[i]));
  return Value(std::move(list));
}

template <bool kAll>
absl::StatusOr<Value> Regex(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const Texts t, Strings(arguments));
  KILN_ASSIGN_OR_RETURN(const std::unique_ptr<RE2> pattern, Pattern(t[0]));
  std::vector<re2::StringPiece> groups(pattern->NumberOfCapturingGroups() + 1);
  List matches;
  const re2::StringPiece text(t[1]);
  for (size_t at = 0; at <= text.size();) {
    if (!pattern->Match(text, at, text.size(), RE2::UNANCHORED, groups.data(),
                        static_cast<int>(groups.size())))
      break;
    matches.push_back(MatchValue(*pattern, groups));
    if (!kAll) return matches[0];
    const size_t end = groups[0].data() + groups[0].size() - text.data();
    at = groups[0].empty() ? end + 1 : end;
  }
  if (!kAll) return absl::InvalidArgumentError("the pattern did not match");
  return Value(std::move(matches));
}

// "$1", "${1}" and "${name}" in the replacement of Go's pattern library.
std::string Expand(const std::string& form, const RE2& pattern,
                   const std::vector<re2::StringPiece>& groups) {
  std::string out;
  for (size_t i = 0; i < form.size(); ++i) {
    if (form[i] != '$' || i + 1 == form.size()) {
      out.push_back(form[i]);
      continue;
    }
    if (form[i + 1] == '$') {
      out.push_back(form[++i]);
      continue;
    }
    const bool braces = form[i + 1] == '{';
    size_t end = i + (braces ? 2 : 1);
    const size_t begin = end;
    while (end < form.size() && (absl::ascii_isalnum(form[end]) || form[end] == '_')) ++end;
    const std::string name = form.substr(begin, end - begin);
    if (name.empty() || (braces && (end == form.size() || form[end] != '}'))) {
      out.push_back('$');
      continue;
    }
    size_t number = groups.size();
    const auto named = pattern.NamedCapturingGroups().find(name);
    if (named != pattern.NamedCapturingGroups().end()) number = named->second;
    if (name.size() < 4 && std::all_of(name.begin(), name.end(), absl::ascii_isdigit))
      number = std::stoul(name);
    if (number < groups.size()) out.append(groups[number].data(), groups[number].size());
    i = braces ? end : end - 1;
  }
  return out;
}

absl::StatusOr<Value> RegexReplace(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const Texts t, Strings(arguments));
  KILN_ASSIGN_OR_RETURN(const std::unique_ptr<RE2> pattern, Pattern(t[1]));
  std::vector<re2::StringPiece> groups(pattern->NumberOfCapturingGroups() + 1);
  const re2::StringPiece text(t[0]);
  std::string out;
  size_t at = 0;
  size_t copied = 0;
  while (at <= text.size() && pattern->Match(text, at, text.size(), RE2::UNANCHORED, groups.data(),
                                             static_cast<int>(groups.size()))) {
    const size_t begin = groups[0].data() - text.data();
    out.append(t[0], copied, begin - copied);
    out += Expand(t[2], *pattern, groups);
    copied = begin + groups[0].size();
    at = groups[0].empty() ? copied + 1 : copied;
    if (out.size() > kMaxResultBytes) return absl::InvalidArgumentError("the result is too long");
  }
  out.append(t[0], std::min(copied, t[0].size()));
  return Value(std::move(out));
}

// One verb of format: flags, width and precision as C has them too.
absl::StatusOr<std::string> FormatOne(const std::string& flags, char verb, const Value& value) {
  char buffer[kMaxWidth + 400];
  const auto number = [&](const char* length, auto argument) {
    const std::string form = absl::StrCat("%", flags, length, std::string(1, verb));
    const int size = snprintf(buffer, sizeof(buffer), form.c_str(), argument);
    return std::string(buffer, std::min<size_t>(std::max(size, 0), sizeof(buffer) - 1));
  };
  switch (verb) {
    case 'd':
    case 'x':
    case 'X':
    case 'o': {
      KILN_ASSIGN_OR_RETURN(const double whole, value.ToNumber());
      if (whole != std::trunc(whole) || std::fabs(whole) > 9007199254740992.0)
        return absl::InvalidArgumentError("a whole number is required");
      return number("ll", static_cast<long long>(whole));
    }
    case 'e':
    case 'E':
    case 'f':
    case 'g':
    case 'G': {
      KILN_ASSIGN_OR_RETURN(const double real, value.ToNumber());
      return number("", real);
    }
    case 's':
    case 'v':
    case 't':
    case 'q': {
      std::string text;
      if (verb == 'v' && (!value.is_primitive())) {
        KILN_ASSIGN_OR_RETURN(text, ToJson(value));
      } else if (verb == 't') {
        KILN_ASSIGN_OR_RETURN(const bool boolean, value.ToBool());
        text = boolean ? "true" : "false";
      } else {
        KILN_ASSIGN_OR_RETURN(text, value.ToString());
      }
      if (verb == 'q') {
        std::string quoted;
        AppendGoJsonString(text, &quoted);
        text = std::move(quoted);
      }
      const size_t width = std::strtoul(
          flags.c_str() + std::min(flags.find_first_of("123456789"), flags.size()), nullptr, 10);
      const size_t length = Characters(text).size();
      const std::string fill(length < width ? width - length : 0, ' ');
      return absl::StrContains(flags, "-") ? text + fill : fill + text;
    }
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("unknown verb %", std::string(1, verb), " in the format"));
  }
}

absl::StatusOr<Value> Format(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const std::string form, arguments[0].ToString());
  std::string out;
  size_t next = 1;
  for (size_t i = 0; i < form.size(); ++i) {
    if (form[i] != '%') {
      out.push_back(form[i]);
      continue;
    }
    const size_t end = form.find_first_not_of("0123456789.+-# ", i + 1);
    if (end == std::string::npos) return absl::InvalidArgumentError("the format ends in a verb");
    const std::string flags = form.substr(i + 1, end - i - 1);
    i = end;
    if (form[end] == '%') {
      out.push_back('%');
      continue;
    }
    for (const absl::string_view digits : absl::StrSplit(flags, absl::ByAnyChar(".+-# ")))
      if (digits.size() > 3) return absl::InvalidArgumentError("the width is too large");
    if (next >= arguments.size()) return absl::InvalidArgumentError("not enough arguments");
    KILN_ASSIGN_OR_RETURN(const std::string text, FormatOne(flags, form[end], arguments[next++]));
    out += text;
    if (out.size() > kMaxResultBytes) return absl::InvalidArgumentError("the result is too long");
  }
  if (next != arguments.size()) return absl::InvalidArgumentError("too many arguments");
  return Value(std::move(out));
}

// The format once for each item of the lists among the arguments; what is no list stands in all.
absl::StatusOr<Value> FormatList(const List& arguments) {
  size_t count = 1;
  bool has_list = false;
  for (size_t i = 1; i < arguments.size(); ++i) {
    if (!arguments[i].is_list()) continue;
    const size_t length = arguments[i].list().size();
    if (std::exchange(has_list, true) && length != count)
      return absl::InvalidArgumentError("the lists have different lengths");
    count = length;
  }
  List out;
  size_t bytes = 0;
  for (size_t item = 0; item < count; ++item) {
    List row = arguments;
    for (size_t i = 1; i < row.size(); ++i)
      if (arguments[i].is_list()) row[i] = arguments[i].list()[item];
    KILN_ASSIGN_OR_RETURN(out.emplace_back(), Format(row));
    bytes += out.back().string().size();
    if (bytes > kMaxResultBytes) return absl::InvalidArgumentError("the result is too long");
  }
  return Value(std::move(out));
}

constexpr LibraryFunction kFunctions[] = {
    {"chomp", 1, 1, OfStrings<Chomp>},
    {"format", 1, kAnyNumber, Format},
    {"formatlist", 1, kAnyNumber, FormatList},
    {"indent", 2, 2, Indent},
    {"join", 2, kAnyNumber, Join},
    {"lower", 1, 1, OfStrings<Lower>},
    {"regex", 2, 2, Regex<false>},
    {"regex_replace", 3, 3, RegexReplace},
    {"regexall", 2, 2, Regex<true>},
    {"replace", 3, 3, Replace},
    {"reverse", 1, 1, OfStrings<Reverse>},
    {"sanitize", 1, 1, OfStrings<Sanitize>},
    {"split", 2, 2, Split},
    {"strlen", 1, 1, Length},
    {"substr", 3, 3, Substring},
    {"title", 1, 1, OfStrings<Title>},
    {"trim", 2, 2, OfStrings<Trim>},
    {"trimprefix", 2, 2, OfStrings<TrimPrefix>},
    {"trimspace", 1, 1, OfStrings<TrimSpace>},
    {"trimsuffix", 2, 2, OfStrings<TrimSuffix>},
    {"upper", 1, 1, OfStrings<Upper>},
};

}  // namespace

absl::Span<const LibraryFunction> StringFunctions() { return kFunctions; }

}  // namespace kiln::client::hcl
