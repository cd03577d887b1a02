#include "daemon/session/sent_frames.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace kiln::daemon {
namespace {

enum Type : char {
  kData = 0,
  kHeaders = 1,
  kResetStream = 3,
  kSettings = 4,
  kPing = 6,
  kWindowUpdate = 8
};

constexpr char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

std::string Frame(Type type, uint32_t stream, const std::string& payload, char flags = 0) {
  const size_t n = payload.size();
  std::string frame = {static_cast<char>(n >> 16), static_cast<char>(n >> 8), static_cast<char>(n),
                       type, flags};
  for (int shift = 24; shift >= 0; shift -= 8) frame += static_cast<char>(stream >> shift);
  return frame + payload;
}

std::string Update(uint32_t increment, uint32_t stream = 1) {
  std::string payload;
  for (int shift = 24; shift >= 0; shift -= 8)
    payload.push_back(static_cast<char>(increment >> shift));
  return Frame(kWindowUpdate, stream, payload);
}

std::string Passed(SentFrames& frames, std::string bytes) {
  frames.Pass(&bytes, 0);
  return bytes;
}

TEST(SentFramesTest, ResetsOfStreamsThatWereNeverOpenedGo) {
  SentFrames frames;
  const std::string reset(4, '\x08');
  EXPECT_EQ(Passed(frames, kPreface + Frame(kSettings, 0, "") + Frame(kResetStream, 1, reset)),
            kPreface + Frame(kSettings, 0, ""));
  const std::string later = Frame(kHeaders, 3, "h") + Frame(kData, 3, "d") +
                            Frame(kResetStream, 3, reset) + Frame(kPing, 0, "12345678") +
                            Frame(kResetStream, 1, reset);
  EXPECT_EQ(Passed(frames, later), later);
  EXPECT_EQ(Passed(frames, Frame(kResetStream, 5, reset)), "");
  EXPECT_EQ(Passed(frames, Frame(kHeaders, 7, "h")), Frame(kHeaders, 7, "h"));
}

TEST(SentFramesTest, WhatIsBeforeStays) {
  SentFrames frames;
  Passed(frames, kPreface);
  std::string bytes = "held" + Frame(kResetStream, 1, "1234");
  frames.Pass(&bytes, 4);
  EXPECT_EQ(bytes, "held");
}

TEST(SentFramesTest, CutsDoNotMatter) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    uint32_t opened = 1;
    std::string sent = kPreface + Frame(kHeaders, opened, "h"), expected = sent;
    for (int i = 0; i < 40; ++i) {
      const bool open = random() % 3 == 0;
      if (open) opened += 2 + 2 * (random() % 3);
      const uint32_t stream = random() % 4 == 0 ? opened + 2 : opened;
      const std::string frame =
          Frame(open                ? kHeaders
                : random() % 2 == 0 ? kData
                                    : kResetStream,
                open ? opened : stream, std::string(random() % 8 == 0 ? 70000 : random() % 6, 'p'));
      sent += frame;
      if (open || stream <= opened) expected += frame;
    }
    SentFrames frames;
    std::string got;
    for (size_t at = 0; at < sent.size();) {
      const size_t n = random() % 4 == 0 ? 1 + random() % 9000 : 1 + random() % 12;
      const size_t from = got.size();
      got.append(sent, at, n);
      frames.Pass(&got, from);
      at += n;
    }
    EXPECT_EQ(got, expected) << "seed " << seed;
  }
}

// Of a connection with one stream.
bool CanWait(const std::string& bytes) {
  SentFrames frames;
  Passed(frames, kPreface + Frame(kHeaders, 1, "h"));
  frames.Sent();
  Passed(frames, bytes);
  return frames.CanWait();
}

TEST(SentFramesTest, TheStartWaitsForTheFirstCall) {
  SentFrames frames;
  Passed(frames, kPreface);
  EXPECT_TRUE(frames.CanWait());
  Passed(frames, Frame(kSettings, 0, "123456") + Update(0x3f0000, 0));
  EXPECT_TRUE(frames.CanWait());
  Passed(frames, Frame(kHeaders, 1, "h"));
  EXPECT_FALSE(frames.CanWait());
  frames.Sent();
  EXPECT_TRUE(frames.CanWait());
}

TEST(SentFramesTest, SettingsDoNotWaitLater) {
  EXPECT_FALSE(CanWait(Frame(kSettings, 0, "123456")));
  EXPECT_TRUE(CanWait(Frame(kSettings, 0, "", /*ack*/ 1)));
}

TEST(SentFramesTest, SmallWindowUpdatesWait) {
  EXPECT_TRUE(CanWait(Update(5)));
  EXPECT_TRUE(CanWait(Update(8000) + Update(8383, 0)));
  EXPECT_FALSE(CanWait(Update(8000) + Update(8384, 0)));
  EXPECT_FALSE(CanWait(Update(16384)));
  EXPECT_FALSE(CanWait(Update(0xffffffff) + Update(1)));
}

TEST(SentFramesTest, WhatWaitsAddsUp) {
  SentFrames frames;
  Passed(frames, kPreface + Frame(kHeaders, 1, "h"));
  frames.Sent();
  Passed(frames, Update(16000));
  EXPECT_TRUE(frames.CanWait());
  Passed(frames, Update(384));
  EXPECT_FALSE(frames.CanWait());
  frames.Sent();
  Passed(frames, Update(16000));
  EXPECT_TRUE(frames.CanWait());
}

TEST(SentFramesTest, ManyDoNotPileUp) {
  std::string updates;
  for (int i = 0; i < 32; ++i) updates += Update(0);
  EXPECT_TRUE(CanWait(updates));
  EXPECT_FALSE(CanWait(updates + Update(0)));
}

TEST(SentFramesTest, AnythingElseGoes) {
  const std::string ping = Frame(kPing, 0, "abcdefgh");
  EXPECT_FALSE(CanWait(ping));
  EXPECT_FALSE(CanWait(Update(5) + ping));
  EXPECT_FALSE(CanWait(ping + Update(5)));
  EXPECT_FALSE(CanWait(Update(5).substr(0, 12)));
  EXPECT_TRUE(CanWait(Update(5) + Frame(kResetStream, 3, "1234"))) << "it is taken out";
}

}  // namespace
}  // namespace kiln::daemon
