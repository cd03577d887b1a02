// Hostile and broken streams, as recorded packets.
#include "store/fsutil/receiver.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/fsutil/directory_cursor.h"
#include "store/fsutil/directory_target.h"
#include "store/fsutil/packet_codec.h"
#include "tests/store/fsutil/test_tree.h"

namespace kiln::fsutil {
namespace {

using testing::HasSubstr;

// Writes the packets of one stream.
class Script {
 public:
  Script& Stat(const std::string& path, uint32_t mode = 0644, int64_t size = 0,
               const std::string& linkname = "", int64_t devmajor = 0) {
    Packet packet;
    packet.has_stat = true;
    packet.stat.path = path;
    packet.stat.mode = mode;
    packet.stat.size = size;
    packet.stat.linkname = linkname;
    packet.stat.devmajor = devmajor;
    packet.stat.uid = ::getuid();
    packet.stat.gid = ::getgid();
    return Add(packet);
  }
  Script& End() { return Add(Packet()); }
  Script& Data(uint32_t id, const std::string& data) {
    Packet packet;
    packet.type = Packet::Type::kData;
    packet.id = id;
    packet.data = data;
    return Add(packet);
  }
  Script& Fin() { return Type(Packet::Type::kFin); }
  Script& Type(Packet::Type type, const std::string& data = "") {
    Packet packet;
    packet.type = type;
    packet.data = data;
    return Add(packet);
  }
  Script& Raw(const std::string& bytes) {
    out_ += bytes;
    return *this;
  }
  const std::string& bytes() const { return out_; }

 private:
  Script& Add(const Packet& packet) {
    for (size_t size = EncodedSize(packet);;) {
      out_.push_back(static_cast<char>(size >= 0x80 ? size | 0x80 : size));
      if ((size >>= 7) == 0) break;
    }
    AppendPacket(packet, &out_);
    return *this;
  }
  std::string out_;
};

absl::Status Feed(const Script& script, const TestTree& tree, bool allow_devices = false) {
  auto target = DirectoryTarget::Open(tree.path(), allow_devices);
  EXPECT_TRUE(target.ok());
  return ReceiveBuffer(script.bytes(), **target, {.existing_root = tree.path()});
}

TEST(Receiver, AcceptsAGoodStream) {
  TestTree tree;
  const absl::Status status = Feed(Script()
                                       .Stat("d", kModeDir | 0755)
                                       .Stat("d/f", 0644, 4)
                                       .Stat("g")
                                       .Data(1, "da")
                                       .End()
                                       .Data(2, "")
                                       .Data(1, "ta")
                                       .Data(1, "")
                                       .Fin(),
                                   tree);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(tree.Read("d/f"), "data");
  EXPECT_EQ(tree.Read("g"), "");
}

TEST(Receiver, PromotedLinkHasContentThoughItAnnouncedNone) {
  TestTree tree;
  ASSERT_TRUE(Feed(Script().Stat("a").End().Data(0, "xyz").Data(0, "").Fin(), tree).ok());
  EXPECT_EQ(tree.Read("a"), "xyz");
}

TEST(Receiver, LargeFileArrivesInPieces) {
  TestTree tree;
  Script script;
  script.Stat("a", 0644, 10 << 20).End();
  for (int i = 0; i < 10; ++i) script.Data(0, std::string(1 << 20, static_cast<char>('a' + i)));
  ASSERT_TRUE(Feed(script.Data(0, "").Fin(), tree).ok());
  const std::string got = tree.Read("a");
  EXPECT_EQ(got.size(), 10u << 20);
  EXPECT_EQ(got.back(), 'j');
}

struct HostileCase {
  const char* name;
  Script script;
  absl::StatusCode code;
  const char* want;
};
class HostileStreamTest : public testing::TestWithParam<HostileCase> {};

TEST_P(HostileStreamTest, IsRefusedByName) {
  TestTree tree;
  const absl::Status status = Feed(GetParam().script, tree);
  EXPECT_EQ(status.code(), GetParam().code) << status;
  EXPECT_THAT(status.message(), HasSubstr(GetParam().want));
  // Nothing half-made stays behind.
  auto cursor = DirectoryCursor::Open(tree.path());
  ASSERT_TRUE(cursor.ok());
  while (*(*cursor)->Next()) EXPECT_THAT((*cursor)->path(), testing::Not(HasSubstr(".kiln-")));
}

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

Script TooManyAtOnce() {
  Script script;
  for (int i = 100; i < 200; ++i) script.Stat(std::to_string(i), 0644, 2);
  for (uint32_t i = 0; i < 100; ++i) script.Data(i, "x");
  return script;
}

INSTANTIATE_TEST_SUITE_P(
    Streams, HostileStreamTest,
    testing::ValuesIn<HostileCase>(
        {{"Order", Script().Stat("b").Stat("a"), kInvalid, "changes out of order: \"a\" \"b\""},
         {"Absolute", Script().Stat("/etc/cron.d/x"), kInvalid, "\"/etc/cron.d/x\": absolute"},
         {"DotDot", Script().Stat("../x"), kInvalid, "\"../x\": path escapes the root"},
         {"ThroughLink", Script().Stat("l", kModeSymlink | 0777, 4, "/etc").Stat("l/passwd"),
          kInvalid, "out of order: \"l/passwd\""},
         {"UnknownLink", Script().Stat("a", 0644, 0, "b"), kInvalid, "to unknown path: \"b\""},
         {"CharDevice", Script().Stat("null", kModeDevice | kModeCharDevice | 0666, 0, "", 1),
          kInvalid, "device node is not allowed: \"null\""},
         {"Whiteout", Script().Stat("gone", kModeDevice | kModeCharDevice), kInvalid,
          "device node is not allowed: \"gone\""},
         {"BlockDevice", Script().Stat("sda", kModeDevice | 0660, 0, "", 8), kInvalid,
          "device node is not allowed: \"sda\""},
         {"Irregular", Script().Stat("i", kModeIrregular), kInvalid, "unknown type: \"i\""},
         {"Socket", Script().Stat("s", kModeSocket), kInvalid, "unknown type: \"s\""},
         {"NegativeSize", Script().Stat("a", 0644, -1), kInvalid, "invalid size -1"},
         {"TooLong", Script().Stat("a", 0644, 2).Data(0, "abc"), absl::StatusCode::kDataLoss,
          "size of \"a\" does not match: 2 bytes announced, 3"},
         {"TooShort", Script().Stat("a", 0644, 5).Data(0, "abc").Data(0, ""),
          absl::StatusCode::kDataLoss, "size of \"a\" does not match: 5 bytes announced, 3"},
         {"NotRequested", Script().Stat("a").Data(3, "x"), kInvalid, "invalid file request 3"},
         {"DataForDir", Script().Stat("a", kModeDir | 0755).Data(0, "x"), kInvalid,
          "invalid file request 0"},
         {"DataForLink", Script().Stat("a").Stat("b", 0644, 0, "a").Data(1, "x"), kInvalid,
          "invalid file request 1"},
         {"EndedTwice", Script().Stat("a").Data(0, "").Data(0, ""), kInvalid,
          "invalid file request 0"},
         {"StatAfterEnd", Script().Stat("a").End().Stat("b"), kInvalid,
          "after the end of the listing: \"b\""},
         {"TwoEnds", Script().Stat("a").End().End(), kInvalid, "second end"},
         {"EarlyFin", Script().Stat("a").Fin(), kInvalid, "FIN from the sender within"},
         {"FinBeforeData", Script().Stat("a").End().Fin(), kInvalid, "one is \"a\""},
         {"Request", Script().Type(Packet::Type::kReq), kInvalid, "unexpected packet type 1"},
         {"NoFin", Script().End().Data(0, ""), kInvalid, "in place of FIN"},
         {"Err", Script().Stat("a").Type(Packet::Type::kErr, "lost my disk"),
          absl::StatusCode::kUnknown, "error from sender: lost my disk"},
         {"Silent", Script().Stat("a"), absl::StatusCode::kUnavailable, "ended the stream early"},
         {"Garbage", Script().Raw("\x03\x0b\x0b\x0b"), kInvalid, "malformed packet"},
         {"NameTooLong", Script().Stat(std::string(300, 'n'), kModeDir | 0755), kInvalid,
          "File name too long"},
         {"TooManyAtOnce", TooManyAtOnce(), kInvalid, "more than 64 files at once"}}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(Receiver, DevicesWhereTheTargetAllowsThem) {
  if (::geteuid() != 0) GTEST_SKIP() << "making a device node needs root";
  TestTree tree;
  const absl::Status status =
      Feed(Script().Stat("null", kModeDevice | kModeCharDevice | 0666, 0, "", 1).End().Fin(), tree,
           true);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_TRUE(S_ISCHR(tree.Lstat("null").st_mode));
}

}  // namespace
}  // namespace kiln::fsutil
