#include "daemon/frontend/dockerfile/image_foresight.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "tests/daemon/frontend/dockerfile/frontend_fixture.h"

namespace kiln::daemon {
namespace {

using dockerfile::ImageForesight;
using testing::ElementsAre;
using testing::IsEmpty;

TEST(ImageForesight, KnowsTheLastBuildWithTheSameOptions) {
  ImageForesight foresight;
  const ImageForesight::Options a = {{"target", "a"}}, b = {{"target", "b"}};
  EXPECT_THAT(foresight.Of(a), IsEmpty());
  foresight.Learn(a, {"one", "two"});
  foresight.Learn(b, {"three"});
  EXPECT_THAT(foresight.Of(a), ElementsAre("one", "two"));
  foresight.Learn(a, {"two"});
  EXPECT_THAT(foresight.Of(a), ElementsAre("two"));
  EXPECT_THAT(foresight.Of(b), ElementsAre("three"));
  foresight.Failed("two");
  EXPECT_THAT(foresight.Of(a), IsEmpty());
}

TEST(ImageForesight, IsBounded) {
  ImageForesight foresight;
  const auto options = [](int i) { return ImageForesight::Options{{"n", absl::StrCat(i)}}; };
  foresight.Learn(options(0), std::vector<std::string>(40, "name"));
  EXPECT_EQ(foresight.Of(options(0)).size(), 16u);
  for (int i = 1; i < 1000; ++i) foresight.Learn(options(i), {"name"});
  foresight.Learn(options(0), {"name"});  // the newest now
  foresight.Learn(options(1000), {"name"});
  EXPECT_THAT(foresight.Of(options(1)), IsEmpty());
  EXPECT_THAT(foresight.Of(options(0)), ElementsAre("name"));
}

class ImagesAheadTest : public FrontendFixture {
 protected:
  // What was asked for ahead of the last build.
  std::vector<std::string> Ahead(const std::string& dockerfile) {
    client_.ahead.clear();
    EXPECT_EQ(Build(dockerfile).status(), absl::OkStatus());
    return client_.ahead;
  }
};

TEST_F(ImagesAheadTest, WhatTheLastBuildAskedForByAMovingName) {
  const std::string pinned = absl::StrCat("busybox@", Digest::Of("pinned").ToString());
  client_.images[absl::StrCat("docker.io/library/", pinned)] =
      client_.images.at("docker.io/library/busybox:latest");
  const std::string one = "FROM alpine AS a\nRUN x\nFROM " + pinned + "\nCOPY --from=a / /\n";
  EXPECT_THAT(Ahead(one), IsEmpty());
  EXPECT_THAT(Ahead("FROM busybox\n"), ElementsAre("docker.io/library/alpine:latest"));
  EXPECT_THAT(Ahead("FROM scratch\n"), ElementsAre("docker.io/library/busybox:latest"));
  EXPECT_THAT(Ahead(one), IsEmpty());
  EXPECT_FALSE(Build("FROM missing\n").ok());
  EXPECT_THAT(Ahead(one), ElementsAre("docker.io/library/alpine:latest")) << "it did not learn";
  client_.options["target"] = "a";
  EXPECT_THAT(Ahead(one), IsEmpty()) << "another build";
}

TEST_F(ImagesAheadTest, WhatFailedIsLeftAlone) {
  EXPECT_THAT(Ahead("FROM alpine\n"), IsEmpty());
  client_.ahead_status = absl::UnauthenticatedError("who are you?");
  EXPECT_THAT(Ahead("FROM alpine\n"), ElementsAre("docker.io/library/alpine:latest"));
  EXPECT_THAT(Ahead("FROM alpine\n"), IsEmpty());
}

}  // namespace
}  // namespace kiln::daemon
