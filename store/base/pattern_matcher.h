#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace kiln {

namespace internal {

// One step of a compiled pattern. A pattern is matched by following all its steps at once, so the
// cost is O(steps * path length) whatever the pattern.
struct PatternStep {
  enum class Kind : uint8_t {
    kChar,      // exactly `ch`
    kAny,       // one character, not '/'
    kClass,     // one character in (or not in) `ranges`
    kStar,      // any number of characters, no '/'
    kAll,       // any number of characters
    kDirsOpen,  // optionally enters the loop that follows
    kDirsLoop,  // any characters up to and including some '/'
  };
  Kind kind = Kind::kChar;
  bool negated = false;
  char32_t ch = 0;
  std::vector<std::pair<char32_t, char32_t>> ranges;
};

}  // namespace internal

// What a directory's match against each pattern was; passed down to its children in a walk. The
// default value means "nothing known", as for the top of a walk.
class PatternMatchInfo {
 public:
  bool known() const { return !matched_.empty(); }

 private:
  friend class PatternMatcher;
  std::vector<bool> matched_;  // by pattern: it matched the path or a parent of it
};

// PatternMatcher decides whether paths match a list of patterns, with the meaning of .dockerignore
// files: `*`, `?`, `[a-z]`, `\x` as Go's filepath.Match; `**` any number of directories; a leading
// `!` makes exceptions; the last pattern that matches wins; a pattern that matches a directory
// matches everything below it.
//
// Paths are relative, '/'-separated and clean ("a/b"). Bytes that are not UTF-8 count as one
// character each. Immutable; thread-safe.
class PatternMatcher {
 public:
  // Matches nothing.
  PatternMatcher() = default;

  // Blank patterns are dropped, the others trimmed and cleaned. kInvalidArgument names a malformed
  // one.
  static absl::StatusOr<PatternMatcher> Create(absl::Span<const std::string> patterns);

  // True when `path` or a parent of it is matched, and no later exception takes it out.
  bool Matches(absl::string_view path) const;

  // The same, for walks: `parent` is what the call for the parent directory stored in `*info`.
  // O(patterns * path length); `info` may be null.
  bool MatchesUsingParentResults(absl::string_view path, const PatternMatchInfo& parent,
                                 PatternMatchInfo* info) const;

  // False only if nothing below the directory `dir` can match, so that a walk may leave it out.
  // `info` is what MatchesUsingParentResults stored for `dir`.
  bool MayMatchBelow(absl::string_view dir, const PatternMatchInfo& info) const;

  // False only if no exception can match below `dir`: a matched `dir` is matched as a whole.
  bool ExceptionMayMatchBelow(absl::string_view dir) const;

  bool has_exceptions() const { return has_exceptions_; }
  bool empty() const { return patterns_.empty(); }

 private:
  struct Pattern {
    enum class Kind : uint8_t { kExact, kPrefix, kSuffix, kSteps };
    Kind kind = Kind::kExact;
    bool exception = false;
    std::string text;  // what the kinds other than kSteps compare with
    std::vector<internal::PatternStep> steps;

    bool Match(absl::string_view path) const;
    bool MayMatchBelow(absl::string_view dir) const;
  };

  static absl::StatusOr<Pattern> Compile(absl::string_view pattern);

  std::vector<Pattern> patterns_;
  bool has_exceptions_ = false;
};

// Go's filepath.Match: `*` and `?` do not cross '/', and the whole name must match.
// kInvalidArgument "syntax error in pattern" for a malformed pattern, whatever the name.
absl::StatusOr<bool> MatchPath(absl::string_view pattern, absl::string_view name);

// True when `name` has an unescaped '*', '?' or '['.
bool HasWildcards(absl::string_view name);

// Splits a clean path before its first component with wildcards: "/a/b*/c" -> {"/a", "b*/c"}.
// The second part is empty without wildcards. The first is "/" or "" at the top.
std::pair<std::string, std::string> SplitWildcards(absl::string_view path);

}  // namespace kiln
