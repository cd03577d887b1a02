#include "daemon/idle_memory.h"

#include <gtest/gtest.h>
#include <malloc.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "store/base/fd.h"

namespace kiln::daemon {
namespace {

int64_t ResidentMib() {
  int64_t pages = 0;
  const std::vector<std::string> fields =
      absl::StrSplit(ReadFileToString("/proc/self/statm").value_or(""), ' ');
  EXPECT_TRUE(fields.size() > 1 && absl::SimpleAtoi(fields[1], &pages));
  return pages * getpagesize() >> 20;
}

TEST(IdleMemory, WhatIsFreeGoesOnce) {
  if (mallinfo2().arena == 0) GTEST_SKIP() << "the heap is not glibc's";
  IdleMemory memory;
  EXPECT_FALSE(memory.Return());
  std::vector<std::string> blocks;
  for (int i = 0; i < 60'000; ++i) blocks.emplace_back(1024, 'x');
  const std::string last(1024, 'x');  // malloc's own way is barred
  const int64_t before = ResidentMib();
  blocks.clear();
  EXPECT_TRUE(memory.Return());
  EXPECT_LT(ResidentMib(), before - 40);
  EXPECT_FALSE(memory.Return());
}

}  // namespace
}  // namespace kiln::daemon
