#include "daemon/session/frame_filter.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace kiln::daemon {
namespace {

enum Type : char { kData = 0, kHeaders = 1, kResetStream = 3, kSettings = 4, kPing = 6 };

constexpr char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

std::string Frame(Type type, uint32_t stream, const std::string& payload) {
  const size_t n = payload.size();
  std::string frame = {static_cast<char>(n >> 16), static_cast<char>(n >> 8), static_cast<char>(n),
                       type, 0};
  for (int shift = 24; shift >= 0; shift -= 8) frame += static_cast<char>(stream >> shift);
  return frame + payload;
}

std::string Filtered(FrameFilter& filter, std::string bytes) {
  filter.Apply(&bytes, 0);
  return bytes;
}

TEST(FrameFilterTest, ResetsOfStreamsThatWereNeverOpenedGo) {
  FrameFilter filter;
  const std::string reset(4, '\x08');
  EXPECT_EQ(Filtered(filter, kPreface + Frame(kSettings, 0, "") + Frame(kResetStream, 1, reset)),
            kPreface + Frame(kSettings, 0, ""));
  const std::string later = Frame(kHeaders, 3, "h") + Frame(kData, 3, "d") +
                            Frame(kResetStream, 3, reset) + Frame(kPing, 0, "12345678") +
                            Frame(kResetStream, 1, reset);
  EXPECT_EQ(Filtered(filter, later), later);
  EXPECT_EQ(Filtered(filter, Frame(kResetStream, 5, reset)), "");
  EXPECT_EQ(Filtered(filter, Frame(kHeaders, 7, "h")), Frame(kHeaders, 7, "h"));
}

TEST(FrameFilterTest, WhatIsBeforeStays) {
  FrameFilter filter;
  Filtered(filter, kPreface);
  std::string bytes = "held" + Frame(kResetStream, 1, "1234");
  filter.Apply(&bytes, 4);
  EXPECT_EQ(bytes, "held");
}

TEST(FrameFilterTest, CutsDoNotMatter) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    std::string sent = kPreface, expected = kPreface;
    uint32_t opened = 1;
    sent += Frame(kHeaders, opened, "h");
    expected = sent;
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
    FrameFilter filter;
    std::string got;
    for (size_t at = 0; at < sent.size();) {
      const size_t n = random() % 4 == 0 ? 1 + random() % 9000 : 1 + random() % 12;
      const size_t from = got.size();
      got.append(sent, at, n);
      filter.Apply(&got, from);
      at += n;
    }
    EXPECT_EQ(got, expected) << "seed " << seed;
  }
}

}  // namespace
}  // namespace kiln::daemon
