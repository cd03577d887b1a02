// Where errors are, as clients get it, and how it is shown (dockerfile.md 1.6, 7.4).
#include "daemon/frontend/dockerfile/syntax/location.h"

#include <string>
#include <vector>

#include "daemon/frontend/dockerfile/syntax/excerpt.h"
#include "daemon/frontend/dockerfile/syntax/parse.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/status_details.h"

namespace kiln::daemon::dockerfile {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

// Scenario 7.
TEST(AttachSource, S7OneRangePerLine) {
  const std::string file = "FROM a\nrun --x wh\\\nat\n";
  Document document;
  const absl::Status status = AttachSource(Parse(file, &document), "dir/My.Dockerfile", file);
  EXPECT_EQ(status.message(), "dockerfile parse error on line 2: unknown flag: --x");
  const std::vector<StatusDetail> details = Details(status);
  ASSERT_THAT(details, SizeIs(1));
  EXPECT_EQ(details[0].type_url, kSourceDetail);
  EXPECT_EQ(details[0].value,
            "{\"info\":{\"filename\":\"dir/My.Dockerfile\","
            "\"data\":\"RlJPTSBhCnJ1biAtLXggd2hcCmF0Cg==\",\"language\":\"Dockerfile\"},"
            "\"ranges\":[{\"start\":{\"line\":2},\"end\":{\"line\":2}},"
            "{\"start\":{\"line\":3},\"end\":{\"line\":3}}]}");
}

TEST(AttachSource, OneDetailPerLocation) {
  absl::Status status = absl::InvalidArgumentError("cycle");
  status = WithLocation(WithLocation(status, {1, 1}), {4, 5});
  EXPECT_THAT(LocationsOf(status), ElementsAre(LineRange{1, 1}, LineRange{4, 5}));
  EXPECT_THAT(Details(AttachSource(status, "Dockerfile", "x")), SizeIs(2));
}

TEST(AttachSource, NothingKnown) {
  EXPECT_THAT(Details(AttachSource(absl::NotFoundError("x"), "Dockerfile", "x")), IsEmpty());
  EXPECT_TRUE(AttachSource(absl::OkStatus(), "Dockerfile", "x").ok());
}

TEST(Location, ReplacedAndForgotten) {
  const absl::Status status = WithLocation(absl::NotFoundError("x"), {1, 2});
  EXPECT_THAT(LocationsOf(WithOnlyLocation(status, {3, 3})), ElementsAre(LineRange{3, 3}));
  EXPECT_EQ(WithoutLocations(status), absl::NotFoundError("x"));
  EXPECT_TRUE(WithLocation(absl::OkStatus(), {1, 1}).ok());
}

TEST(Excerpt, OneLine) {
  const std::string file = "1\n2\n3\n4\n5\n6\n7\n8";
  EXPECT_EQ(Excerpt("Dockerfile", file, {5, 5}),
            "Dockerfile:5\n"
            "--------------------\n"
            "   3 |     3\n"
            "   4 |     4\n"
            "   5 | >>> 5\n"
            "   6 |     6\n"
            "   7 |     7\n"
            "--------------------\n");
}

TEST(Excerpt, AtTheEnds) {
  const std::string file = "1\n2\n3\n4\n5";
  EXPECT_EQ(Excerpt("f", file, {1, 1}),
            "f:1\n--------------------\n"
            "   1 | >>> 1\n   2 |     2\n   3 |     3\n--------------------\n");
  EXPECT_EQ(Excerpt("f", file, {5, 9}),
            "f:5\n--------------------\n"
            "   3 |     3\n   4 |     4\n   5 | >>> 5\n--------------------\n");
}

TEST(Excerpt, SeveralLines) {
  const std::string file = "1\n2\n3\n4\n5\n6";
  EXPECT_EQ(Excerpt("f", file, {3, 4}),
            "f:3\n--------------------\n"
            "   2 |     2\n   3 | >>> 3\n   4 | >>> 4\n   5 |     5\n--------------------\n");
}

TEST(Excerpt, Outside) {
  EXPECT_EQ(Excerpt("f", "1\n2", {0, 0}), "");
  EXPECT_EQ(Excerpt("f", "1\n2", {3, 3}), "");
  EXPECT_EQ(Excerpt("f", "1", {1, 1}),
            "f:1\n--------------------\n   1 | >>> 1\n--------------------\n");
}

}  // namespace
}  // namespace kiln::daemon::dockerfile
