#include "daemon/image/annotations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kiln::daemon {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

// E10
TEST(AnnotationsTest, E10EachFormInItsPlace) {
  Annotations annotations;
  for (const auto& [key, value] : {std::pair("annotation.a", "1"),
                                   {"annotation-manifest.b", "2"},
                                   {"annotation[linux/arm64].a", "3"},
                                   {"annotation-manifest-descriptor.org.x[y].z", "4"},
                                   {"annotation-index.i", "5"},
                                   {"annotation-index-descriptor[linux/amd64].d", "6"}})
    ASSERT_TRUE(*annotations.Add(key, value)) << key;
  const AnnotationSet all = annotations.For(nullptr);
  EXPECT_THAT(all.manifest, ElementsAre(Pair("a", "1"), Pair("b", "2")));
  EXPECT_THAT(all.manifest_descriptor, ElementsAre(Pair("org.x[y].z", "4")));
  EXPECT_THAT(all.index, ElementsAre(Pair("i", "5")));
  EXPECT_THAT(all.index_descriptor, ElementsAre(Pair("d", "6")));
  const Platform arm = *ParsePlatform("linux/arm64");
  EXPECT_THAT(annotations.For(&arm).manifest, ElementsAre(Pair("a", "3"), Pair("b", "2")));
  EXPECT_THAT(annotations.platforms(), ElementsAre("linux/arm64"));
  EXPECT_TRUE(annotations.needs_oci());
}

TEST(AnnotationsTest, OtherKeysAreNoAnnotations) {
  Annotations annotations;
  for (const char* key :
       {"annotations.a", "annotation", "annotation.", "annotation.a b", "annotation[].a",
        "annotation[linux/amd64", "annotation-.a", "annotation[a b].c", "image.name"}) {
    const auto added = annotations.Add(key, "x");
    ASSERT_TRUE(added.ok()) << key << added.status();
    EXPECT_FALSE(*added) << key;
  }
  EXPECT_THAT(annotations.For(nullptr).manifest, IsEmpty());
}

TEST(AnnotationsTest, Refusals) {
  Annotations annotations;
  EXPECT_EQ(annotations.Add("annotation-layer.a", "x").status().message(),
            "unrecognized annotation type layer");
  EXPECT_FALSE(annotations.Add("annotation[a/b/c/d].a", "x").ok());
}

}  // namespace
}  // namespace kiln::daemon
