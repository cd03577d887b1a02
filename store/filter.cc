#include "store/filter.h"

#include <re2/re2.h>

#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::store {
namespace {

bool IsFieldChar(char c) { return c == '_' || absl::ascii_isalnum(static_cast<uint8_t>(c)); }
bool IsOperatorChar(char c) { return c == '=' || c == '!' || c == '~'; }
bool IsQuote(char c) { return c == '"' || c == '/' || c == '|'; }
bool IsSpace(char c) { return absl::ascii_isspace(static_cast<uint8_t>(c)); }
// Graphic characters of ASCII, and whatever belongs to a multi-byte one.
bool IsValueChar(char c) {
  return c != ',' &&
         (absl::ascii_isgraph(static_cast<uint8_t>(c)) || static_cast<uint8_t>(c) >= 0x80);
}

}  // namespace

// Parses one filter; recursive descent over the bytes, no look-back.
class FilterParser {
 public:
  explicit FilterParser(absl::string_view input) : input_(input) {}

  absl::StatusOr<std::vector<Filter::Selector>> Parse() {
    std::vector<Filter::Selector> selectors;
    while (true) {
      KILN_ASSIGN_OR_RETURN(Filter::Selector selector, ParseSelector());
      selectors.push_back(std::move(selector));
      if (AtEnd()) return selectors;
      if (Peek() != ',') return Fault("unexpected input");
      ++at_;
    }
  }

 private:
  bool AtEnd() const { return at_ == input_.size(); }
  char Peek() const { return AtEnd() ? '\0' : input_[at_]; }
  void SkipSpaces() {
    while (!AtEnd() && IsSpace(Peek())) ++at_;
  }
  absl::string_view TakeWhile(bool (*wanted)(char)) {
    const size_t begin = at_;
    while (!AtEnd() && wanted(Peek())) ++at_;
    return input_.substr(begin, at_ - begin);
  }

  absl::Status Fault(absl::string_view message) const {
    const absl::string_view before = input_.substr(0, at_), rest = input_.substr(at_);
    if (rest.empty())
      return absl::InvalidArgumentError(absl::StrCat("filter [", input_, "]: ", message));
    return absl::InvalidArgumentError(absl::StrCat("filter [", before, " >|", rest.substr(0, 1),
                                                   "|< ", rest.substr(1), "]: ", message));
  }

  absl::StatusOr<Filter::Selector> ParseSelector() {
    Filter::Selector selector;
    while (true) {
      KILN_ASSIGN_OR_RETURN(std::string field, ParseField());
      selector.path.push_back(std::move(field));
      if (Peek() != '.') break;
      ++at_;
    }
    if (AtEnd() || Peek() == ',') return selector;
    KILN_ASSIGN_OR_RETURN(selector.op, ParseOperator());
    const size_t value_at = at_;
    KILN_ASSIGN_OR_RETURN(selector.value, ParseValue(selector.op == Filter::Operator::kMatches));
    if (selector.op != Filter::Operator::kMatches) return selector;
    RE2::Options options;
    options.set_log_errors(false);
    selector.pattern = std::make_unique<RE2>(selector.value, options);
    if (selector.pattern->ok()) return selector;
    at_ = value_at;
    return Fault(absl::StrCat("invalid regular expression: ", selector.pattern->error()));
  }

  absl::StatusOr<std::string> ParseField() {
    SkipSpaces();
    if (IsQuote(Peek())) return ParseQuoted(false);
    const absl::string_view field = TakeWhile(IsFieldChar);
    if (field.empty()) return Fault("expected field or quoted");
    return std::string(field);
  }

  absl::StatusOr<Filter::Operator> ParseOperator() {
    SkipSpaces();
    const size_t begin = at_;
    const absl::string_view op = TakeWhile(IsOperatorChar);
    if (op == "==") return Filter::Operator::kEqual;
    if (op == "!=") return Filter::Operator::kNotEqual;
    if (op == "~=") return Filter::Operator::kMatches;
    at_ = begin;
    if (op.empty()) return Fault(R"(expected an operator ("=="|"!="|"~="))");
    return Fault(absl::StrCat("unsupported operator \"", op, "\""));
  }

  absl::StatusOr<std::string> ParseValue(bool is_pattern) {
    SkipSpaces();
    if (IsQuote(Peek())) return ParseQuoted(is_pattern);
    if (Peek() == '.' || IsOperatorChar(Peek())) return Fault("expected value or quoted");
    const absl::string_view value = TakeWhile(IsValueChar);
    if (value.empty()) return Fault("expected value or quoted");
    return std::string(value);
  }

  absl::StatusOr<std::string> ParseQuoted(bool any_quote) {
    const char quote = Peek();
    if (quote != '"' && !any_quote) return Fault("invalid quote encountered");
    const size_t begin = at_++;
    std::string value;
    while (Peek() != quote || AtEnd()) {
      if (AtEnd() || Peek() == '\n') {
        at_ = begin;
        return Fault("quoted literal not terminated");
      }
      const char c = input_[at_++];
      if (c != '\\') {
        value.push_back(c);
        continue;
      }
      if (AtEnd()) continue;
      if (!TakeEscape(quote, &value)) return Fault("illegal escape sequence");
    }
    ++at_;
    return value;
  }

  // Go's escapes, with at_ behind the backslash. Numbers have a fixed count of digits.
  bool TakeEscape(char quote, std::string* out) {
    const char c = Peek();
    if (c == quote || c == '\\') {
      out->push_back(c);
      ++at_;
      return true;
    }
    constexpr absl::string_view kNames = "abfnrtv", kBytes = "\a\b\f\n\r\t\v";
    if (const size_t i = kNames.find(c); i != absl::string_view::npos) {
      out->push_back(kBytes[i]);
      ++at_;
      return true;
    }
    uint32_t value = 0;
    if (c >= '0' && c <= '7') {
      if (!TakeDigits(3, 8, &value) || value > 0xff) return false;
      out->push_back(static_cast<char>(value));
      return true;
    }
    ++at_;
    if (c == 'x') {
      if (!TakeDigits(2, 16, &value)) return false;
      out->push_back(static_cast<char>(value));
      return true;
    }
    if (c != 'u' && c != 'U') return false;
    return TakeDigits(c == 'u' ? 4 : 8, 16, &value) && AppendUtf8(value, out);
  }

  bool TakeDigits(int count, uint32_t base, uint32_t* value) {
    for (; count > 0; --count, ++at_) {
      const char c = absl::ascii_tolower(static_cast<uint8_t>(Peek()));
      const uint32_t digit = absl::ascii_isdigit(static_cast<uint8_t>(c)) ? c - '0'
                             : c >= 'a' && c <= 'f'                       ? c - 'a' + 10
                                                                          : base;
      if (AtEnd() || digit >= base) return false;
      *value = *value * base + digit;
    }
    return true;
  }

  static bool AppendUtf8(uint32_t rune, std::string* out) {
    if (rune > 0x10ffff || (rune >= 0xd800 && rune < 0xe000)) return false;
    const int more = rune < 0x80 ? 0 : rune < 0x800 ? 1 : rune < 0x10000 ? 2 : 3;
    constexpr uint8_t kLead[] = {0x00, 0xc0, 0xe0, 0xf0};
    out->push_back(static_cast<char>(kLead[more] | rune >> (6 * more)));
    for (int i = more - 1; i >= 0; --i)
      out->push_back(static_cast<char>(0x80 | (rune >> (6 * i) & 0x3f)));
    return true;
  }

  const absl::string_view input_;
  size_t at_ = 0;
};

Filter::Filter() = default;
Filter::~Filter() = default;
Filter::Filter(Filter&&) noexcept = default;
Filter& Filter::operator=(Filter&&) noexcept = default;

absl::StatusOr<Filter> Filter::Parse(absl::Span<const std::string> filters) {
  Filter out;
  bool everything = filters.empty();
  for (const std::string& filter : filters) {
    if (filter.empty()) {
      everything = true;  // buildx sends one empty filter for none; go on checking the others
      continue;
    }
    KILN_ASSIGN_OR_RETURN(std::vector<Selector> selectors, FilterParser(filter).Parse());
    out.any_of_.push_back(std::move(selectors));
  }
  if (everything) out.any_of_.clear();
  return out;
}

bool Filter::Selector::Holds(FieldGetter field) const {
  const std::optional<std::string> found = field(path);
  switch (op) {
    case Operator::kPresent:
      return found.has_value();
    case Operator::kEqual:
      return found.has_value() && *found == value;
    case Operator::kNotEqual:
      return found.value_or("") != value;
    case Operator::kMatches:
      return RE2::PartialMatch(found.value_or(""), *pattern);
  }
  return false;
}

bool Filter::Matches(FieldGetter field) const {
  if (any_of_.empty()) return true;
  for (const std::vector<Selector>& selectors : any_of_) {
    bool all = true;
    for (const Selector& selector : selectors) all = all && selector.Holds(field);
    if (all) return true;
  }
  return false;
}

}  // namespace kiln::store
