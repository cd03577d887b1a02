#include "daemon/session/window_updates.h"

#include <gtest/gtest.h>

#include <string>

namespace kiln::daemon {
namespace {

std::string Update(uint32_t increment, char stream = 1) {
  std::string frame("\0\0\4\10\0\0\0\0\1", 9);
  frame[8] = stream;
  for (int shift = 24; shift >= 0; shift -= 8)
    frame.push_back(static_cast<char>(increment >> shift));
  return frame;
}

TEST(WindowUpdatesTest, SmallOnesOfAnyStream) {
  EXPECT_TRUE(AreSmallWindowUpdates(""));
  EXPECT_TRUE(AreSmallWindowUpdates(Update(5)));
  EXPECT_TRUE(AreSmallWindowUpdates(Update(5) + Update(5, 0)));
}

TEST(WindowUpdatesTest, TogetherTheyAreLarge) {
  EXPECT_TRUE(AreSmallWindowUpdates(Update(8000) + Update(8000, 0)));
  EXPECT_FALSE(AreSmallWindowUpdates(Update(8000) + Update(8384, 0)));
  EXPECT_FALSE(AreSmallWindowUpdates(Update(16384)));
  EXPECT_FALSE(AreSmallWindowUpdates(Update(0xffffffff) + Update(1)));
}

TEST(WindowUpdatesTest, ManyDoNotPileUp) {
  std::string updates;
  for (int i = 0; i < 32; ++i) updates += Update(0);
  EXPECT_TRUE(AreSmallWindowUpdates(updates));
  EXPECT_FALSE(AreSmallWindowUpdates(updates + Update(0)));
}

TEST(WindowUpdatesTest, AnythingElseIsNot) {
  const std::string ping("\0\0\10\6\0\0\0\0\0abcdefgh", 17);
  EXPECT_FALSE(AreSmallWindowUpdates(ping));
  EXPECT_FALSE(AreSmallWindowUpdates(Update(5) + ping));
  EXPECT_FALSE(AreSmallWindowUpdates(ping + Update(5)));
  EXPECT_FALSE(AreSmallWindowUpdates(Update(5).substr(0, 12)));
  EXPECT_FALSE(AreSmallWindowUpdates(Update(5) + Update(5).substr(0, 5)));
  EXPECT_FALSE(AreSmallWindowUpdates(Update(5).substr(1)));
}

}  // namespace
}  // namespace kiln::daemon
