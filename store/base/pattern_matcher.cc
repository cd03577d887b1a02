#include "store/base/pattern_matcher.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "store/base/status_macros.h"

namespace kiln {

namespace {

using internal::PatternStep;
using Kind = PatternStep::Kind;

// Bytes that are no UTF-8 get code points of their own, past the last real one.
constexpr char32_t kInvalidByteBase = 0x110000;

// Takes one character off the front of `text`, which is not empty.
char32_t TakeChar(absl::string_view* text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>((*text)[i]); };
  const unsigned char lead = byte(0);
  size_t length = 1;
  char32_t ch = lead;
  char32_t smallest = 0;
  if (lead >= 0xF0 && lead < 0xF8) {
    length = 4, ch = lead & 0x07, smallest = 0x10000;
  } else if (lead >= 0xE0 && lead < 0xF0) {
    length = 3, ch = lead & 0x0F, smallest = 0x800;
  } else if (lead >= 0xC0 && lead < 0xE0) {
    length = 2, ch = lead & 0x1F, smallest = 0x80;
  }
  bool valid = lead < 0x80 || (length > 1 && text->size() >= length);
  for (size_t i = 1; valid && i < length; ++i) {
    valid = (byte(i) & 0xC0) == 0x80;
    ch = (ch << 6) | (byte(i) & 0x3F);
  }
  if (length > 1 && (ch < smallest || ch > 0x10FFFF || (ch >= 0xD800 && ch < 0xE000)))
    valid = false;
  if (!valid) {
    text->remove_prefix(1);
    return kInvalidByteBase + lead;
  }
  text->remove_prefix(length);
  return ch;
}

absl::Status SyntaxError(absl::string_view pattern) {
  return absl::InvalidArgumentError(absl::StrCat("syntax error in pattern \"", pattern, "\""));
}

// One end of a range in a class; false when malformed (Go filepath.Match's grammar).
bool TakeClassChar(absl::string_view* rest, char32_t* ch) {
  if (rest->empty() || rest->front() == '-' || rest->front() == ']') return false;
  if (rest->front() == '\\') {
    rest->remove_prefix(1);
    if (rest->empty()) return false;
  }
  *ch = TakeChar(rest);
  return *ch < kInvalidByteBase && !rest->empty();
}

// Parses what follows '['.
bool TakeClass(absl::string_view* rest, PatternStep* step) {
  step->kind = Kind::kClass;
  step->negated = absl::ConsumePrefix(rest, "^");
  for (;;) {
    if (!step->ranges.empty() && absl::ConsumePrefix(rest, "]")) return true;
    char32_t low = 0;
    if (!TakeClassChar(rest, &low)) return false;
    char32_t high = low;
    if (absl::ConsumePrefix(rest, "-") && !TakeClassChar(rest, &high)) return false;
    step->ranges.emplace_back(low, high);
  }
}

PatternStep CharStep(char32_t ch) {
  PatternStep step;
  step.ch = ch;
  return step;
}

PatternStep KindStep(Kind kind) {
  PatternStep step;
  step.kind = kind;
  return step;
}

// `double_star` gives "**" its meaning; without it the pattern is Go's filepath.Match.
absl::StatusOr<std::vector<PatternStep>> CompileSteps(absl::string_view pattern, bool double_star) {
  std::vector<PatternStep> steps;
  absl::string_view rest = pattern;
  while (!rest.empty()) {
    const char c = rest.front();
    if (c == '*') {
      rest.remove_prefix(1);
      if (!double_star || !absl::ConsumePrefix(&rest, "*")) {
        steps.push_back(KindStep(Kind::kStar));
        continue;
      }
      absl::ConsumePrefix(&rest, "/");
      if (rest.empty()) {
        steps.push_back(KindStep(Kind::kAll));
      } else {
        steps.push_back(KindStep(Kind::kDirsOpen));
        steps.push_back(KindStep(Kind::kDirsLoop));
      }
    } else if (c == '?') {
      rest.remove_prefix(1);
      steps.push_back(KindStep(Kind::kAny));
    } else if (c == '[') {
      rest.remove_prefix(1);
      PatternStep step;
      if (!TakeClass(&rest, &step)) return SyntaxError(pattern);
      steps.push_back(std::move(step));
    } else {
      if (c == '\\') rest.remove_prefix(1);
      if (rest.empty()) return SyntaxError(pattern);
      steps.push_back(CharStep(TakeChar(&rest)));
    }
  }
  return steps;
}

bool InClass(const PatternStep& step, char32_t ch) {
  const bool in = std::any_of(step.ranges.begin(), step.ranges.end(), [&](const auto& range) {
    return range.first <= ch && ch <= range.second;
  });
  return in != step.negated;
}

// The set of steps that may come next, all alternatives followed at once.
class StepSet {
 public:
  explicit StepSet(const std::vector<PatternStep>& steps)
      : steps_(steps), now_(steps.size() + 1), next_(steps.size() + 1) {
    Enter(&now_, 0);
  }

  void Feed(absl::string_view text) {
    while (!text.empty() && live_) Advance(TakeChar(&text));
  }
  bool done() const { return now_[steps_.size()]; }
  // Something more could still lead to a match. The end itself takes no more characters.
  bool can_continue() const {
    return std::find(now_.begin(), now_.end() - 1, true) != now_.end() - 1;
  }

 private:
  void Enter(std::vector<bool>* set, size_t i) {
    for (;; ++i) {
      (*set)[i] = true;
      live_ = true;
      if (i == steps_.size()) return;
      const Kind kind = steps_[i].kind;
      if (kind == Kind::kDirsOpen) {
        (*set)[i + 1] = true;
        ++i;  // and skip both
      } else if (kind != Kind::kStar && kind != Kind::kAll) {
        return;
      }
    }
  }

  void Advance(char32_t ch) {
    std::fill(next_.begin(), next_.end(), false);
    live_ = false;
    for (size_t i = 0; i < steps_.size(); ++i) {
      if (now_[i]) Take(i, ch);
    }
    now_.swap(next_);
  }

  void Take(size_t i, char32_t ch) {
    const PatternStep& step = steps_[i];
    switch (step.kind) {
      case Kind::kChar:
        if (ch == step.ch) Enter(&next_, i + 1);
        break;
      case Kind::kAny:
        if (ch != '/') Enter(&next_, i + 1);
        break;
      case Kind::kClass:
        if (InClass(step, ch)) Enter(&next_, i + 1);
        break;
      case Kind::kStar:
        if (ch != '/') Enter(&next_, i);
        break;
      case Kind::kAll:
        Enter(&next_, i);
        break;
      case Kind::kDirsOpen:
        break;  // the loop is in the set as well
      case Kind::kDirsLoop:
        next_[i] = true;
        live_ = true;
        if (ch == '/') Enter(&next_, i + 1);
        break;
    }
  }

  const std::vector<PatternStep>& steps_;
  std::vector<bool> now_, next_;
  bool live_ = true;
};

bool IsAsciiSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

absl::string_view Trim(absl::string_view text) {
  while (!text.empty() && IsAsciiSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsAsciiSpace(text.back())) text.remove_suffix(1);
  return text;
}

// Go's filepath.Clean: ".." may climb in a relative path.
std::string CleanPattern(absl::string_view path) {
  const bool rooted = absl::StartsWith(path, "/");
  std::vector<absl::string_view> parts;
  for (absl::string_view part : absl::StrSplit(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      parts.push_back(part);
    } else if (!parts.empty() && parts.back() != "..") {
      parts.pop_back();
    } else if (!rooted) {
      parts.push_back(part);
    }
  }
  std::string out = absl::StrCat(rooted ? "/" : "", absl::StrJoin(parts, "/"));
  return out.empty() ? "." : out;
}

}  // namespace

absl::StatusOr<PatternMatcher::Pattern> PatternMatcher::Compile(absl::string_view pattern) {
  Pattern out;
  out.exception = absl::ConsumePrefix(&pattern, "!");
  if (pattern.empty()) return absl::InvalidArgumentError("illegal exclusion pattern: \"!\"");
  KILN_ASSIGN_OR_RETURN(out.steps, CompileSteps(pattern, true));
  const auto special = [](absl::string_view text) {
    return text.find_first_of("*?[]\\") != absl::string_view::npos;
  };
  out.kind = Pattern::Kind::kSteps;
  absl::string_view stem = pattern;
  if (!special(pattern)) {
    out.kind = Pattern::Kind::kExact;
  } else if (absl::ConsumeSuffix(&stem, "**") && !stem.empty() && !special(stem)) {
    out.kind = Pattern::Kind::kPrefix;
  } else if (stem = pattern; absl::ConsumePrefix(&stem, "**") && !special(stem)) {
    // "**x" takes any name that ends in x, as moby's matcher does; "**/x" whole names only.
    out.kind = Pattern::Kind::kSuffix;
  }
  if (out.kind != Pattern::Kind::kSteps) {
    out.text = std::string(out.kind == Pattern::Kind::kExact ? pattern : stem);
    out.steps.clear();
  }
  return out;
}

absl::StatusOr<PatternMatcher> PatternMatcher::Create(absl::Span<const std::string> patterns) {
  PatternMatcher matcher;
  for (const std::string& raw : patterns) {
    const absl::string_view trimmed = Trim(raw);
    if (trimmed.empty()) continue;
    KILN_ASSIGN_OR_RETURN(Pattern pattern, Compile(CleanPattern(trimmed)));
    matcher.has_exceptions_ = matcher.has_exceptions_ || pattern.exception;
    matcher.patterns_.push_back(std::move(pattern));
  }
  return matcher;
}

bool PatternMatcher::Pattern::Match(absl::string_view path) const {
  switch (kind) {
    case Kind::kExact:
      return path == text;
    case Kind::kPrefix:
      return absl::StartsWith(path, text);
    case Kind::kSuffix:
      if (absl::EndsWith(path, text)) return true;
      return absl::StartsWith(text, "/") && path == absl::string_view(text).substr(1);
    case Kind::kSteps: {
      StepSet set(steps);
      set.Feed(path);
      return set.done();
    }
  }
  return false;
}

bool PatternMatcher::Pattern::MayMatchBelow(absl::string_view dir) const {
  if (kind == Kind::kSuffix) return true;
  const std::string prefix = absl::StrCat(dir, "/");
  if (kind == Kind::kExact) return absl::StartsWith(text, prefix);
  if (kind == Kind::kPrefix)
    return absl::StartsWith(text, prefix) || absl::StartsWith(prefix, text);
  StepSet set(steps);
  set.Feed(prefix);
  return set.can_continue();
}

bool PatternMatcher::Matches(absl::string_view path) const {
  return MatchesUsingParentResults(path, PatternMatchInfo(), nullptr);
}

bool PatternMatcher::MatchesUsingParentResults(absl::string_view path,
                                               const PatternMatchInfo& parent,
                                               PatternMatchInfo* info) const {
  std::vector<bool> results(patterns_.size());
  bool matched = false;
  for (size_t i = 0; i < patterns_.size(); ++i) {
    const Pattern& pattern = patterns_[i];
    bool match = parent.known() && parent.matched_[i];
    if (!match) {
      // It could change nothing. Its result for `path` stays unknown, that is false, and children
      // look at their own names only: the clients' walkers do so too, and both must agree.
      if (pattern.exception != matched) continue;
      match = pattern.Match(path);
      for (size_t slash = path.find('/'); !match && !parent.known() && slash != path.npos;
           slash = path.find('/', slash + 1)) {
        match = pattern.Match(path.substr(0, slash));
      }
    }
    results[i] = match;
    if (match) matched = !pattern.exception;
  }
  if (info != nullptr) info->matched_ = std::move(results);
  return matched;
}

bool PatternMatcher::MayMatchBelow(absl::string_view dir, const PatternMatchInfo& info) const {
  for (size_t i = 0; i < patterns_.size(); ++i) {
    if (patterns_[i].exception) continue;
    if (info.known() && info.matched_[i]) return true;
    if (patterns_[i].MayMatchBelow(dir)) return true;
  }
  return false;
}

bool PatternMatcher::ExceptionMayMatchBelow(absl::string_view dir) const {
  return std::any_of(patterns_.begin(), patterns_.end(), [&](const Pattern& pattern) {
    return pattern.exception && pattern.MayMatchBelow(dir);
  });
}

absl::StatusOr<bool> MatchPath(absl::string_view pattern, absl::string_view name) {
  KILN_ASSIGN_OR_RETURN(const std::vector<PatternStep> steps, CompileSteps(pattern, false));
  StepSet set(steps);
  set.Feed(name);
  return set.done();
}

bool HasWildcards(absl::string_view name) {
  for (size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '\\') {
      ++i;
    } else if (name[i] == '*' || name[i] == '?' || name[i] == '[') {
      return true;
    }
  }
  return false;
}

std::pair<std::string, std::string> SplitWildcards(absl::string_view path) {
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    if (HasWildcards(path.substr(begin, end - begin))) {
      absl::string_view plain = path.substr(0, begin);
      if (plain.size() > 1) plain.remove_suffix(1);
      return {std::string(plain), std::string(path.substr(begin))};
    }
    begin = end + 1;
  }
  return {std::string(path), ""};
}

}  // namespace kiln
