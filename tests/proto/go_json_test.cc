#include "proto/go_json.h"

#include <gtest/gtest.h>

namespace kiln {
namespace {

std::string Quote(absl::string_view text) {
  std::string out;
  AppendGoJsonString(text, &out);
  return out;
}

TEST(GoJson, NestedObjects) {
  GoJson json;
  json.BeginObject().Key("Type").String("buildkit.merge.v0");
  json.Key("Merge").BeginObject().Key("inputs").BeginArray();
  json.BeginObject().EndObject().BeginObject().OptInt("input", 1).EndObject();
  json.EndArray().EndObject().OptInt("zero", 0).OptBool("yes", true).OptString("none", "");
  json.Key("data").Bytes("\xff\x01").EndObject();
  EXPECT_EQ(json.text(), R"({"Type":"buildkit.merge.v0","Merge":{"inputs":[{},{"input":1}]},)"
                         R"("yes":true,"data":"/wE="})");
}

struct EscapeCase {
  const char* name;
  absl::string_view input;
  const char* want;
};
class GoJsonEscape : public testing::TestWithParam<EscapeCase> {};

TEST_P(GoJsonEscape, AsGoDoes) { EXPECT_EQ(Quote(GetParam().input), GetParam().want); }

INSTANTIATE_TEST_SUITE_P(EncodingJson, GoJsonEscape,
                         testing::ValuesIn<EscapeCase>({
                             {"Plain", "a/b c", R"("a/b c")"},
                             {"Html", "<a&b>", R"("\u003ca\u0026b\u003e")"},
                             {"Quotes", "\"\\", R"("\"\\")"},
                             {"Controls", absl::string_view("\b\f\n\r\t\0\x1f\x7f", 8),
                              "\"\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\""},
                             {"Utf8", "\xc3\xa9\xf0\x9f\x98\x80", "\"\xc3\xa9\xf0\x9f\x98\x80\""},
                             {"LineSeparators", "\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaa",
                              "\"\\u2028\\u2029\xe2\x80\xaa\""},
                             {"InvalidByte", "a\xff\xfe", R"("a\ufffd\ufffd")"},
                             {"Truncated", "\xe2\x80", R"("\ufffd\ufffd")"},
                             {"Overlong", "\xc0\xaf", R"("\ufffd\ufffd")"},
                             {"Surrogate", "\xed\xa0\x80", R"("\ufffd\ufffd\ufffd")"},
                         }),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace kiln
