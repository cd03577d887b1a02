#include "daemon/attest/spdx.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace kiln::daemon {
namespace {

using Json = nlohmann::json;

const Digest kLayer = Digest::Of("layer");

absl::StatusOr<std::optional<Digest>> OnlyFoo(const std::string& path) {
  if (path == "/broken") return absl::DataLossError("bad layer");
  return path == "/foo" ? std::make_optional(kLayer) : std::nullopt;
}

TEST(SpdxTest, FilesWithoutACommentGetTheirLayer) {
  const auto named = NameLayersInSpdx(
      R"({"spdxVersion":"SPDX-2.3","files":[{"fileName":"/foo"},{"fileName":"/bar"},)"
      R"({"fileName":"/foo","comment":"mine"},7,{"fileName":3}],)"
      R"("packages":[{"files":[{"fileName":"/foo","comment":""}]},[]],)"
      R"("creationInfo":{"created":"x","creators":["Tool: t"]}})",
      OnlyFoo);
  ASSERT_TRUE(named.ok()) << named.status();
  const Json json = Json::parse(*named);
  const std::string comment = "layerID: " + kLayer.ToString();
  EXPECT_EQ(json.at("files")[0].at("comment"), comment);
  EXPECT_FALSE(json.at("files")[1].contains("comment"));
  EXPECT_EQ(json.at("files")[2].at("comment"), "mine");
  EXPECT_EQ(json.at("packages")[0].at("files")[0].at("comment"), comment);
  EXPECT_EQ(json.at("creationInfo").at("created"), "x");
  ASSERT_EQ(json.at("creationInfo").at("creators").size(), 2u);
  EXPECT_EQ(json.at("creationInfo").at("creators")[0], "Tool: t");
  EXPECT_EQ(json.at("creationInfo").at("creators")[1].get<std::string>().rfind("Tool: kilnd-", 0),
            0u);
}

TEST(SpdxTest, OtherTextsStayAsTheyAre) {
  for (const char* text : {"", "null", "{", "[1]", R"({"files":[{"fileName":"/foo"}]})",
                           R"({"spdxVersion":3,"files":[{"fileName":"/foo"}]})",
                           R"({"spdxVersion":"SPDX-3.0","files":[{"fileName":"/foo"}]})"}) {
    const auto named = NameLayersInSpdx(text, OnlyFoo);
    ASSERT_TRUE(named.ok());
    EXPECT_EQ(*named, text);
  }
}

TEST(SpdxTest, ALayerThatCannotBeReadIsAnError) {
  EXPECT_EQ(
      NameLayersInSpdx(R"({"spdxVersion":"SPDX-2.2","files":[{"fileName":"/broken"}]})", OnlyFoo)
          .status()
          .message(),
      "bad layer");
}

}  // namespace
}  // namespace kiln::daemon
