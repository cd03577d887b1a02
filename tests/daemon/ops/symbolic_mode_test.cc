#include "daemon/ops/symbolic_mode.h"

#include <gtest/gtest.h>

namespace kiln::daemon {
namespace {

TEST(SymbolicMode, Table) {
  struct {
    const char* text;
    uint32_t before;
    bool is_dir;
    uint32_t after;
  } const cases[] = {
      {"0755", 0600, false, 0755},        {"4711", 0600, false, 04711},
      {"u+x", 0644, false, 0744},         {"+x", 0644, false, 0755},
      {"a=r", 0777, false, 0444},         {"=", 0777, false, 0},
      {"go-w", 0666, false, 0644},        {"u=rwX,go=rX", 0644, false, 0644},
      {"u=rwX,go=rX", 0744, false, 0755}, {"u=rwX,go=rX", 0600, true, 0755},
      {"g=u", 0750, false, 0770},         {"o=g", 0750, false, 0755},
      {"g+u,o-g", 0742, false, 0770},     {"g=g", 0750, false, 0750},
      {"u+s", 0755, false, 04755},        {"g+s", 0755, false, 02755},
      {"+s", 0755, false, 06755},         {"o+s", 0755, false, 0755},
      {"+t", 0755, true, 01755},          {"u=rw", 04755, false, 0655},
      {"a-x", 06755, false, 06644},       {"u-rwx,g+w-r", 0744, false, 0024},
  };
  for (const auto& c : cases) {
    const auto mode = SymbolicMode::Parse(c.text);
    ASSERT_TRUE(mode.ok()) << c.text;
    EXPECT_EQ(mode->Apply(c.before, c.is_dir), c.after) << c.text << std::oct << " of " << c.before;
  }
}

TEST(SymbolicMode, RefusesNonsense) {
  for (const char* text : {"", "u", "x", "u+q", "0798", "99999", "u+x,", ",u+x", "rwx", "u*x"}) {
    const auto mode = SymbolicMode::Parse(text);
    EXPECT_EQ(mode.status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
  EXPECT_EQ(SymbolicMode::Parse("u+q").status().message(), "invalid mode \"u+q\"");
}

}  // namespace
}  // namespace kiln::daemon
