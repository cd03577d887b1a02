#include "daemon/rpc/message_limit.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace kiln::daemon {
namespace {

const std::string kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr int kData = 0, kHeaders = 1, kReset = 3;

std::string Frame(int type, int flags, int stream, const std::string& payload) {
  std::string out;
  for (const int shift : {16, 8, 0}) out += static_cast<char>(payload.size() >> shift);
  out += static_cast<char>(type);
  out += static_cast<char>(flags);
  for (const int shift : {24, 16, 8, 0}) out += static_cast<char>(stream >> shift);
  return out + payload;
}

std::string Header(uint32_t length) {
  std::string out(1, '\0');
  for (const int shift : {24, 16, 8, 0}) out += static_cast<char>(length >> shift);
  return out;
}

std::string Message(const std::string& content) {
  return Header(static_cast<uint32_t>(content.size())) + content;
}

// What comes of `bytes` when they arrive in pieces of up to `piece` bytes.
std::string Passed(std::string bytes, size_t piece, MessageLimit* limit) {
  for (size_t at = 0; at < bytes.size(); at += piece)
    limit->Pass(
        {reinterpret_cast<uint8_t*>(bytes.data()) + at, std::min(piece, bytes.size() - at)});
  return bytes;
}
std::string Passed(const std::string& bytes, size_t piece) {
  MessageLimit limit;
  return Passed(bytes, piece, &limit);
}

constexpr uint32_t kMost = 16 << 20, kClipped = kMost + 1;

struct Case {
  const char* name;
  std::string sent;
  std::string want;
};

class MessageLimitTest : public testing::TestWithParam<Case> {};

TEST_P(MessageLimitTest, HoweverItArrives) {
  for (const size_t piece : {1, 2, 3, 5, 7, 9, 100, 100'000})
    EXPECT_EQ(Passed(kPreface + GetParam().sent, piece), kPreface + GetParam().want) << piece;
}

INSTANTIATE_TEST_SUITE_P(
    Streams, MessageLimitTest,
    testing::Values(
        Case{"Small", Frame(kData, 1, 1, Message("abc")), Frame(kData, 1, 1, Message("abc"))},
        // gRPC tells these itself, and names their size.
        Case{"LittleTooLong", Frame(kData, 0, 1, Header(kMost * 2 - 1)),
             Frame(kData, 0, 1, Header(kMost * 2 - 1))},
        Case{"TooLong", Frame(kData, 0, 1, Header(kMost * 2) + "abc"),
             Frame(kData, 0, 1, Header(kClipped) + "abc")},
        Case{"Longest", Frame(kData, 0, 1, Header(~0u)), Frame(kData, 0, 1, Header(kClipped))},
        Case{"TheSecondMessage", Frame(kData, 0, 1, Message("abc") + Message("") + Header(~0u)),
             Frame(kData, 0, 1, Message("abc") + Message("") + Header(kClipped))},
        Case{"ContentThatLooksLikeIt", Frame(kData, 0, 1, Message(Header(~0u))),
             Frame(kData, 0, 1, Message(Header(~0u)))},
        Case{"OtherFrames", Frame(kHeaders, 4, 1, Header(~0u)) + Frame(kData, 0, 1, Header(~0u)),
             Frame(kHeaders, 4, 1, Header(~0u)) + Frame(kData, 0, 1, Header(kClipped))},
        Case{"HeaderInTwoFrames",
             Frame(kData, 0, 1, std::string("\0\x7f", 2)) + Frame(kData, 0, 1, "") +
                 Frame(kData, 0, 1, std::string("\1\2\3x", 4)),
             Frame(kData, 0, 1, std::string("\0\1", 2)) + Frame(kData, 0, 1, "") +
                 Frame(kData, 0, 1, std::string("\0\0\1x", 4))},
        Case{"StreamsInTurns",
             Frame(kData, 0, 1, Header(10) + "abc") + Frame(kData, 0, 3, Header(~0u)) +
                 Frame(kData, 0, 1, "defghij" + Header(~0u)),
             Frame(kData, 0, 1, Header(10) + "abc") + Frame(kData, 0, 3, Header(kClipped)) +
                 Frame(kData, 0, 1, "defghij" + Header(kClipped))},
        Case{"Padding",
             Frame(kData, 8, 1, "\6" + Header(4) + "ab" + "\1\1\1\1\1\1") +
                 Frame(kData, 8, 1, std::string("\0cd", 3) + Header(~0u)),
             Frame(kData, 8, 1, "\6" + Header(4) + "ab" + "\1\1\1\1\1\1") +
                 Frame(kData, 8, 1, std::string("\0cd", 3) + Header(kClipped))},
        // What no client may send has no effect on others.
        Case{"MorePaddingThanThereIs",
             Frame(kData, 8, 1, "\x7f" + Header(~0u)) + Frame(kData, 0, 3, Header(~0u)),
             Frame(kData, 8, 1, "\x7f" + Header(~0u)) + Frame(kData, 0, 3, Header(kClipped))}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(MessageLimit, EndedStreamsAreForgotten) {
  MessageLimit limit;
  Passed(kPreface, 100, &limit);
  for (int stream = 1; stream < 100; stream += 2) {
    Passed(Frame(kData, 0, stream, Message("whole")), 100, &limit);
    EXPECT_EQ(limit.incomplete(), 0u);
    Passed(Frame(kData, 0, stream, Header(100) + "a part"), 100, &limit);
    EXPECT_EQ(limit.incomplete(), 1u);
    Passed(stream % 4 == 1 ? Frame(kReset, 0, stream, "\0\0\0\1") : Frame(kData, 1, stream, "end"),
           100, &limit);
    EXPECT_EQ(limit.incomplete(), 0u);
  }
}

TEST(MessageLimit, AnythingDoesNoHarm) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 dice(seed);
  for (int round = 0; round < 200; ++round) {
    std::string bytes(dice() % 3000, '\0');
    for (char& byte : bytes) byte = dice() % 3 == 0 ? static_cast<char>(dice()) : '\0';
    EXPECT_EQ(Passed(kPreface + bytes, 1), Passed(kPreface + bytes, 1 + dice() % 100));
  }
}

}  // namespace
}  // namespace kiln::daemon
