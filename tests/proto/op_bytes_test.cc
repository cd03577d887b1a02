#include "proto/op_bytes.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"

namespace kiln {
namespace {

std::string Keep(absl::string_view) { return ""; }

// "a: 1, b: 2" as two map entries in the wrong order, then field 1 after field 3.
TEST(OpBytes, SortsMapKeysAndFields) {
  pb::Op want;
  want.add_inputs()->set_digest("sha256:x");
  (*want.mutable_source()->mutable_attrs())["a"] = "1";
  (*want.mutable_source()->mutable_attrs())["b"] = "2";
  want.mutable_source()->set_identifier("local://c");
  pb::Op inputs;
  inputs.add_inputs()->set_digest("sha256:x");
  const std::string source_b = std::string("\x12\x06\x0a\x01") + "b" + "\x12\x01" + "2";
  const std::string source_a = std::string("\x12\x06\x0a\x01") + "a" + "\x12\x01" + "1";
  const std::string identifier = std::string("\x0a\x09") + "local://c";
  const std::string body = source_b + source_a + identifier;
  const std::string op =
      std::string("\x1a") + static_cast<char>(body.size()) + body + inputs.SerializeAsString();
  const auto canonical = CanonicalOpBytes(op, Keep);
  ASSERT_TRUE(canonical.ok()) << canonical.status();
  EXPECT_EQ(*canonical, CanonicalOpBytes(std::move(want)));
  EXPECT_NE(*canonical, op);
  EXPECT_EQ(*CanonicalOpBytes(*canonical, Keep), *canonical);
}

TEST(OpBytes, KeepsUnknownFieldsLast) {
  pb::Op op;
  op.mutable_merge();
  const std::string unknown = "\xa2\x06\x01z";  // field 100
  const auto canonical = CanonicalOpBytes(unknown + op.SerializeAsString(), Keep);
  ASSERT_TRUE(canonical.ok());
  EXPECT_EQ(*canonical, op.SerializeAsString() + unknown);
}

TEST(OpBytes, OneofComesAfterPlainFields) {
  pb::Op platform;
  platform.mutable_platform()->set_os("linux");
  pb::Op merge;
  merge.mutable_merge();
  const std::string by_number = merge.SerializeAsString() + platform.SerializeAsString();
  EXPECT_EQ(*CanonicalOpBytes(by_number, Keep),
            platform.SerializeAsString() + merge.SerializeAsString());
}

TEST(OpBytes, RenamesInputs) {
  pb::Op op;
  op.add_inputs()->set_digest("sha256:old");
  op.add_inputs()->set_digest("sha256:same");
  const auto canonical =
      CanonicalOpBytes(op.SerializeAsString(), [](absl::string_view digest) -> std::string {
        return digest == "sha256:old" ? "sha256:new" : "";
      });
  pb::Op got;
  ASSERT_TRUE(got.ParseFromString(*canonical));
  EXPECT_EQ(got.inputs(0).digest(), "sha256:new");
  EXPECT_EQ(got.inputs(1).digest(), "sha256:same");
}

TEST(OpBytes, RefusesWhatIsNoOp) {
  const auto status = CanonicalOpBytes("\xff\xff", Keep).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "failed to parse llb proto op");
}

// Definitions written by Go clients: canonical already, so their digests stay.
TEST(OpBytes, GoDefinitionsAreCanonicalAlready) {
  int checked = 0;
  const std::filesystem::path root = std::string(KILN_TESTDATA) + "/conformance/llb";
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    if (entry.path().extension() != ".pb") continue;
    std::ifstream file(entry.path(), std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    pb::Definition definition;
    if (!definition.ParseFromString(text.str())) continue;
    for (const std::string& op : definition.def()) {
      const auto canonical = CanonicalOpBytes(op, Keep);
      ASSERT_TRUE(canonical.ok()) << entry.path();
      EXPECT_EQ(*canonical, op) << entry.path();
      ++checked;
    }
  }
  EXPECT_GT(checked, 50);
}

}  // namespace
}  // namespace kiln
