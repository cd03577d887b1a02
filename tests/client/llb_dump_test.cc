#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/match.h"
#include "client/llb/dump.h"
#include "store/base/fd.h"

namespace kiln::client::llb {
namespace {

// Every definition of the conformance data prints as BuildKit's own tool printed it.
TEST(LlbDump, EqualsBuildctl) {
  int compared = 0;
  const std::string root = std::string(KILN_TESTDATA) + "/conformance/llb";
  for (const auto& file : std::filesystem::recursive_directory_iterator(root)) {
    const std::string name = file.path().filename().string();
    if (!absl::StartsWith(name, "llb") || file.path().extension() != ".pb") continue;
    const std::string number = name.substr(3, name.size() - 6);  // "" or ".0"
    const auto bytes = ReadFileToString(file.path().string());
    const auto want =
        ReadFileToString((file.path().parent_path() / ("dump" + number + ".json")).string());
    ASSERT_TRUE(bytes.ok() && want.ok()) << file.path();
    const auto got = DumpDefinition(*bytes);
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(*got, *want) << file.path();
    ++compared;
  }
  EXPECT_GT(compared, 30);
}

TEST(LlbDump, RefusesOtherBytes) {
  EXPECT_EQ(DumpDefinition("\x0a\xff").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace kiln::client::llb
