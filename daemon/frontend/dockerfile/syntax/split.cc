#include "daemon/frontend/dockerfile/syntax/split.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"
#include "daemon/frontend/dockerfile/syntax/json_array.h"
#include "daemon/frontend/dockerfile/syntax/unicode.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {

namespace {

// How the text after keyword and flags is cut.
enum class ArgStyle { kJsonOrString, kJsonOrWords, kWords, kString, kPairs, kNames, kHealth };

ArgStyle StyleOf(Keyword keyword) {
  switch (keyword) {
    case Keyword::kCmd:
    case Keyword::kEntrypoint:
    case Keyword::kRun:
    case Keyword::kShell:
      return ArgStyle::kJsonOrString;
    case Keyword::kAdd:
    case Keyword::kCopy:
    case Keyword::kVolume:
      return ArgStyle::kJsonOrWords;
    case Keyword::kExpose:
    case Keyword::kFrom:
      return ArgStyle::kWords;
    case Keyword::kEnv:
    case Keyword::kLabel:
      return ArgStyle::kPairs;
    case Keyword::kArg:
      return ArgStyle::kNames;
    case Keyword::kHealthcheck:
      return ArgStyle::kHealth;
    case Keyword::kMaintainer:
    case Keyword::kStopSignal:
    case Keyword::kUser:
    case Keyword::kWorkdir:
    case Keyword::kOnbuild:  // its text is cut by itself
    case Keyword::kUnknown:
      break;
  }
  return ArgStyle::kString;
}

constexpr absl::string_view kBlanks = "\t\v\f\r ";

// Cuts `text` before its first white space and drops that.
std::pair<absl::string_view, absl::string_view> CutAtBlanks(absl::string_view text) {
  const size_t end = text.find_first_of(kBlanks);
  if (end == absl::string_view::npos) return {text, {}};
  const size_t next = text.find_first_not_of(kBlanks, end);
  return {text.substr(0, end),
          next == absl::string_view::npos ? absl::string_view() : text.substr(next)};
}

// Takes the flags off the beginning of `text`.
std::vector<std::string> TakeFlags(absl::string_view* text, char escape) {
  std::vector<std::string> flags;
  while (true) {
    size_t at = 0;
    while (at < text->size() && absl::ascii_isspace((*text)[at])) ++at;
    text->remove_prefix(at);
    if (!absl::StartsWith(*text, "--")) return flags;
    std::string word;
    char quote = '\0';
    at = 0;
    for (; at < text->size(); ++at) {
      char c = (*text)[at];
      if (quote == '\0' && absl::ascii_isspace(c)) break;
      if (quote == '\0' && (c == '\'' || c == '"')) {
        quote = c;
        continue;
      }
      if (c == quote) {
        quote = '\0';
        continue;
      }
      if (c == escape) {
        if (++at == text->size()) break;  // nothing left to escape
        c = (*text)[at];
      }
      word.push_back(c);
    }
    text->remove_prefix(std::min(at, text->size()));
    if (word == "--") return flags;
    flags.push_back(std::move(word));
  }
}

// Cuts at Unicode white space. Quotes and escapes group, and stay in the words.
std::vector<std::string> QuotedWords(absl::string_view text, char escape) {
  std::vector<std::string> words;
  std::string word;
  bool in_word = false;
  char quote = '\0';
  while (!text.empty()) {
    const Rune rune = DecodeRune(text);
    const char c = text[0];
    if (quote == '\0' && IsSpace(rune.value)) {
      if (in_word) words.push_back(std::move(word));
      word.clear();
      in_word = false;
      text.remove_prefix(rune.width);
      continue;
    }
    if (c == escape && quote != '\'') {
      text.remove_prefix(1);
      if (text.empty()) break;  // nothing left to escape
      const size_t width = DecodeRune(text).width;
      absl::StrAppend(&word, absl::string_view(&escape, 1), text.substr(0, width));
      text.remove_prefix(width);
      in_word = true;
      continue;
    }
    if (c == quote) {
      quote = '\0';
    } else if (quote == '\0' && (c == '\'' || c == '"')) {
      quote = c;
    }
    absl::StrAppend(&word, text.substr(0, rune.width));
    text.remove_prefix(rune.width);
    in_word = true;
  }
  if (in_word) words.push_back(std::move(word));
  return words;
}

absl::StatusOr<std::vector<KeyValue>> Pairs(absl::string_view text, absl::string_view instruction,
                                            char escape) {
  std::vector<KeyValue> pairs;
  std::vector<std::string> words = QuotedWords(text, escape);
  if (words.empty()) return pairs;
  if (!absl::StrContains(words[0], '=')) {
    const auto [key, value] = CutAtBlanks(text);
    if (key.size() == text.size())
      return absl::InvalidArgumentError(absl::StrCat(instruction, " must have two arguments"));
    pairs.push_back({std::string(key), std::string(value), /*legacy=*/true});
    return pairs;
  }
  for (const std::string& word : words) {
    const size_t equals = word.find('=');
    if (equals == std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat("Syntax error - can't find = in ", Quote(word),
                                                     ". Must be of the form: name=value"));
    }
    pairs.push_back({word.substr(0, equals), word.substr(equals + 1), /*legacy=*/false});
  }
  return pairs;
}

// `text` has no white space at its ends.
void AppendWords(absl::string_view text, std::vector<std::string>* out) {
  while (!text.empty()) {
    const auto [word, rest] = CutAtBlanks(text);
    out->emplace_back(word);
    text = rest;
  }
}

absl::Status SplitArgs(absl::string_view text, char escape, SplitInstruction* out) {
  if (text.empty()) return absl::OkStatus();
  const ArgStyle style = StyleOf(out->keyword);
  if (style == ArgStyle::kPairs) {
    KILN_ASSIGN_OR_RETURN(out->pairs,
                          Pairs(text, out->keyword == Keyword::kEnv ? "ENV" : "LABEL", escape));
    return absl::OkStatus();
  }
  if (style == ArgStyle::kNames) {
    out->args = QuotedWords(text, escape);
    return absl::OkStatus();
  }
  if (style == ArgStyle::kHealth) {
    const auto [type, rest] = CutAtBlanks(text);
    out->args.emplace_back(type);
    text = rest;
    if (text.empty()) return absl::OkStatus();
  }
  if (style != ArgStyle::kWords && style != ArgStyle::kString) {
    KILN_ASSIGN_OR_RETURN(auto strings, ParseJsonStrings(text));
    if (strings.has_value()) {
      out->json = true;
      std::move(strings->begin(), strings->end(), std::back_inserter(out->args));
      return absl::OkStatus();
    }
  }
  if (style == ArgStyle::kWords || style == ArgStyle::kJsonOrWords) {
    AppendWords(text, &out->args);
  } else {
    out->args.emplace_back(text);
  }
  return absl::OkStatus();
}

// One level: for ONBUILD, `rest` is the instruction within.
absl::Status SplitOne(absl::string_view line, char escape, SplitInstruction* out,
                      absl::string_view* rest) {
  const auto [word, after] = CutAtBlanks(TrimSpace(line));
  *rest = after;
  out->word = std::string(word);
  out->keyword = ToKeyword(word);
  out->flags = TakeFlags(rest, escape);
  *rest = TrimSpace(*rest);
  if (out->keyword == Keyword::kOnbuild || out->keyword == Keyword::kUnknown)
    return absl::OkStatus();
  KILN_RETURN_IF_ERROR(SplitArgs(*rest, escape, out));
  out->takes_heredocs =
      !out->json && (out->keyword == Keyword::kRun || out->keyword == Keyword::kCopy ||
                     out->keyword == Keyword::kAdd);
  return absl::OkStatus();
}

}  // namespace

absl::Span<const std::string> KeywordNames() {
  static const auto& names = *new std::vector<std::string>{
      "ADD",    "ARG",   "CMD",         "COPY",  "ENTRYPOINT", "ENV",
      "EXPOSE", "FROM",  "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD",
      "RUN",    "SHELL", "STOPSIGNAL",  "USER",  "VOLUME",     "WORKDIR"};
  return names;
}

Keyword ToKeyword(absl::string_view word) {
  const absl::Span<const std::string> names = KeywordNames();
  for (size_t i = 0; i < names.size(); ++i) {
    if (absl::EqualsIgnoreCase(word, names[i])) return static_cast<Keyword>(i);
  }
  return Keyword::kUnknown;
}

absl::StatusOr<SplitInstruction> Split(absl::string_view line, char escape) {
  SplitInstruction outer;
  absl::string_view rest;
  KILN_RETURN_IF_ERROR(SplitOne(line, escape, &outer, &rest));
  // Of what is inside ONBUILD only the first keyword counts here, but all of it must be readable.
  for (int level = 1; outer.keyword == Keyword::kOnbuild && !rest.empty(); ++level) {
    SplitInstruction inner;
    KILN_RETURN_IF_ERROR(SplitOne(rest, escape, &inner, &rest));
    if (level == 1) {
      outer.trigger_word = inner.word;
      outer.takes_heredocs = inner.takes_heredocs;
    }
    if (inner.keyword != Keyword::kOnbuild) break;
  }
  return outer;
}

}  // namespace kiln::daemon::dockerfile
