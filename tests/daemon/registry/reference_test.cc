#include "daemon/registry/reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace kiln::daemon {
namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');

struct FamiliarCase {
  std::string text;
  std::string whole;  // "" = refused
  std::string familiar;
};
class FamiliarReferenceTest : public testing::TestWithParam<FamiliarCase> {};

TEST_P(FamiliarReferenceTest, NormalizesAndBack) {
  const FamiliarCase& test = GetParam();
  const auto reference = Reference::ParseFamiliar(test.text);
  if (test.whole.empty()) {
    EXPECT_FALSE(reference.ok()) << test.text << " is " << reference->ToString();
    EXPECT_THAT(std::string(reference.status().message()),
                testing::HasSubstr("invalid reference format"));
    return;
  }
  ASSERT_TRUE(reference.ok()) << reference.status();
  EXPECT_EQ(reference->ToString(), test.whole);
  EXPECT_EQ(reference->Familiar(), test.familiar);
  const auto strict = Reference::ParseStrict(test.whole);
  ASSERT_TRUE(strict.ok()) << strict.status();
  EXPECT_EQ(strict->ToString(), test.whole);
}

INSTANTIATE_TEST_SUITE_P(
    Grammar, FamiliarReferenceTest,
    testing::ValuesIn<FamiliarCase>({
        {"busybox", "docker.io/library/busybox:latest", "busybox:latest"},
        {"busybox:1.35", "docker.io/library/busybox:1.35", "busybox:1.35"},
        {"docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"},
        {"index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"},
        {"a/b/c", "docker.io/a/b/c:latest", "a/b/c:latest"},
        {"library/busybox", "docker.io/library/busybox:latest", "busybox:latest"},
        {"library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"},
        {"localhost/x", "localhost/x:latest", "localhost/x:latest"},
        {"localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"},
        {"Host/x", "Host/x:latest", "Host/x:latest"},
        {"[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"},
        {"ex.com/a.b_c__d---e/f", "ex.com/a.b_c__d---e/f:latest", "ex.com/a.b_c__d---e/f:latest"},
        {"busybox@" + kDigest, "docker.io/library/busybox@" + kDigest, "busybox@" + kDigest},
        {"busybox:v@" + kDigest, "docker.io/library/busybox:v@" + kDigest, "busybox:v@" + kDigest},
        {"a:" + std::string(128, 't'), "docker.io/library/a:" + std::string(128, 't'),
         "a:" + std::string(128, 't')},
        {"", "", ""},
        {":tag", "", ""},
        {"ex.com/", "", ""},
        {"Busybox", "", ""},
        {"ex.com/A", "", ""},
        {"a//b", "", ""},
        {"a/-b", "", ""},
        {"a..b", "", ""},
        {"a___b", "", ""},
        {"a b", "", ""},
        {"../x", "", ""},
        {"a:" + std::string(129, 't'), "", ""},
        {"a:.t", "", ""},
        {"a:", "", ""},
        {"a@", "", ""},
        {"a@sha256:abcd", "", ""},
        {"a@md5:" + std::string(32, 'a'), "", ""},
        {std::string(64, 'a'), "", ""},
        {"-ex.com/x", "", ""},
        {"ex.com:port/x", "", ""},
        {"[::g]/x", "", ""},
        {"ex.com/" + std::string(249, 'a'), "", ""},
        {"https://ex.com/x", "", ""},
    }));

TEST(StrictReferenceTest, NeedsHostAndObject) {
  for (const char* text : {"busybox", "busybox:latest", "ex.com/x", "/x:y", "docker://ex.com/x:y"})
    EXPECT_EQ(Reference::ParseStrict(text).status().code(), absl::StatusCode::kInvalidArgument)
        << text;
  const auto reference = Reference::ParseStrict("host/x:y@" + kDigest);
  ASSERT_TRUE(reference.ok());
  EXPECT_EQ(reference->domain, "host");
  EXPECT_EQ(reference->tag, "y");
  EXPECT_EQ(reference->digest->ToString(), kDigest);
}

TEST(StrictReferenceTest, OtherAlgorithmsAreNotBuiltIn) {
  EXPECT_EQ(Reference::ParseStrict("h/x@sha512:" + std::string(128, 'a')).status().code(),
            absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace kiln::daemon
