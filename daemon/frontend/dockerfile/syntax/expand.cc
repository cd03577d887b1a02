#include "daemon/frontend/dockerfile/syntax/expand.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/frontend/dockerfile/syntax/glob.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"
#include "daemon/frontend/dockerfile/syntax/unicode.h"
#include "proto/utf8.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {

namespace {

// References may be nested, and values repeat: both need a limit, or a small file eats the stack or
// the memory of the daemon. Neither can be met by a value that a process would still accept.
constexpr int kMaxNesting = 200;
constexpr size_t kMaxResult = 16 << 20;

absl::Status Fail(absl::string_view why) { return absl::InvalidArgumentError(why); }

absl::Status Unclosed(absl::string_view what) {
  return Fail(absl::StrCat("unexpected end of statement while looking for matching ", what));
}

absl::Status CheckSize(const std::string& result) {
  if (result.size() <= kMaxResult) return absl::OkStatus();
  return Fail(absl::StrCat("result is larger than ", kMaxResult, " bytes"));
}

// Collects the words that a text falls into.
class WordSplitter {
 public:
  // White space in `text` separates words.
  void Add(absl::string_view text) {
    while (!text.empty()) {
      const Rune rune = DecodeRune(text);
      if (IsSpace(rune.value)) {
        Flush();
      } else {
        AppendRune(rune.value, &word_);
      }
      text.remove_prefix(rune.width);
    }
  }
  // White space in `text` is part of the word.
  void AddWhole(absl::string_view text) { absl::StrAppend(&word_, text); }
  // Forgets the word that is being collected.
  void Drop() { word_.clear(); }

  std::vector<std::string> Take() {
    Flush();
    return std::move(words_);
  }

 private:
  void Flush() {
    if (!word_.empty()) words_.push_back(std::move(word_));
    word_.clear();
  }

  std::vector<std::string> words_;
  std::string word_;
};

// One pass over one text, which must be valid UTF-8.
class Expander {
 public:
  Expander(absl::string_view text, const ExpandOptions& options, VariableLookup lookup,
           WordSplitter* splitter)
      : text_(text), options_(options), lookup_(lookup), splitter_(splitter) {}

  absl::Status Run(std::string* out) { return Until('\0', options_.keep_escapes, splitter_, out); }

 private:
  bool AtEnd() const { return at_ == text_.size(); }
  bool At(char c) const { return !AtEnd() && text_[at_] == c; }
  // The character here with all its bytes; "" at the end.
  absl::string_view Peek() const {
    return AtEnd() ? absl::string_view() : text_.substr(at_, DecodeRune(text_.substr(at_)).width);
  }
  absl::string_view Take() {
    const absl::string_view rune = Peek();
    at_ += rune.size();
    return rune;
  }

  // Appends the expansion of what comes before the character `stop`, which is taken, too. '\0': of
  // all. `words` may be null.
  absl::Status Until(char stop, bool keep_escapes, WordSplitter* words, std::string* out);
  absl::Status SingleQuoted(std::string* out);
  absl::Status DoubleQuoted(bool keep_escapes, std::string* out);
  // Everything that begins with '$'.
  absl::Status Reference(std::string* out);
  absl::Status Braced(std::string* out);
  absl::Status Substitution(absl::string_view name, bool null_is_unset, std::string* out);
  absl::Status Replacement(absl::string_view name, std::string* out);
  // Until('}' or '/') for a part of a substitution. `missing` is the error at the end of the text.
  absl::StatusOr<std::string> Part(char stop, bool keep_escapes, absl::string_view missing);
  absl::string_view Name();
  // Takes characters that stand for themselves; `also` does not, besides the usual ones.
  absl::string_view TakePlain(char also);

  const absl::string_view text_;
  const ExpandOptions& options_;
  const VariableLookup lookup_;
  WordSplitter* const splitter_;
  size_t at_ = 0;
  int nesting_ = 0;
};

absl::Status Expander::Until(char stop, bool keep_escapes, WordSplitter* words, std::string* out) {
  while (!AtEnd()) {
    const char c = text_[at_];
    if (stop != '\0' && c == stop) {
      ++at_;
      return absl::OkStatus();
    }
    const size_t before = out->size();
    bool whole = true;  // part of the word even if it is white space
    if (c == '$') {
      KILN_RETURN_IF_ERROR(Reference(out));
      whole = false;
    } else if (c == '\'' && !options_.ignore_quotes) {
      KILN_RETURN_IF_ERROR(SingleQuoted(out));
    } else if (c == '"' && !options_.ignore_quotes) {
      KILN_RETURN_IF_ERROR(DoubleQuoted(keep_escapes, out));
    } else if (c == options_.escape) {
      ++at_;
      if (keep_escapes) out->push_back(c);
      absl::StrAppend(out, Take());
    } else if (words != nullptr && absl::StartsWith(text_.substr(at_), "<<")) {
      // What a here-document is called may stand apart: it belongs to the same word.
      size_t end = at_ + 2;
      while (end < text_.size() && absl::string_view("\t\r ").find(text_[end]) != text_.npos) ++end;
      absl::StrAppend(out, text_.substr(at_, end - at_));
      at_ = end;
    } else {
      absl::StrAppend(out, TakePlain(stop));
      whole = false;
    }
    KILN_RETURN_IF_ERROR(CheckSize(*out));
    if (words == nullptr) continue;
    const absl::string_view added = absl::string_view(*out).substr(before);
    if (whole) {
      words->AddWhole(added);
    } else {
      words->Add(added);
    }
  }
  return stop == '\0' ? absl::OkStatus() : Unclosed(absl::string_view(&stop, 1));
}

absl::string_view Expander::TakePlain(char also) {
  const size_t begin = at_++;
  while (!AtEnd()) {
    const char c = text_[at_];
    if (c == '$' || c == '\'' || c == '"' || c == '<' || c == also || c == options_.escape) break;
    ++at_;
  }
  return text_.substr(begin, at_ - begin);
}

absl::Status Expander::SingleQuoted(std::string* out) {
  const size_t end = text_.find('\'', at_ + 1);
  if (end == absl::string_view::npos) {
    at_ = text_.size();
    return Unclosed("single-quote");
  }
  const size_t trim = options_.keep_quotes ? 0 : 1;
  absl::StrAppend(out, text_.substr(at_ + trim, end + 1 - at_ - 2 * trim));
  at_ = end + 1;
  return absl::OkStatus();
}

absl::Status Expander::DoubleQuoted(bool keep_escapes, std::string* out) {
  ++at_;
  if (options_.keep_quotes) out->push_back('"');
  while (!AtEnd()) {
    const char c = text_[at_];
    if (c == '"') {
      ++at_;
      if (options_.keep_quotes) out->push_back('"');
      return absl::OkStatus();
    }
    if (c == '$') {
      KILN_RETURN_IF_ERROR(Reference(out));
    } else if (c == options_.escape) {
      ++at_;
      if (keep_escapes) out->push_back(c);
      if (AtEnd()) break;
      // Before any other character it stands for itself; kept escapes are read a second time, so
      // that it takes two of them then.
      const bool escapes = At('"') || At('$') || At(options_.escape);
      out->push_back(escapes ? text_[at_++] : c);
    } else {
      absl::StrAppend(out, TakePlain('"'));
    }
    KILN_RETURN_IF_ERROR(CheckSize(*out));
  }
  return Unclosed("double-quote");
}

absl::Status Expander::Reference(std::string* out) {
  ++at_;
  if (At('{')) {
    if (nesting_ == kMaxNesting) return Fail("syntax error: substitutions nested too deeply");
    ++nesting_;
    absl::Status status = Braced(out);
    --nesting_;
    return status;
  }
  const absl::string_view name = Name();
  if (name.empty()) {
    out->push_back('$');
    return absl::OkStatus();
  }
  const std::optional<absl::string_view> value = lookup_(name);
  if (value.has_value()) {
    absl::StrAppend(out, *value);
  } else if (options_.keep_unset) {
    absl::StrAppend(out, "$", name);
  }
  return absl::OkStatus();
}

absl::Status Expander::Braced(std::string* out) {
  constexpr absl::string_view kMissingBrace = "syntax error: missing '}'";
  ++at_;
  if (AtEnd()) return Fail(kMissingBrace);
  if (At('{') || At('}') || At(':')) return Fail("syntax error: bad substitution");
  const absl::string_view name = Name();
  if (AtEnd()) return Fail(kMissingBrace);
  if (At('}')) {
    ++at_;
    const std::optional<absl::string_view> value = lookup_(name);
    if (value.has_value()) {
      absl::StrAppend(out, *value);
    } else if (options_.keep_unset) {
      absl::StrAppend(out, "${", name, "}");
    }
    return absl::OkStatus();
  }
  if (At('/')) {
    ++at_;
    return Replacement(name, out);
  }
  if (At(':')) {
    ++at_;
    if (AtEnd()) return Fail(kMissingBrace);
    return Substitution(name, /*null_is_unset=*/true, out);
  }
  if (absl::string_view("+-?#%").find(text_[at_]) == absl::string_view::npos)
    return Fail(absl::StrCat("unsupported modifier (", Peek(), ") in substitution"));
  return Substitution(name, /*null_is_unset=*/false, out);
}

absl::StatusOr<std::string> Expander::Part(char stop, bool keep_escapes,
                                           absl::string_view missing) {
  std::string part;
  // BuildKit collects words in one buffer, which the part overwrites: `80${X:-81}` is the word 81.
  if (splitter_ != nullptr) splitter_->Drop();
  const absl::Status status = Until(stop, keep_escapes, nullptr, &part);
  if (!status.ok()) return AtEnd() ? Fail(missing) : status;
  return part;
}

absl::Status Expander::Substitution(absl::string_view name, bool null_is_unset, std::string* out) {
  const absl::string_view modifier = Take();
  const std::string shown = absl::StrCat(null_is_unset ? ":" : "", modifier);
  const bool trims = modifier == "#" || modifier == "%";
  const auto unsupported = [&] {
    return Fail(absl::StrCat("unsupported modifier (", shown, ") in substitution"));
  };
  if (null_is_unset && trims) return unsupported();
  KILN_ASSIGN_OR_RETURN(std::string word, Part('}', trims, "syntax error: missing '}'"));
  const std::optional<absl::string_view> value = lookup_(name);
  if (options_.keep_unset && !value.has_value()) {
    absl::StrAppend(out, "${", name, shown, word, "}");
    return absl::OkStatus();
  }
  const bool missing = !value.has_value() || (null_is_unset && value->empty());
  if (modifier == "-") {
    absl::StrAppend(out, missing ? absl::string_view(word) : *value);
  } else if (modifier == "+") {
    if (!missing) absl::StrAppend(out, word);
  } else if (modifier == "?") {
    if (missing) {
      if (word.empty())
        word = absl::StrCat("is not allowed to be ", value.has_value() ? "empty" : "unset");
      return Fail(absl::StrCat(name, ": ", word));
    }
    absl::StrAppend(out, *value);
  } else if (trims) {
    const bool longest = absl::StartsWith(word, modifier);
    const GlobMatch match = longest ? GlobMatch::kLongest : GlobMatch::kShortest;
    const absl::string_view pattern = absl::string_view(word).substr(longest ? 1 : 0);
    const auto trim = modifier == "#" ? TrimGlobPrefix : TrimGlobSuffix;
    KILN_ASSIGN_OR_RETURN(const std::string trimmed, trim(value.value_or(""), pattern, match));
    absl::StrAppend(out, trimmed);
  } else {
    return unsupported();
  }
  return absl::OkStatus();
}

absl::Status Expander::Replacement(absl::string_view name, std::string* out) {
  const bool all = At('/');
  if (all) ++at_;
  KILN_ASSIGN_OR_RETURN(const std::string pattern,
                        Part('/', true, "syntax error: missing '/' in ${}"));
  KILN_ASSIGN_OR_RETURN(const std::string with, Part('}', true, "syntax error: missing '}'"));
  const std::optional<absl::string_view> value = lookup_(name);
  if (options_.keep_unset && !value.has_value()) {
    absl::StrAppend(out, "${", name, "/", pattern, "/", with, "}");
    return absl::OkStatus();
  }
  KILN_ASSIGN_OR_RETURN(const std::string replaced,
                        ReplaceGlob(value.value_or(""), pattern, with, all, kMaxResult));
  absl::StrAppend(out, replaced);
  return absl::OkStatus();
}

absl::string_view Expander::Name() {
  const size_t begin = at_;
  if (!AtEnd() && IsDigit(DecodeRune(text_.substr(at_)).value)) {
    // A positional parameter: $1x is $1 and "x".
    while (!AtEnd() && IsDigit(DecodeRune(text_.substr(at_)).value)) Take();
    return text_.substr(begin, at_ - begin);
  }
  if (!AtEnd() && absl::string_view("@*#?-$!").find(text_[at_]) != absl::string_view::npos)
    return Take();
  while (!AtEnd()) {
    const char32_t rune = DecodeRune(text_.substr(at_)).value;
    if (!IsLetter(rune) && !IsDigit(rune) && rune != '_') break;
    Take();
  }
  return text_.substr(begin, at_ - begin);
}

bool IsPlain(absl::string_view text, char escape) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x80 || c == '$' || c == '\'' || c == '"' || c == escape)
      return false;
  }
  return true;
}

absl::Status Process(absl::string_view text, const ExpandOptions& options, VariableLookup lookup,
                     WordSplitter* splitter, std::string* out) {
  const absl::string_view bare = StripBom(text);
  out->reserve(bare.size() + 16);  // mostly enough
  std::string repaired;
  if (!IsValidUtf8(bare)) repaired = ToValidUtf8(bare);
  const absl::Status status =
      Expander(repaired.empty() ? bare : repaired, options, lookup, splitter).Run(out);
  if (status.ok()) return status;
  return Annotate(status, absl::StrCat("failed to process ", Quote(text)));
}

}  // namespace

absl::StatusOr<std::string> ExpandWord(absl::string_view text, const ExpandOptions& options,
                                       VariableLookup lookup) {
  if (IsPlain(text, options.escape)) return std::string(text);
  std::string expansion;
  KILN_RETURN_IF_ERROR(Process(text, options, lookup, nullptr, &expansion));
  return expansion;
}

absl::StatusOr<Expansion> ExpandTraced(absl::string_view text, const ExpandOptions& options,
                                       VariableLookup lookup) {
  Expansion expansion;
  KILN_ASSIGN_OR_RETURN(expansion.text, ExpandWord(text, options, [&](absl::string_view name) {
                          const std::optional<absl::string_view> value = lookup(name);
                          (value.has_value() ? expansion.set : expansion.unset).emplace(name);
                          return value;
                        }));
  return expansion;
}

absl::StatusOr<std::vector<std::string>> ExpandWords(absl::string_view text,
                                                     const ExpandOptions& options,
                                                     VariableLookup lookup) {
  std::string expansion;
  WordSplitter splitter;
  KILN_RETURN_IF_ERROR(Process(text, options, lookup, &splitter, &expansion));
  return splitter.Take();
}

}  // namespace kiln::daemon::dockerfile
