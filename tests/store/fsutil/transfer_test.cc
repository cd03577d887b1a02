// A real sender and a real receiver, joined by a socket.
#include <sys/xattr.h>

#include <filesystem>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/fsutil/directory_source.h"
#include "store/fsutil/directory_target.h"
#include "store/fsutil/packet_codec.h"
#include "store/fsutil/receiver.h"
#include "store/fsutil/sender.h"
#include "tests/store/fsutil/socket_stream.h"
#include "tests/store/fsutil/test_tree.h"

namespace kiln::fsutil {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

// Counts what the receiver asks for on the way through.
class CountingStream : public PacketStream {
 public:
  explicit CountingStream(PacketStream& inner) : inner_(inner) {}
  absl::StatusOr<bool> Read(Packet* packet) override { return inner_.Read(packet); }
  absl::Status Write(const Packet& packet) override {
    if (packet.type == Packet::Type::kReq) ++requests;
    return inner_.Write(packet);
  }
  absl::Status Flush() override { return inner_.Flush(); }
  void Abort() override { inner_.Abort(); }
  int requests = 0;

 private:
  PacketStream& inner_;
};

struct Outcome {
  absl::Status sent, received;
  int requests = 0;
};

Outcome Transfer(FileSource& source, ReceiveTarget& target, const ReceiveOptions& options = {}) {
  auto [a, b] = SocketStream::Pair();
  Outcome outcome;
  std::thread sender([&, stream = a.get()] { outcome.sent = Send(*stream, source); });
  CountingStream counting(*b);
  outcome.received = Receive(counting, target, options);
  sender.join();
  outcome.requests = counting.requests;
  return outcome;
}

Outcome Sync(const TestTree& from, const TestTree& to, ReceiveOptions options = {},
             const FilterOptions& filter = {}) {
  auto source = DirectorySource::Create(from.path(), filter);
  auto target = DirectoryTarget::Open(to.path(), true);
  EXPECT_TRUE(source.ok() && target.ok());
  options.existing_root = to.path();
  Outcome outcome = Transfer(**source, **target, options);
  EXPECT_TRUE(outcome.sent.ok()) << outcome.sent;
  EXPECT_TRUE(outcome.received.ok()) << outcome.received;
  return outcome;
}

// Everything that a transfer keeps, as one line for each entry.
std::vector<std::string> Describe(const TestTree& tree) {
  std::vector<std::string> out;
  auto source = DirectorySource::Create(tree.path(), {});
  absl::Status status = (*source)->Walk([&](Stat* stat) {
    std::string xattrs;
    for (const auto& [name, value] : stat->xattrs) absl::StrAppend(&xattrs, name, "=", value, " ");
    const std::string data =
        IsRegular(stat->mode) && !IsHardlink(*stat) ? tree.Read(stat->path) : "";
    out.push_back(absl::StrCat(stat->path, " ", absl::Hex(stat->mode), " ", stat->uid, ":",
                               stat->gid, " ", stat->size, " ", stat->mod_time_ns, " ",
                               stat->linkname, " ", xattrs, data));
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

void Fill(const TestTree& tree) {
  tree.Dir("d");
  tree.Dir("d/empty", 0711);
  tree.File("d/file", "content", 0600);
  tree.File("d/zero", "");
  tree.File("d/big", std::string(3 << 20, 'x'), 0755);
  tree.Hard("d/hard", "d/file");
  tree.Link("link", "d/file");
  tree.Link("dangling", "/nowhere");
  tree.File("sticky", "s", 04755);
  ::setxattr((tree / "sticky").c_str(), "user.k", "v", 1, 0);
  ::mkfifo((tree / "pipe").c_str(), 0640);
  tree.Time("pipe", 5);
  tree.Time("d/empty", 7);
  tree.Time("d", 8);
}

TEST(Transfer, WholeTreeArrivesAsItIs) {
  TestTree from, to;
  Fill(from);
  const Outcome outcome = Sync(from, to);
  EXPECT_EQ(Describe(to), Describe(from));
  EXPECT_EQ(outcome.requests, 4);
  EXPECT_EQ(to.Lstat("d/hard").st_ino, to.Lstat("d/file").st_ino);
}

TEST(Transfer, SecondTimeNothingTravels) {
  TestTree from, to;
  Fill(from);
  Sync(from, to);
  const ino_t inode = to.Lstat("d/big").st_ino;
  EXPECT_EQ(Sync(from, to).requests, 0);
  EXPECT_EQ(to.Lstat("d/big").st_ino, inode);
  EXPECT_EQ(Describe(to), Describe(from));
}

TEST(Transfer, OnlyTheChangeTravels) {
  TestTree from, to;
  Fill(from);
  Sync(from, to);
  from.File("d/zero", "now more", 0644, 2000);
  from.File("new", "n");
  ASSERT_TRUE(RemoveTree(AT_FDCWD, from / "d/empty").ok());
  from.Time("d", 8);
  EXPECT_EQ(Sync(from, to).requests, 2);
  EXPECT_EQ(Describe(to), Describe(from));
}

TEST(Transfer, TypesChangePlaces) {
  TestTree from, to;
  to.Dir("a");
  to.File("a/below", "old");
  to.File("b", "was a file");
  to.Link("c", "a");
  to.File("e", "x");
  to.Hard("f", "e");
  from.File("a", "now a file");
  from.Dir("b");
  from.File("b/inside", "i");
  from.Dir("c");
  from.File("c/through", "t");
  from.File("e", "y", 0644, 3000);
  from.Hard("f", "e");
  for (const char* dir : {"b", "c"}) from.Time(dir, 9);
  Sync(from, to);
  EXPECT_EQ(Describe(to), Describe(from));
  EXPECT_EQ(to.Read("f"), "y");
}

TEST(Transfer, LinkFollowsAFileThatWasReplaced) {
  // The link's own metadata agree with the old tree; its content must be that of the new file.
  TestTree from, to;
  to.File("a", "old!");
  to.Hard("b", "a");
  from.File("a", "longer");
  from.Hard("b", "a");
  Sync(from, to);
  EXPECT_EQ(to.Read("b"), "longer");
  EXPECT_EQ(to.Lstat("a").st_ino, to.Lstat("b").st_ino);
}

TEST(Transfer, EqualMetadataHidesAChangeUnlessAskedForEverything) {
  TestTree from, to;
  from.File("a", "one");
  Sync(from, to);
  from.File("a", "two");
  EXPECT_EQ(Sync(from, to).requests, 0);
  EXPECT_EQ(to.Read("a"), "one");
  ReceiveOptions all;
  all.differ = ReceiveOptions::Differ::kNone;
  EXPECT_EQ(Sync(from, to, all).requests, 1);
  EXPECT_EQ(to.Read("a"), "two");
}

TEST(Transfer, MergeKeepsWhatIsThere) {
  TestTree from, to;
  to.File("kept", "k");
  to.Dir("d");
  to.File("d/kept", "dk");
  to.File("d/replaced", "old");
  from.Dir("d");
  from.File("d/replaced", "new");
  auto source = DirectorySource::Create(from.path(), {});
  auto target = DirectoryTarget::Open(to.path(), true);
  const Outcome outcome = Transfer(**source, **target);
  EXPECT_TRUE(outcome.received.ok()) << outcome.received;
  EXPECT_EQ(to.Read("kept"), "k");
  EXPECT_EQ(to.Read("d/kept"), "dk");
  EXPECT_EQ(to.Read("d/replaced"), "new");
}

TEST(Transfer, NeverWritesThroughASymlinkThatIsThere) {
  TestTree from, to, outside;
  outside.File("f", "untouched");
  to.Link("d", outside.path());
  to.Link("g", outside / "f");
  from.Dir("d");
  from.File("d/f", "evil");
  from.File("g", "evil");
  auto source = DirectorySource::Create(from.path(), {});
  auto target = DirectoryTarget::Open(to.path(), true);
  const Outcome outcome = Transfer(**source, **target);
  EXPECT_TRUE(outcome.received.ok()) << outcome.received;
  EXPECT_EQ(outside.Read("f"), "untouched");
  EXPECT_EQ(to.Read("d/f"), "evil");
}

TEST(Transfer, MapForcesTheOwner) {
  TestTree from, to;
  from.File("a", "1");
  ReceiveOptions options;
  options.map = [](Stat* stat) {
    stat->uid = ::getuid();
    stat->gid = ::getgid();
    stat->mode = 0600;
  };
  Sync(from, to, options);
  EXPECT_EQ(to.Lstat("a").st_mode & 07777, 0600u);
  EXPECT_EQ(Sync(from, to, options).requests, 0);
}

TEST(Transfer, DirectoryWithoutWritePermissionIsFilled) {
  TestTree from, to;
  from.Dir("ro");
  from.File("ro/f", "x");
  ASSERT_EQ(::chmod((from / "ro").c_str(), 0555), 0);
  Sync(from, to);
  EXPECT_EQ(to.Lstat("ro").st_mode & 07777, 0555u);
  EXPECT_EQ(to.Read("ro/f"), "x");
  ASSERT_EQ(::chmod((from / "ro").c_str(), 0755), 0);
  ASSERT_EQ(::chmod((to / "ro").c_str(), 0755), 0);
}

TEST(Transfer, MetadataOnlyKeepsTheListing) {
  TestTree from, to;
  from.Dir("d");
  from.Dir("d/deep");
  from.File("d/deep/wanted", "w");
  from.File("d/other", "o");
  from.File(kMetadataFile, "mine");
  to.File("stale", "s");
  ReceiveOptions options;
  options.metadata_only = true;
  options.exception = [](const std::string& path) { return path == "d/deep/wanted"; };
  EXPECT_EQ(Sync(from, to, options).requests, 1);
  EXPECT_EQ(to.Read("d/deep/wanted"), "w");
  EXPECT_FALSE(to.Exists("d/other"));
  EXPECT_FALSE(to.Exists("stale"));
  std::vector<std::string> listed;
  const std::string records = to.Read(kMetadataFile);
  for (size_t at = 0; at + 4 <= records.size();) {
    uint32_t size = 0;
    for (int i = 3; i >= 0; --i) size = size << 8 | static_cast<uint8_t>(records[at + i]);
    Stat stat;
    ASSERT_TRUE(ParseStat(absl::string_view(records).substr(at + 4, size), &stat).ok());
    listed.push_back(stat.path);
    at += 4 + size;
  }
  EXPECT_THAT(listed, ElementsAre("d", "d/deep", "d/deep/wanted", "d/other"));
}

TEST(Transfer, MetadataOnlyLinksFindTheirContent) {
  TestTree from, to;
  from.File("a", "content");
  from.Hard("b", "a");
  from.Dir("d");
  from.Hard("d/c", "a");
  from.File("e", "other");
  from.Hard("f", "e");
  ReceiveOptions options;
  options.metadata_only = true;
  options.exception = [](const std::string& path) { return path != "a"; };
  EXPECT_EQ(Sync(from, to, options).requests, 2);
  EXPECT_FALSE(to.Exists("a"));
  EXPECT_EQ(to.Read("b"), "content");
  EXPECT_TRUE(std::filesystem::equivalent(to / "b", to / "d/c"));
  EXPECT_EQ(to.Read("f"), "other");
  EXPECT_TRUE(std::filesystem::equivalent(to / "e", to / "f"));
}

// A source that fails where the test says.
class FailingSource : public FileSource {
 public:
  explicit FailingSource(FileSource& inner) : inner_(inner) {}
  absl::Status Walk(const std::function<absl::Status(Stat*)>& visit) override {
    return inner_.Walk([&](Stat* stat) {
      if (stat->path == fail_at) return absl::DataLossError("disk is on fire");
      return visit(stat);
    });
  }
  absl::StatusOr<Fd> Open(const std::string& path) override {
    if (path == vanish) return absl::NotFoundError("gone");
    return inner_.Open(path);
  }
  std::string fail_at, vanish;

 private:
  FileSource& inner_;
};

TEST(Transfer, WalkErrorReachesBothSides) {
  TestTree from, to;
  from.File("a", "1");
  from.File("b", "2");
  auto source = DirectorySource::Create(from.path(), {});
  FailingSource failing(**source);
  failing.fail_at = "b";
  auto target = DirectoryTarget::Open(to.path(), true);
  const Outcome outcome = Transfer(failing, **target);
  EXPECT_EQ(outcome.sent.code(), absl::StatusCode::kDataLoss) << outcome.sent;
  EXPECT_THAT(outcome.received.message(), HasSubstr("error from sender: disk is on fire"));
}

TEST(Transfer, FileThatCannotBeOpenedDoesNotHang) {
  TestTree from, to;
  from.File("a", "12345");
  auto source = DirectorySource::Create(from.path(), {});
  FailingSource failing(**source);
  failing.vanish = "a";
  auto target = DirectoryTarget::Open(to.path(), true);
  const Outcome outcome = Transfer(failing, **target);
  EXPECT_EQ(outcome.received.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(outcome.received.message(),
              HasSubstr("size of \"a\" does not match: 5 bytes announced, 0 received"));
  EXPECT_THAT(outcome.sent.message(), HasSubstr("error from receiver: size of \"a\""));
  EXPECT_FALSE(to.Exists("a"));
}

// A target whose writes fail.
class FullTarget : public ReceiveTarget {
 public:
  bool AllowsDevices() const override { return true; }
  absl::Status MakeDir(const Stat&) override { return absl::OkStatus(); }
  absl::Status FinishDir(const Stat&) override { return absl::OkStatus(); }
  absl::Status MakeSymlink(const Stat&) override { return absl::OkStatus(); }
  absl::Status MakeNode(const Stat&) override { return absl::OkStatus(); }
  absl::Status MakeHardlink(const Stat&) override { return absl::OkStatus(); }
  absl::Status WriteFile(const Stat& stat, std::string) override {
    return absl::ResourceExhaustedError(absl::StrCat("write ", stat.path, ": disk full"));
  }
  absl::StatusOr<std::unique_ptr<ReceiveFile>> CreateFile(const Stat& stat) override {
    return WriteFile(stat, "");
  }
  absl::Status Remove(const std::string&) override { return absl::OkStatus(); }
};

TEST(Transfer, WriteErrorReachesBothSides) {
  TestTree from;
  for (int i = 0; i < 500; ++i) from.File(absl::StrCat("f", i), "data");
  auto source = DirectorySource::Create(from.path(), {});
  FullTarget target;
  const Outcome outcome = Transfer(**source, target);
  EXPECT_EQ(outcome.received.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(outcome.received.message(), HasSubstr("disk full"));
  EXPECT_FALSE(outcome.sent.ok());
}

TEST(Transfer, CancelEndsASenderWithoutReceiver) {
  TestTree from;
  from.File("a", "1");
  auto source = DirectorySource::Create(from.path(), {});
  auto [a, b] = SocketStream::Pair();
  CancelSource cancel;
  absl::Status sent;
  std::thread sender(
      [&, stream = a.get()] { sent = Send(*stream, **source, {.cancel = cancel.token()}); });
  Packet packet;
  ASSERT_TRUE(b->Read(&packet).ok());  // it is under way
  cancel.Cancel(absl::CancelledError("user went home"));
  sender.join();
  EXPECT_EQ(sent, absl::CancelledError("user went home"));
}

TEST(Transfer, CancelEndsAReceiverWithoutSender) {
  TestTree to;
  auto target = DirectoryTarget::Open(to.path(), true);
  auto [a, b] = SocketStream::Pair();
  CancelSource cancel;
  absl::Status received;
  std::thread receiver(
      [&, stream = b.get()] { received = Receive(*stream, **target, {.cancel = cancel.token()}); });
  Packet end;  // the listing ends; then nothing follows the receiver's FIN
  ASSERT_TRUE(a->Write(end).ok() && a->Flush().ok());
  Packet fin;
  ASSERT_TRUE(a->Read(&fin).ok());
  EXPECT_EQ(fin.type, Packet::Type::kFin);
  cancel.Cancel();
  receiver.join();
  EXPECT_EQ(received.code(), absl::StatusCode::kCancelled);
}

TEST(Transfer, TheSendersFinMayBeLeft) {
  TestTree to;
  auto target = DirectoryTarget::Open(to.path(), true);
  auto [a, b] = SocketStream::Pair();
  Packet packet;
  packet.has_stat = true;
  packet.stat.path = "f";
  packet.stat.mode = 0644;
  packet.stat.size = 1;
  ASSERT_TRUE(a->Write(packet).ok() && a->Write(Packet()).ok());
  packet = Packet();
  packet.type = Packet::Type::kData;
  packet.data = "x";
  ASSERT_TRUE(a->Write(packet).ok());
  packet.data = "";
  ASSERT_TRUE(a->Write(packet).ok() && a->Flush().ok());
  EXPECT_EQ(Receive(*b, **target, {.leave_fin = true}), absl::OkStatus());
  EXPECT_EQ(to.Read("f"), "x");
  for (const Packet::Type type : {Packet::Type::kReq, Packet::Type::kFin}) {
    ASSERT_TRUE(a->Read(&packet).ok());
    EXPECT_EQ(packet.type, type);
  }
}

TEST(Sender, RefusesRequestsItCannotAnswer) {
  for (const uint32_t id : {1u, 7u}) {  // a directory; nothing
    TestTree from;
    from.File("a", "1");
    from.Dir("b");
    auto source = DirectorySource::Create(from.path(), {});
    auto [a, b] = SocketStream::Pair();
    absl::Status sent;
    std::thread sender([&, stream = a.get()] { sent = Send(*stream, **source); });
    Packet packet;
    do {
      ASSERT_TRUE(b->Read(&packet).ok());
    } while (packet.has_stat);
    packet = Packet();
    packet.type = Packet::Type::kReq;
    packet.id = id;
    ASSERT_TRUE(b->Write(packet).ok() && b->Flush().ok());
    sender.join();
    EXPECT_EQ(sent, absl::InvalidArgumentError(absl::StrCat("invalid file id ", id)));
  }
}

TEST(Sender, RefusesADuplicateRequest) {
  TestTree from;
  from.File("a", "1");
  auto source = DirectorySource::Create(from.path(), {});
  auto [a, b] = SocketStream::Pair();
  absl::Status sent;
  std::thread sender([&, stream = a.get()] { sent = Send(*stream, **source); });
  Packet packet;
  ASSERT_TRUE(b->Read(&packet).ok());
  packet = Packet();
  packet.type = Packet::Type::kReq;
  ASSERT_TRUE(b->Write(packet).ok() && b->Write(packet).ok() && b->Flush().ok());
  sender.join();
  EXPECT_EQ(sent, absl::InvalidArgumentError("invalid file id 0"));
}

TEST(Transfer, ManyRequestsNeitherSideBlocksTheOther) {
  // More requests than fit into the socket's buffers and the sender's queue.
  TestTree from, to;
  for (int i = 0; i < 3000; ++i) from.File(absl::StrCat("file-", i), std::string(100, 'x'));
  EXPECT_EQ(Sync(from, to).requests, 3000);
  EXPECT_EQ(Sync(from, to).requests, 0);
}

}  // namespace
}  // namespace kiln::fsutil
