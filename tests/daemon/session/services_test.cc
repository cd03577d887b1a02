#include "daemon/session/services.h"

#include <sys/socket.h>

#include <thread>

#include "absl/synchronization/notification.h"
#include "daemon/session/auth.h"
#include "daemon/session/call_metadata.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/daemon/session/fake_client.h"
#include "tests/daemon/session/fake_session.h"
#include "tests/store/fsutil/test_tree.h"

namespace kiln::daemon {
namespace {

using fsutil::TestTree;
using testing::Contains;
using testing::HasSubstr;
using testing::Pair;

class ServicesTest : public testing::Test {
 protected:
  // Syncs `request` into `to`.
  absl::Status Sync(const FileSyncRequest& request, const TestTree& to) {
    const auto receive = [&](fsutil::PacketStream& stream) {
      auto target = fsutil::DirectoryTarget::Open(to.path(), true);
      fsutil::ReceiveOptions options;
      options.existing_root = to.path();
      options.leave_fin = true;
      return fsutil::Receive(stream, **target, options);
    };
    return DiffCopy(session_, request, {}, receive, &endings_);
  }

  FakeClient client_;
  FakeSession session_{"s1", client_.Channel()};
  CallEndings endings_;
};

TEST_F(ServicesTest, DiffCopyBringsADirectory) {
  TestTree from, to;
  from.Dir("d");
  for (int i = 0; i < 300; ++i) from.File(absl::StrCat("d/f", i), absl::StrCat("data ", i));
  from.File("big", std::string(5 << 20, 'b'));
  client_.dirs["context"] = from.path();
  ASSERT_TRUE(Sync({.dir_name = "context"}, to).ok());
  EXPECT_EQ(to.Read("d/f299"), "data 299");
  EXPECT_EQ(to.Read("big").size(), 5u << 20);
  from.File("d/f7", "changed", 0644, 2000);
  ASSERT_TRUE(Sync({.dir_name = "context"}, to).ok());
  EXPECT_EQ(to.Read("d/f7"), "changed");
}

TEST_F(ServicesTest, DiffCopySendsPatternsAsHeaders) {
  TestTree from, to;
  from.File("keep.txt", "k");
  from.File("drop.txt", "d");
  client_.dirs["context"] = from.path();
  ASSERT_TRUE(Sync({.dir_name = "context",
                    .include_patterns = {"*.txt", "x"},
                    .exclude_patterns = {"drop*"}},
                   to)
                  .ok());
  EXPECT_TRUE(to.Exists("keep.txt"));
  EXPECT_FALSE(to.Exists("drop.txt"));
  EXPECT_THAT(client_.headers(), Contains(Pair("include-patterns", "x")));
  EXPECT_EQ(client_.headers().count("include-patterns-encoded"), 0u);
}

TEST_F(ServicesTest, DiffCopyEscapesWhatHeadersCannotCarry) {
  TestTree to;
  client_.dirs["context"] = to.path();
  ASSERT_TRUE(Sync({.dir_name = "context",
                    .include_patterns = {},
                    .exclude_patterns = {"a b", "\xc3\xa4*", "line\nbreak", "~-_.!"}},
                   to)
                  .ok());
  const Headers headers = client_.headers();
  EXPECT_THAT(headers, Contains(Pair("exclude-patterns", "a+b")));
  EXPECT_THAT(headers, Contains(Pair("exclude-patterns", "%C3%A4%2A")));
  EXPECT_THAT(headers, Contains(Pair("exclude-patterns", "line%0Abreak")));
  EXPECT_THAT(headers, Contains(Pair("exclude-patterns", "~-_.%21")));
  EXPECT_THAT(headers, Contains(Pair("exclude-patterns-encoded", "1")));
  EXPECT_EQ(headers.count("dir-name-encoded"), 0u);
}

TEST_F(ServicesTest, DiffCopyRefusesTooManyPatterns) {
  TestTree to;
  FileSyncRequest request{.dir_name = "context"};
  for (int i = 0; i < 2000; ++i) request.exclude_patterns.push_back(std::string(600, 'x'));
  const absl::Status status = Sync(request, to);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("patterns of local source context are too large"));
  EXPECT_EQ(client_.file_sync_calls(), 0);
}

TEST_F(ServicesTest, DiffCopyTellsWhatTheClientSaid) {
  TestTree to;
  const absl::Status status = Sync({.dir_name = "other"}, to);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "no access allowed to dir \"other\"");
  session_.unsupported.insert("/moby.filesync.v1.filesync/diffcopy");
  EXPECT_EQ(Sync({.dir_name = "other"}, to).message(), "no local sources enabled");
}

TEST_F(ServicesTest, DiffCopyLeavesTheEndOfTheCall) {
  TestTree from, to;
  from.File("a", "x");
  client_.dirs["context"] = from.path();
  // The client's thread may get there when this one has left the test.
  const auto returned = std::make_shared<absl::Notification>();
  client_.on_file_sync_end = [returned] { returned->WaitForNotification(); };
  EXPECT_EQ(Sync({.dir_name = "context"}, to), absl::OkStatus());
  EXPECT_EQ(to.Read("a"), "x");
  returned->Notify();
}

TEST_F(ServicesTest, DiffCopyReturnsTheReceiversOwnError) {
  TestTree from;
  from.File("a", "x");
  client_.dirs["context"] = from.path();
  const absl::Status status = DiffCopy(
      session_, {.dir_name = "context"}, {},
      [](fsutil::PacketStream& stream) {
        fsutil::Packet packet;
        EXPECT_TRUE(*stream.Read(&packet));
        return absl::ResourceExhaustedError("disk full");
      },
      &endings_);
  EXPECT_EQ(status, absl::ResourceExhaustedError("disk full"));
}

TEST_F(ServicesTest, DiffCopyEndsWithTheSessionAndTheCaller) {
  TestTree from, to;
  client_.dirs["context"] = from.path();
  CancelSource cancel;
  client_.on_file_sync = [&](Headers&) { cancel.Cancel(absl::CancelledError("enough")); };
  absl::Status status = DiffCopy(
      session_, {.dir_name = "context"}, cancel.token(),
      [](fsutil::PacketStream& stream) {
        fsutil::Packet packet;
        while (*stream.Read(&packet)) {
        }
        return absl::UnavailableError("ended");
      },
      &endings_);
  EXPECT_EQ(status, absl::CancelledError("enough"));
  client_.on_file_sync = [&](Headers&) { session_.Close(); };
  status = Sync({.dir_name = "context"}, to);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("session s1 was closed"));
}

TEST_F(ServicesTest, SendDirectorySpeaksPacketsOnFileSend) {
  TestTree from, to;
  from.Dir("bin");
  from.File("bin/tool", "elf", 0755);
  from.Link("link", "bin/tool");
  client_.export_dir = to.path();
  const absl::Status status =
      SendDirectory(session_, 3, {{"buildkit-exporter-multi-platform", "1"}}, {},
                    [&](fsutil::PacketStream& stream) {
                      auto source = fsutil::DirectorySource::Create(from.path(), {});
                      return fsutil::Send(stream, **source);
                    });
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(to.Read("bin/tool"), "elf");
  EXPECT_EQ(to.Read("link"), "elf");
  EXPECT_THAT(client_.headers(), Contains(Pair("buildkit-attachable-exporter-id", "3")));
  EXPECT_THAT(client_.headers(), Contains(Pair("buildkit-exporter-multi-platform", "1")));
}

TEST_F(ServicesTest, SendFileCarriesBytesAndMetadata) {
  const std::string big(1 << 20, 'z');
  const absl::Status status =
      SendFile(session_, 0, {{"containerimage.digest", "sha256:x"}}, {}, [&](const ByteSink& sink) {
        for (int i = 0; i < 1000; ++i) {
          if (absl::Status s = sink("0123456789"); !s.ok()) return s;
        }
        for (int i = 0; i < 5; ++i) {
          if (absl::Status s = sink(big); !s.ok()) return s;
        }
        return sink("end");
      });
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(client_.received_file.size(), 10000u + (5u << 20) + 3);
  EXPECT_EQ(client_.received_file.substr(client_.received_file.size() - 3), "end");
  EXPECT_THAT(client_.headers(), Contains(Pair("exporter-md-containerimage.digest", "sha256:x")));
}

TEST_F(ServicesTest, SendFileReportsARefusalAndTheProducersError) {
  client_.file_send_status = absl::AlreadyExistsError("target already exists");
  const std::string big(4 << 20, 'z');
  EXPECT_EQ(SendFile(session_, 0, {}, {},
                     [&](const ByteSink& sink) {
                       for (int i = 0; i < 16; ++i) {
                         if (absl::Status s = sink(big); !s.ok()) return s;
                       }
                       return absl::OkStatus();
                     }),
            absl::AlreadyExistsError("target already exists"));
  client_.file_send_status = absl::OkStatus();
  EXPECT_EQ(SendFile(session_, 0, {}, {},
                     [](const ByteSink&) { return absl::DataLossError("layer is broken"); }),
            absl::DataLossError("layer is broken"));
  session_.unsupported.insert("/moby.filesync.v1.filesend/diffcopy");
  EXPECT_THAT(
      SendFile(session_, 0, {}, {}, [](const ByteSink&) { return absl::OkStatus(); }).message(),
      HasSubstr("FileSend/diffcopy not supported by the client"));
}

TEST_F(ServicesTest, BadHeadersAreRefusedNotFatal) {
  auto nothing = [](const ByteSink&) { return absl::OkStatus(); };
  EXPECT_EQ(SendFile(session_, 0, {{"k", "a\nb"}}, {}, nothing).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(SendFile(session_, 0, {{"bad key", "v"}}, {}, nothing).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(
      PullUpload(session_, "h", "/\xff", {}, [](absl::string_view) { return absl::OkStatus(); })
          .code(),
      absl::StatusCode::kInvalidArgument);
}

TEST_F(ServicesTest, UploadIsReadToItsEnd) {
  client_.uploads["/id"] = "body";
  std::string got;
  auto sink = [&](absl::string_view data) {
    absl::StrAppend(&got, data);
    return absl::OkStatus();
  };
  EXPECT_TRUE(PullUpload(session_, "buildkit-session", "/id", {}, sink).ok());
  EXPECT_EQ(got, "body");
  EXPECT_EQ(PullUpload(session_, "buildkit-session", "/none", {}, sink).code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(PullUpload(session_, "buildkit-session", "/id", {},
                       [](absl::string_view) { return absl::DataLossError("no"); }),
            absl::DataLossError("no"));
}

TEST_F(ServicesTest, Secrets) {
  client_.secrets["token"] = std::string("\0binary", 7);
  EXPECT_EQ(GetSecret(session_, "token", {}).value(), std::string("\0binary", 7));
  EXPECT_EQ(GetSecret(session_, "nope", {}).status(),
            absl::NotFoundError("secret nope: not found"));
}

TEST_F(ServicesTest, CredentialsAreAnonymousWithoutAuth) {
  EXPECT_EQ(GetCredentials(session_, "registry.test", {}).value().secret, "pass");
  EXPECT_EQ(GetCredentials(session_, "other", {}).value().username, "");
}

TEST_F(ServicesTest, SshAgentIsCheckedAndForwarded) {
  EXPECT_TRUE(CheckSshAgent(session_, "", {}).ok());
  EXPECT_THAT(CheckSshAgent(session_, "none", {}).message(),
              HasSubstr("no SSH key \"none\" forwarded from the client"));
  EXPECT_THAT(CheckSshAgent(session_, "k", {}).message(), HasSubstr("unset ssh forward key k"));

  int fds[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  Fd container(fds[0]);
  absl::Status status;
  std::thread pump([&] { status = ForwardSshAgent(session_, "", Fd(fds[1]), {}); });
  ASSERT_EQ(::send(container.get(), "sign", 4, 0), 4);
  char answer[64] = {};
  ASSERT_EQ(::recv(container.get(), answer, 12, MSG_WAITALL), 12);
  EXPECT_STREQ(answer, "default:sign");
  container.Reset();  // the container's end closes
  pump.join();
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(ServicesTest, SshAgentThatLeavesEndsTheConnection) {
  int fds[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  Fd container(fds[0]);
  std::thread pump([&] { EXPECT_TRUE(ForwardSshAgent(session_, "", Fd(fds[1]), {}).ok()); });
  ASSERT_EQ(::send(container.get(), "quit", 4, 0), 4);
  char byte;
  EXPECT_EQ(::recv(container.get(), &byte, 1, 0), 0);
  pump.join();
}

TEST_F(ServicesTest, CancelUnblocksAnIdleSshConnection) {
  int fds[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  Fd container(fds[0]);
  CancelSource cancel;
  absl::Status status;
  std::thread pump([&] { status = ForwardSshAgent(session_, "", Fd(fds[1]), cancel.token()); });
  cancel.Cancel();
  pump.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace kiln::daemon
