#include "proto/op_bytes.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"

namespace kiln {
namespace {

std::string Canonical(const std::string& bytes) {
  pb::Op op;
  EXPECT_TRUE(op.ParseFromString(bytes));
  return CanonicalOpBytes(op);
}

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
  const std::string canonical = Canonical(op);
  EXPECT_EQ(canonical, CanonicalOpBytes(want));
  EXPECT_NE(canonical, op);
  EXPECT_EQ(Canonical(canonical), canonical);
}

TEST(OpBytes, KeepsUnknownFieldsLast) {
  pb::Op op;
  op.mutable_merge();
  const std::string unknown = "\xa2\x06\x01z";  // field 100
  op.mutable_platform()->set_os("linux");
  EXPECT_EQ(Canonical(unknown + op.SerializeAsString()), CanonicalOpBytes(op) + unknown);
}

TEST(OpBytes, OneofComesAfterPlainFields) {
  pb::Op platform;
  platform.mutable_platform()->set_os("linux");
  pb::Op merge;
  merge.mutable_merge();
  const std::string by_number = merge.SerializeAsString() + platform.SerializeAsString();
  EXPECT_EQ(Canonical(by_number), platform.SerializeAsString() + merge.SerializeAsString());
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
      EXPECT_EQ(Canonical(op), op) << entry.path();
      ++checked;
    }
  }
  EXPECT_GT(checked, 50);
}

}  // namespace
}  // namespace kiln
