#include "store/base/pattern_matcher.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_join.h"

namespace kiln {
namespace {

struct Case {
  std::vector<std::string> patterns;
  std::string path;
  bool want;
};

// The same answer is asked of the one-shot call and of a walk that goes down from the top.
bool WalkDown(const PatternMatcher& matcher, const std::string& path) {
  PatternMatchInfo parent;
  bool matched = false;
  for (size_t slash = path.find('/');; slash = path.find('/', slash + 1)) {
    PatternMatchInfo info;
    matched = matcher.MatchesUsingParentResults(path.substr(0, slash), parent, &info);
    if (slash == std::string::npos) return matched;
    parent = info;
  }
}

TEST(PatternMatcher, Table) {
  const Case cases[] = {
      {{}, "a", false},
      {{""}, "a", false},
      {{"  a  "}, "a", true},
      {{"./a/"}, "a", true},
      {{"a"}, "b", false},
      {{"a"}, "a/b/c", true},
      {{"a/b"}, "a", false},
      {{"a/b"}, "a/b/c", true},
      {{"a/b"}, "a/bc", false},
      {{"/a"}, "a", false},
      {{"*"}, "a", true},
      {{"*"}, "a/b", true},
      {{"*.go"}, "x.go", true},
      {{"*.go"}, "d/x.go", false},
      {{"*/x.go"}, "d/x.go", true},
      {{"*/x.go"}, "d/e/x.go", false},
      {{"?"}, "a", true},
      {{"?"}, "ab", false},
      {{"a?c"}, "a/c", false},
      {{"a?c"},
       "a\xC3\xA9"
       "c",
       true},
      {{"a??c"},
       "a\xC3\xA9"
       "c",
       false},
      {{"a?c"},
       "a\xFF"
       "c",
       true},
      {{"[a-c]x"}, "bx", true},
      {{"[a-c]x"}, "dx", false},
      {{"[^a-c]x"}, "dx", true},
      {{"[^a-c]x"}, "bx", false},
      {{"[!a]"}, "!", true},
      {{"[a\\]]"}, "]", true},
      {{"a\\*b"}, "a*b", true},
      {{"a\\*b"}, "axb", false},
      {{"a.b"}, "axb", false},
      {{"a+(b|c){2}$"}, "a+(b|c){2}$", true},
      {{"**"}, "a", true},
      {{"**"}, "a/b/c", true},
      {{"**/"}, "a/b", true},
      {{"a/**"}, "a", false},
      {{"a/**"}, "a/b", true},
      {{"a/**"}, "a/b/c", true},
      {{"a/**"}, "ab", false},
      {{"**/a"}, "a", true},
      {{"**/a"}, "b/c/a", true},
      {{"**/a"}, "b/ca", false},
      {{"**/a"}, "b/a/x", true},
      {{"**a"}, "ca", true},
      {{"**/*.txt"}, "a.txt", true},
      {{"**/*.txt"}, "d/e/a.txt", true},
      {{"**/*.txt"}, "d/e/a.txtx", false},
      {{"a/**/b"}, "a/b", true},
      {{"a/**/b"}, "a/x/y/b", true},
      {{"a/**/b"}, "a/x/yb", false},
      {{"a**/b"}, "axy/b", true},
      {{"**/foo/**"}, "foo/bar", true},
      {{"**/foo/**"}, "x/foo/bar/baz", true},
      {{"**/foo/**"}, "x/foo", false},
      {{"**/a/**/b/**/*.c"}, "x/a/y/z/b/q.c", true},
      {{"a", "!a"}, "a", false},
      {{"!a", "a"}, "a", true},
      {{"*", "!a"}, "a", false},
      {{"*", "!a"}, "b", true},
      {{"a", "!a/b"}, "a/b", false},
      {{"a", "!a/b"}, "a/b/c", false},
      {{"a", "!a/b"}, "a/c", true},
      {{"*.md", "!README*.md", "README-secret.md"}, "README-secret.md", true},
      {{"*.md", "!README*.md", "README-secret.md"}, "README.md", false},
      {{"**", "!**/*.go"}, "a/b.go", false},
      {{"**", "!**/*.go"}, "a/b.c", true},
      {{"*", "!a/b", "a/b/c"}, "a/b/c", true},
      {{"*", "!a/b", "a/b/c"}, "a/b/d", false},
  };
  for (const Case& c : cases) {
    const std::string what = absl::StrJoin(c.patterns, " , ") + " : " + c.path;
    const auto matcher = PatternMatcher::Create(c.patterns);
    ASSERT_TRUE(matcher.ok()) << what << matcher.status();
    EXPECT_EQ(matcher->Matches(c.path), c.want) << what;
    EXPECT_EQ(WalkDown(*matcher, c.path), c.want) << what << " (walk)";
  }
}

TEST(PatternMatcher, RefusesMalformed) {
  for (const char* pattern : {"!", "[", "[a", "a[]b", "[-a]", "a\\", "[a-]", "x/[^]", "[\\"}) {
    const auto matcher = PatternMatcher::Create({pattern});
    EXPECT_EQ(matcher.status().code(), absl::StatusCode::kInvalidArgument) << pattern;
  }
  EXPECT_EQ(PatternMatcher::Create({"a[b"}).status().message(), "syntax error in pattern \"a[b\"");
  EXPECT_EQ(PatternMatcher::Create({"!"}).status().message(), "illegal exclusion pattern: \"!\"");
}

TEST(PatternMatcher, MayMatchBelow) {
  struct {
    std::vector<std::string> patterns;
    std::string dir;
    bool want;
  } const cases[] = {
      {{"a/b"}, "a", true},        {{"a/b"}, "b", false},       {{"a/b"}, "a/b", true},
      {{"a/b/*.c"}, "a/b", true},  {{"a/b/*.c"}, "a/x", false}, {{"*/b"}, "x", true},
      {{"*/b"}, "x/y", false},     {{"*/b"}, "x/b", true},      {{"**/b"}, "x/y", true},
      {{"a/**/b"}, "x", false},    {{"a/**/b"}, "a/q", true},   {{"*.c"}, "x", false},
      {{"a", "!b/c"}, "b", false}, {{"ab**"}, "abc/d", true},   {{"ab**"}, "x", false},
      {{"a?/x"}, "ab", true},      {{"a?/x"}, "b", false},
  };
  for (const auto& c : cases) {
    const auto matcher = PatternMatcher::Create(c.patterns);
    ASSERT_TRUE(matcher.ok());
    PatternMatchInfo parent;
    for (size_t slash = c.dir.find('/'); slash != std::string::npos;
         slash = c.dir.find('/', slash + 1)) {
      PatternMatchInfo next;
      matcher->MatchesUsingParentResults(c.dir.substr(0, slash), parent, &next);
      parent = next;
    }
    PatternMatchInfo info;
    matcher->MatchesUsingParentResults(c.dir, parent, &info);
    EXPECT_EQ(matcher->MayMatchBelow(c.dir, info), c.want)
        << absl::StrJoin(c.patterns, " ") << " below " << c.dir;
  }
}

TEST(PatternMatcher, ExceptionMayMatchBelow) {
  const auto matcher = PatternMatcher::Create({"*", "!a/b", "!c/*/d"});
  ASSERT_TRUE(matcher.ok());
  EXPECT_TRUE(matcher->has_exceptions());
  EXPECT_TRUE(matcher->ExceptionMayMatchBelow("a"));
  EXPECT_TRUE(matcher->ExceptionMayMatchBelow("c/x"));
  EXPECT_FALSE(matcher->ExceptionMayMatchBelow("x"));
  EXPECT_FALSE(PatternMatcher::Create({"*"})->ExceptionMayMatchBelow("a"));
}

// Patterns that drive backtracking matchers into exponential time.
TEST(PatternMatcher, CostIsBounded) {
  std::string pattern, path;
  for (int i = 0; i < 40; ++i) {
    pattern += "**/a*a*/";
    path += "aaaaaaaaaaaaaaaaaaaa/";
  }
  const auto matcher = PatternMatcher::Create({pattern + "b"});
  ASSERT_TRUE(matcher.ok());
  EXPECT_FALSE(matcher->Matches(path + "c"));
  EXPECT_TRUE(matcher->Matches(path + "b"));
}

// From the documentation of Go's path/filepath.Match.
TEST(MatchPath, Table) {
  struct {
    const char* pattern;
    const char* name;
    bool want;
  } const cases[] = {
      {"abc", "abc", true},
      {"*", "abc", true},
      {"*c", "abc", true},
      {"a*", "a", true},
      {"a*", "ab/c", false},
      {"a*/b", "abc/b", true},
      {"a*/b", "a/c/b", false},
      {"a*b*c*d*e*/f", "axbxcxdxe/f", true},
      {"a*b?c*x", "abxbbxdbxebxczzx", true},
      {"a*b?c*x", "abxbbxdbxebxczzy", false},
      {"ab[c]", "abc", true},
      {"ab[b-d]", "abc", true},
      {"ab[e-g]", "abc", false},
      {"ab[^c]", "abc", false},
      {"ab[^e-g]", "abc", true},
      {"a\\*b", "a*b", true},
      {"a?b",
       "a\xE2\x98\xBA"
       "b",
       true},
      {"a[^a]b",
       "a\xE2\x98\xBA"
       "b",
       true},
      {"a???b",
       "a\xE2\x98\xBA"
       "b",
       false},
      {"[a-\xCE\xB6]*", "\xCE\xB1", true},
      {"*[a-\xCE\xB6]", "A", false},
      {"a?b", "a/b", false},
      {"a*b", "a/b", false},
      {"[\\]a]", "]", true},
      {"[\\-x]", "x", true},
      {"[x\\-]", "z", false},
      {"*x", "xxx", true},
      {"**", "a/b", false},
      {"", "", true},
      {"", "a", false},
  };
  for (const auto& c : cases) {
    const auto matched = MatchPath(c.pattern, c.name);
    ASSERT_TRUE(matched.ok()) << c.pattern;
    EXPECT_EQ(*matched, c.want) << c.pattern << " : " << c.name;
  }
  for (const char* pattern :
       {"[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a[", "[\xFF]"}) {
    EXPECT_FALSE(MatchPath(pattern, "a").ok()) << pattern;
  }
}

TEST(Wildcards, Split) {
  EXPECT_FALSE(HasWildcards("a\\*b"));
  EXPECT_TRUE(HasWildcards("a\\\\*b"));
  using Pair = std::pair<std::string, std::string>;
  EXPECT_EQ(SplitWildcards("/a/b*/c"), Pair("/a", "b*/c"));
  EXPECT_EQ(SplitWildcards("/*"), Pair("/", "*"));
  EXPECT_EQ(SplitWildcards("/a/b"), Pair("/a/b", ""));
  EXPECT_EQ(SplitWildcards("x?"), Pair("", "x?"));
}

}  // namespace
}  // namespace kiln
