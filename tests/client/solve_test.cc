// Whole builds against a daemon in this process: what goes over the wire, both ways.
#include "client/solve/solve.h"

#include <gmock/gmock.h>
#include <grpcpp/client_context.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

#include "absl/strings/str_cat.h"
#include "client/grpc_status.h"
#include "client/llb/exec.h"
#include "client/llb/source.h"
#include "proto/buildkit/auth.grpc.pb.h"
#include "proto/buildkit/filesync.grpc.pb.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/buildkit/secrets.grpc.pb.h"
#include "proto/buildkit/ssh.grpc.pb.h"
#include "proto/grpc/health.grpc.pb.h"
#include "proto/status_details.h"
#include "store/base/fd.h"
#include "store/fsutil/directory_source.h"
#include "store/fsutil/directory_target.h"
#include "store/fsutil/packet_codec.h"
#include "store/fsutil/receiver.h"
#include "store/fsutil/sender.h"
#include "tests/client/fake_daemon.h"

namespace kiln::client {
namespace {

using moby::filesync::v1::FileSend;
using moby::filesync::v1::FileSync;
using testing::Contains;
using testing::HasSubstr;
using testing::Pair;

using Channel = std::shared_ptr<grpc::Channel>;

// The daemon's end of a packet stream, over a call with messages of type Message.
template <typename Message, typename Stream>
class ClientPackets : public fsutil::PacketStream {
 public:
  explicit ClientPackets(Stream* stream) : stream_(stream) {}
  absl::StatusOr<bool> Read(fsutil::Packet* packet) override {
    Message message;
    if (!stream_->Read(&message)) return false;
    const absl::Status parsed = fsutil::ParsePacket(message.SerializeAsString(), packet);
    if (!parsed.ok()) return parsed;
    return true;
  }
  absl::Status Write(const fsutil::Packet& packet) override {
    std::string bytes;
    fsutil::AppendPacket(packet, &bytes);
    Message message;
    EXPECT_TRUE(message.ParseFromString(bytes));
    return stream_->Write(message) ? absl::OkStatus() : absl::CancelledError("gone");
  }
  // The call's own status says more than a cancellation would.
  void Abort() override {}

 private:
  Stream* const stream_;
};

class SolveTest : public testing::Test {
 protected:
  SolveTest() {
    std::string pattern = "/tmp/solve-test.XXXXXX";
    dir_ = mkdtemp(pattern.data());
  }
  ~SolveTest() override { std::system(("rm -rf " + dir_).c_str()); }

  std::string MakeDir(const std::string& name) {
    const std::string path = dir_ + "/" + name;
    EXPECT_EQ(mkdir(path.c_str(), 0755), 0);
    return path;
  }
  static void Write(const std::string& path, absl::string_view data) {
    ASSERT_TRUE(WriteFileAtomic(path, data, 0644).ok());
  }
  static std::string Read(const std::string& path) {
    return ReadFileToString(path).value_or("(missing)");
  }

  // Runs one build on a fake daemon.
  absl::StatusOr<SolveResult> Run(FakeDaemon::Script script, SolveOptions options,
                                  ProgressSink* sink = nullptr) {
    daemon_ = std::make_unique<FakeDaemon>(std::move(script));
    ConnectOptions connect;
    connect.address = daemon_->address();
    auto connection = Connection::Open(connect);
    EXPECT_TRUE(connection.ok()) << connection.status();
    return Solve(**connection, options, sink);
  }

  static std::string Definition(const llb::Constraints& constraints = {}) {
    return llb::Image("busybox").Run(llb::Args({"true"}, constraints)).Marshal()->Serialize();
  }
  // Ops that need nothing but "exec.meta.base" and the source's own capability.
  static std::vector<std::string> AllCaps() {
    return {"exec.meta.base", "exec.mount.bind", "source.image",
            "constraints",    "platform",        "meta.description"};
  }

  std::string dir_;
  std::unique_ptr<FakeDaemon> daemon_;
};

TEST_F(SolveTest, TheBuildGoesThroughTheGateway) {
  FakeDaemon::Script script;
  script.caps = AllCaps();
  script.exporter_response = {{"image.name", "x"}};
  SolveOptions options;
  options.definition = Definition();
  options.outputs.push_back({"image", {{"name", "x"}}, {}});
  options.entitlements = {"network.host"};
  options.cache_imports = {{"registry", {{"ref", "r"}}}};
  const auto result = Run(script, options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->exporter_response, Contains(Pair("image.name", "x")));

  const auto& request = daemon_->solve_request;
  EXPECT_EQ(request.ref(), result->ref);
  EXPECT_EQ(request.ref().size(), 25u);
  EXPECT_EQ(request.session(), daemon_->session_id);
  EXPECT_FALSE(request.has_definition());
  EXPECT_EQ(request.frontend(), "");
  EXPECT_TRUE(request.has_cache());
  EXPECT_EQ(request.exporters(0).type(), "image");
  EXPECT_EQ(request.exporterdeprecated(), "image");
  EXPECT_EQ(request.entitlements(0), "network.host");
  EXPECT_EQ(daemon_->build_id, result->ref);
  EXPECT_EQ(daemon_->gateway_request.definition().SerializeAsString().size(),
            options.definition.size());
  EXPECT_TRUE(daemon_->gateway_request.allowresultarrayref());
  EXPECT_EQ(daemon_->gateway_request.frontendopt().at("cache-imports"),
            R"([{"Type":"registry","Attrs":{"ref":"r"}}])");
  EXPECT_EQ(daemon_->return_request.result().ref().id(), "ref1");
  EXPECT_EQ(daemon_->return_request.result().metadata().at("key"), "value");
  EXPECT_TRUE(daemon_->session_ended);
  EXPECT_THAT(daemon_->session_methods, Contains("/grpc.health.v1.Health/Check"));
}

TEST_F(SolveTest, NoCacheMarksEveryOp) {
  FakeDaemon::Script script;
  script.caps = AllCaps();
  SolveOptions options;
  options.definition = Definition();
  options.no_cache = true;
  ASSERT_TRUE(Run(script, options).ok());
  const auto& definition = daemon_->gateway_request.definition();
  for (const std::string& op : definition.def()) {
    EXPECT_TRUE(definition.metadata().at(Digest::Of(op).ToString()).ignore_cache());
  }
}

TEST_F(SolveTest, AFrontendGetsItsOptions) {
  SolveOptions options;
  options.frontend = "dockerfile.v0";
  options.frontend_attrs = {{"target", "t"}};
  options.no_cache = true;
  ASSERT_TRUE(Run({}, options).ok());
  EXPECT_EQ(daemon_->gateway_request.frontend(), "dockerfile.v0");
  EXPECT_EQ(daemon_->gateway_request.frontendopt().at("target"), "t");
  EXPECT_EQ(daemon_->gateway_request.frontendopt().count("no-cache"), 1u);
}

TEST_F(SolveTest, AMissingCapabilityHasAName) {
  FakeDaemon::Script script;
  script.caps = AllCaps();
  script.caps.erase(std::find(script.caps.begin(), script.caps.end(), "exec.mount.bind"));
  SolveOptions options;
  options.definition = Definition();
  const auto result = Run(script, options);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(result.status().message(), HasSubstr("exec.mount.bind"));
  EXPECT_TRUE(daemon_->return_request.has_error());
}

TEST_F(SolveTest, AGatewayErrorIsReturnedWithItsDetails) {
  FakeDaemon::Script script;
  script.gateway_status = absl::UnknownError("failed to load LLB");
  AddVertexDetail("sha256:aa", &script.gateway_status);
  const auto result = Run(script, SolveOptions());
  EXPECT_EQ(result.status().message(), "failed to load LLB");
  ASSERT_EQ(daemon_->return_request.error().details_size(), 1);
  EXPECT_EQ(daemon_->return_request.error().details(0).value(), R"({"digest":"sha256:aa"})");
}

TEST_F(SolveTest, ABuildErrorKeepsLargeDetails) {
  FakeDaemon::Script script;
  script.build = [](const Channel&) {
    absl::Status status = absl::UnknownError("exit code: 1");
    AddDetail(kSourceDetail, std::string(100 << 10, ' '), &status);
    AddExitDetail(1, &status);
    return status;
  };
  const auto result = Run(script, SolveOptions());
  EXPECT_EQ(result.status().code(), absl::StatusCode::kUnknown);
  EXPECT_EQ(result.status().message(), "exit code: 1");
  ASSERT_EQ(Details(result.status()).size(), 2u);
}

TEST_F(SolveTest, CancelStopsABuildThatHangs) {
  CancelSource cancel;
  FakeDaemon::Script script;
  // Never returns by itself: the session going away is what ends it.
  script.build = [&cancel](const Channel& session) {
    cancel.Cancel(absl::CancelledError("canceled"));
    auto health = grpc::health::v1::Health::NewStub(session);
    while (true) {
      grpc::ClientContext context;
      grpc::health::v1::HealthCheckResponse response;
      if (!health->Check(&context, {}, &response).ok()) {
        return absl::CancelledError("context canceled");
      }
    }
  };
  SolveOptions options;
  options.cancel = cancel.token();
  EXPECT_TRUE(absl::IsCancelled(Run(script, options).status()));
  EXPECT_TRUE(daemon_->WaitForSessionEnd());
}

TEST_F(SolveTest, ProgressReachesTheSinkInOrder) {
  struct Sink : ProgressSink {
    std::vector<std::string> seen;
    void OnUpdate(const ProgressUpdate& update) override {
      for (const VertexEvent& event : update.vertices) seen.push_back(event.name);
      for (const LogEvent& event : update.logs) seen.push_back(event.data);
    }
  } sink;
  FakeDaemon::Script script;
  moby::buildkit::v1::StatusResponse message;
  message.add_vertexes()->set_name("one");
  script.progress.push_back(message);
  message.Clear();
  message.add_logs()->set_msg("line");
  script.progress.push_back(message);
  ASSERT_TRUE(Run(script, SolveOptions(), &sink).ok());
  EXPECT_THAT(sink.seen, testing::ElementsAre("one", "line"));
}

// The end of the session's call is behind them.
TEST_F(SolveTest, WhatTheDaemonSendsOnAClosedSessionHoldsNobodyUp) {
  FakeDaemon::Script script;
  script.late_session_messages = 20;
  EXPECT_TRUE(Run(script, SolveOptions()).ok());
  EXPECT_TRUE(daemon_->session_ended);
}

TEST_F(SolveTest, TheSessionAnswersHealthChecks) {
  FakeDaemon::Script script;
  script.build = [](const Channel& session) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckResponse response;
    const grpc::Status status =
        grpc::health::v1::Health::NewStub(session)->Check(&context, {}, &response);
    EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::SERVING);
    return FromGrpc(status);
  };
  EXPECT_TRUE(Run(script, SolveOptions()).ok());
}

absl::Status ReceiveDirectory(const Channel& session, const std::string& name,
                              const std::multimap<std::string, std::string>& metadata,
                              const std::string& to) {
  grpc::ClientContext context;
  context.AddMetadata("dir-name", name);
  for (const auto& [key, value] : metadata) context.AddMetadata(key, value);
  auto stream = FileSync::NewStub(session)->DiffCopy(&context);
  auto target = fsutil::DirectoryTarget::Open(to, false);
  EXPECT_TRUE(target.ok());
  ClientPackets<::fsutil::types::Packet, std::remove_reference_t<decltype(*stream)>> packets(
      stream.get());
  fsutil::ReceiveOptions options;
  options.map = [](fsutil::Stat* stat) { EXPECT_EQ(stat->uid + stat->gid, 0u); };
  const absl::Status received = fsutil::Receive(packets, **target, options);
  stream->WritesDone();
  const absl::Status finished = FromGrpc(stream->Finish());
  return finished.ok() ? received : finished;
}

TEST_F(SolveTest, LocalDirectoriesAreSentThroughFilters) {
  const std::string src = MakeDir("src"), got = MakeDir("got");
  Write(src + "/a.txt", "a");
  Write(src + "/b c.txt", std::string(200000, 'b'));
  Write(src + "/skip.log", "no");
  ASSERT_EQ(symlink("a.txt", (src + "/link").c_str()), 0);
  SolveOptions options;
  options.local_dirs = {{"context", src}};
  FakeDaemon::Script script;
  script.build = [&got](const Channel& session) {
    // "b c.txt" and "*.log", escaped as for a list with a non-ASCII member.
    return ReceiveDirectory(session, "context",
                            {{"exclude-patterns", "%2A.log"}, {"exclude-patterns-encoded", "1"}},
                            got);
  };
  const auto result = Run(script, options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(Read(got + "/a.txt"), "a");
  EXPECT_EQ(Read(got + "/b c.txt").size(), 200000u);
  EXPECT_EQ(Read(got + "/link"), "a");
  EXPECT_EQ(Read(got + "/skip.log"), "(missing)");
}

TEST_F(SolveTest, OtherDirectoriesAreRefused) {
  const std::string got = MakeDir("got");
  SolveOptions options;
  options.local_dirs = {{"context", MakeDir("src")}};
  FakeDaemon::Script script;
  script.build = [&got](const Channel& session) {
    return ReceiveDirectory(session, "etc", {}, got);
  };
  const auto result = Run(script, options);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(result.status().message(), "no access allowed to dir \"etc\"");
}

TEST_F(SolveTest, ALocalDirectoryMustExist) {
  SolveOptions options;
  options.local_dirs = {{"context", dir_ + "/none"}};
  EXPECT_THAT(Run({}, options).status().message(), HasSubstr(dir_ + "/none"));
}

absl::Status SendExport(const Channel& session, const std::string& id, const std::string& from) {
  grpc::ClientContext context;
  context.AddMetadata("buildkit-attachable-exporter-id", id);
  auto stream = FileSend::NewStub(session)->DiffCopy(&context);
  auto source = fsutil::DirectorySource::Create(from, {});
  EXPECT_TRUE(source.ok());
  // The method is declared with another message; unknown fields carry a packet's bytes through.
  ClientPackets<moby::filesync::v1::BytesMessage, std::remove_reference_t<decltype(*stream)>>
      packets(stream.get());
  const absl::Status sent = fsutil::Send(packets, **source);
  stream->WritesDone();
  const absl::Status finished = FromGrpc(stream->Finish());
  return finished.ok() ? sent : finished;
}

absl::Status SendFile(const Channel& session, const std::string& id, const std::string& data) {
  grpc::ClientContext context;
  context.AddMetadata("buildkit-attachable-exporter-id", id);
  auto stream = FileSend::NewStub(session)->DiffCopy(&context);
  moby::filesync::v1::BytesMessage message;
  for (size_t at = 0; at < data.size(); at += 1000) {
    message.set_data(data.substr(at, 1000));
    stream->Write(message);
  }
  stream->WritesDone();
  while (stream->Read(&message)) {
  }
  return FromGrpc(stream->Finish());
}

TEST_F(SolveTest, ExportsGoWhereTheirNumberSays) {
  const std::string made = MakeDir("made");
  Write(made + "/result", "r");
  const std::string tar(5000, 't');
  SolveOptions options;
  options.outputs.push_back(*ParseOutput("type=none", false));  // takes no number
  options.outputs.push_back(*ParseOutput("type=tar,dest=" + dir_ + "/out.tar", false));
  options.outputs.push_back(*ParseOutput("type=local,dest=" + dir_ + "/new/out", false));
  FakeDaemon::Script script;
  script.build = [&](const Channel& session) {
    absl::Status status = SendFile(session, "0", tar);
    if (status.ok()) status = SendExport(session, "1", made);
    EXPECT_EQ(SendFile(session, "2", tar).message(), "exporter 2 not found");
    return status;
  };
  const auto result = Run(script, options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(daemon_->solve_request.exporters_size(), 2);
  EXPECT_EQ(Read(dir_ + "/out.tar"), tar);
  EXPECT_EQ(Read(dir_ + "/new/out/result"), "r");
}

TEST_F(SolveTest, SecretsAndUnknownSecrets) {
  Write(dir_ + "/s", "hidden");
  SolveOptions options;
  ASSERT_TRUE(options.secrets.Add("id=s,src=" + dir_ + "/s").ok());
  FakeDaemon::Script script;
  script.build = [](const Channel& session) {
    auto stub = moby::buildkit::secrets::v1::Secrets::NewStub(session);
    moby::buildkit::secrets::v1::GetSecretRequest request;
    moby::buildkit::secrets::v1::GetSecretResponse response;
    request.set_id("s");
    grpc::ClientContext first, second;
    EXPECT_TRUE(stub->GetSecret(&first, request, &response).ok());
    EXPECT_EQ(response.data(), "hidden");
    request.set_id("t");
    EXPECT_EQ(stub->GetSecret(&second, request, &response).error_code(),
              grpc::StatusCode::NOT_FOUND);
    return absl::OkStatus();
  };
  EXPECT_TRUE(Run(script, options).ok());
  EXPECT_THAT(daemon_->session_methods, Contains("/moby.buildkit.secrets.v1.Secrets/GetSecret"));
}

// An agent that answers each connection's bytes with the same bytes, then ends.
class EchoAgent {
 public:
  explicit EchoAgent(const std::string& path) : path_(path) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, path.size());
    listener_ = Fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(listener_.get(), 1), 0);
    thread_ = std::thread([this] {
      Fd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      const std::string all = ReadAll(fd.get()).value_or("");
      (void)WriteAll(fd.get(), "echo " + all);
    });
  }
  ~EchoAgent() { thread_.join(); }

 private:
  const std::string path_;
  Fd listener_;
  std::thread thread_;
};

TEST_F(SolveTest, SshAgentIsForwarded) {
  EchoAgent agent(dir_ + "/agent");
  SolveOptions options;
  ASSERT_TRUE(options.ssh.Add("default=" + dir_ + "/agent").ok());
  FakeDaemon::Script script;
  script.build = [](const Channel& session) {
    auto stub = moby::sshforward::v1::SSH::NewStub(session);
    moby::sshforward::v1::CheckAgentRequest request;
    moby::sshforward::v1::CheckAgentResponse response;
    request.set_id("other");
    grpc::ClientContext check, forward;
    EXPECT_EQ(stub->CheckAgent(&check, request, &response).error_message(),
              "unset ssh forward key other");
    auto stream = stub->ForwardAgent(&forward);
    moby::sshforward::v1::BytesMessage message;
    message.set_data("keys?");
    stream->Write(message);
    stream->WritesDone();
    std::string answer;
    while (stream->Read(&message)) answer += message.data();
    EXPECT_EQ(answer, "echo keys?");
    return FromGrpc(stream->Finish());
  };
  EXPECT_TRUE(Run(script, options).ok());
}

TEST(ConnectionTest, NobodyThereIsUnavailable) {
  ConnectOptions options;
  options.address = "unix:///tmp/no/such.sock";
  const auto connection = Connection::Open(options);
  EXPECT_EQ(connection.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(connection.status().message(), HasSubstr("/tmp/no/such.sock"));
}

TEST(ConnectionTest, AddressesThatCannotBeUsed) {
  const auto open = [](const std::string& address) {
    ConnectOptions options;
    options.address = address;
    return Connection::Open(options).status();
  };
  EXPECT_EQ(open("tcp://host").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(open("/run/x.sock").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(open("ssh://host").code(), absl::StatusCode::kUnimplemented);
}

TEST(ConnectionTest, WaitEndsWhenCanceled) {
  CancelSource cancel;
  ConnectOptions options;
  options.address = "unix:///tmp/no/such.sock";
  options.wait = true;
  options.cancel = cancel.token();
  cancel.Cancel();
  EXPECT_TRUE(absl::IsCancelled(Connection::Open(options).status()));
}

}  // namespace
}  // namespace kiln::client
