#include "store/fsutil/packet.h"

#include <sys/stat.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/fsutil/packet_codec.h"

namespace kiln::fsutil {
namespace {

struct ModeCase {
  const char* name;
  uint32_t posix;
  uint32_t go;
};
class ModeTest : public testing::TestWithParam<ModeCase> {};

TEST_P(ModeTest, BothWays) {
  EXPECT_EQ(GoModeFromPosix(GetParam().posix), GetParam().go);
  EXPECT_EQ(PosixModeFromGo(GetParam().go), GetParam().posix);
}

INSTANTIATE_TEST_SUITE_P(
    GoFileMode, ModeTest,
    testing::ValuesIn<ModeCase>({{"Regular", S_IFREG | 0644, 0644},
                                 {"Directory", S_IFDIR | 0755, 0x80000000u | 0755},
                                 {"Symlink", S_IFLNK | 0777, 0x08000000u | 0777},
                                 {"Pipe", S_IFIFO | 0600, 0x02000000u | 0600},
                                 {"Socket", S_IFSOCK | 0600, 0x01000000u | 0600},
                                 {"Block", S_IFBLK | 0660, 0x04000000u | 0660},
                                 {"Character", S_IFCHR | 0620, 0x04200000u | 0620},
                                 {"Setuid", S_IFREG | 04755, 0x00800000u | 0755},
                                 {"Setgid", S_IFDIR | 02755, 0x80400000u | 0755},
                                 {"Sticky", S_IFDIR | 01777, 0x80100000u | 0777}}),
    [](const auto& test) { return std::string(test.param.name); });

Packet Full() {
  Packet packet;
  packet.type = Packet::Type::kStat;
  packet.has_stat = true;
  packet.stat.path = "a/\xff\xfe";
  packet.stat.mode = kModeSymlink | 0777;
  packet.stat.uid = 4000000000u;
  packet.stat.gid = 7;
  packet.stat.size = 1 << 20;
  packet.stat.mod_time_ns = -5;
  packet.stat.linkname = "../x";
  packet.stat.devmajor = 8;
  packet.stat.devminor = 1048575;
  packet.stat.xattrs = {{"user.a", std::string("\0b", 2)}, {"user.empty", ""}};
  return packet;
}

TEST(PacketCodec, RoundTripOfEveryField) {
  std::string bytes;
  const Packet packet = Full();
  AppendPacket(packet, &bytes);
  EXPECT_EQ(bytes.size(), EncodedSize(packet));
  Packet got;
  ASSERT_TRUE(ParsePacket(bytes, &got).ok());
  EXPECT_TRUE(got.has_stat);
  EXPECT_EQ(got.stat.path, packet.stat.path);
  EXPECT_EQ(got.stat.mode, packet.stat.mode);
  EXPECT_EQ(got.stat.uid, packet.stat.uid);
  EXPECT_EQ(got.stat.gid, packet.stat.gid);
  EXPECT_EQ(got.stat.size, packet.stat.size);
  EXPECT_EQ(got.stat.mod_time_ns, packet.stat.mod_time_ns);
  EXPECT_EQ(got.stat.linkname, packet.stat.linkname);
  EXPECT_EQ(got.stat.devmajor, packet.stat.devmajor);
  EXPECT_EQ(got.stat.devminor, packet.stat.devminor);
  EXPECT_EQ(got.stat.xattrs, packet.stat.xattrs);
}

TEST(PacketCodec, BytesAreThoseOfTheMessage) {
  Packet packet;
  packet.type = Packet::Type::kData;
  packet.id = 300;
  packet.data = "hi";
  std::string bytes;
  AppendPacket(packet, &bytes);
  EXPECT_EQ(bytes, std::string("\x08\x02\x18\xac\x02\x22\x02hi", 9));
  bytes.clear();
  AppendPacket(Packet(), &bytes);  // the end of a listing is an empty message
  EXPECT_EQ(bytes, "");
}

TEST(PacketCodec, EmptyStatIsPresent) {
  Packet got;
  ASSERT_TRUE(ParsePacket(absl::string_view("\x12\x00", 2), &got).ok());
  EXPECT_TRUE(got.has_stat);
}

TEST(PacketCodec, SkipsUnknownFields) {
  Packet got;
  // field 15 varint, field 14 fixed64, field 13 bytes, field 12 fixed32, then ID = 5
  ASSERT_TRUE(ParsePacket(absl::string_view("\x78\x01\x71"
                                            "12345678"
                                            "\x6a\x01x\x65"
                                            "1234"
                                            "\x18\x05",
                                            21),
                          &got)
                  .ok());
  EXPECT_EQ(got.id, 5u);
}

TEST(PacketCodec, RefusesEveryTruncation) {
  std::string bytes;
  AppendPacket(Full(), &bytes);
  Packet got;
  for (size_t n = 1; n < bytes.size(); ++n)
    EXPECT_EQ(ParsePacket(absl::string_view(bytes).substr(0, n), &got).code(),
              absl::StatusCode::kInvalidArgument)
        << n;
}

TEST(PacketCodec, RefusesUnknownTypeAndBadTags) {
  Packet got;
  EXPECT_THAT(ParsePacket(absl::string_view("\x08\x09", 2), &got).message(),
              testing::HasSubstr("unknown type 9"));
  EXPECT_FALSE(ParsePacket(absl::string_view("\x00", 1), &got).ok());  // field 0
  EXPECT_FALSE(ParsePacket(absl::string_view("\x0b", 1), &got).ok());  // group
  EXPECT_FALSE(ParsePacket(std::string(11, '\xff'), &got).ok());       // endless number
}

}  // namespace
}  // namespace kiln::fsutil
