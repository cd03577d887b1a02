// Every Dockerfile of the conformance data is readable: what BuildKit built must parse here.
#include <filesystem>
#include <fstream>
#include <iterator>

#include "daemon/frontend/dockerfile/syntax/parse.h"
#include "gtest/gtest.h"

namespace kiln::daemon::dockerfile {
namespace {

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(ConformanceFiles, AllParse) {
  int parsed = 0;
  for (const auto& entry : std::filesystem::directory_iterator(KILN_TESTDATA "/conformance/llb")) {
    const std::filesystem::path path = entry.path() / "Dockerfile";
    if (!std::filesystem::exists(path)) continue;  // programs that write LLB themselves
    Document document;
    EXPECT_EQ(Parse(ReadFile(path), &document), absl::OkStatus()) << path;
    EXPECT_FALSE(document.stages.empty()) << path;
    ++parsed;
  }
  EXPECT_GE(parsed, 30);
}

}  // namespace
}  // namespace kiln::daemon::dockerfile
