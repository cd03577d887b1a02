// The whole daemon in this process: real store, solver and sockets.
#include "daemon/daemon.h"

#include <gmock/gmock.h>
#include <grpc/grpc.h>
#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <future>

#include "absl/strings/str_cat.h"
#include "daemon/rpc/status.h"
#include "proto/buildkit/control.grpc.pb.h"
#include "proto/buildkit/gateway.grpc.pb.h"
#include "proto/digest.h"
#include "proto/kiln/stats.grpc.pb.h"
#include "tests/daemon/rpc/temp_dir.h"
#include "tests/store/base/wall_clock.h"

namespace kiln::daemon {
namespace {

namespace pbc = moby::buildkit::v1;
namespace pbf = moby::buildkit::v1::frontend;

// One file "/f" with `text`, made from nothing.
pb::Definition FileDefinition(const std::string& text) {
  pb::Op op;
  pb::FileAction* action = op.mutable_file()->add_actions();
  action->set_input(-1);
  action->set_secondaryinput(-1);
  action->mutable_mkfile()->set_path("/f");
  action->mutable_mkfile()->set_mode(0644);
  action->mutable_mkfile()->set_data(text);
  action->mutable_mkfile()->set_timestamp(-1);
  const std::string bytes = op.SerializeAsString();
  pb::Op last;
  last.add_inputs()->set_digest(Digest::Of(bytes).ToString());
  pb::Definition definition;
  definition.add_def(bytes);
  definition.add_def(last.SerializeAsString());
  return definition;
}

size_t OpenFds() { return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}); }

class DaemonTest : public testing::Test {
 protected:
  // Keeps gRPC up between tests: its shutdown may wait 10 s for a poller of its own.
  static void SetUpTestSuite() { grpc_init(); }

  void Start() {
    Config config;
    config.root = dir_.File("root");
    config.addresses = {"unix://" + dir_.File("k.sock")};
    config.snapshotter = "native";
    config.gc.enabled = false;
    auto daemon = Daemon::Start(config);
    ASSERT_TRUE(daemon.ok()) << daemon.status();
    daemon_ = *std::move(daemon);
    // Arguments of its own: a channel of an earlier daemon must not be shared.
    grpc::ChannelArguments args;
    args.SetInt("test.run", ++runs_);
    channel_ =
        grpc::CreateCustomChannel(daemon_->names()[0], grpc::InsecureChannelCredentials(), args);
  }
  void Stop() {
    channel_.reset();
    daemon_.reset();
  }

  absl::Status Solve(const std::string& ref, const pb::Definition* definition) {
    grpc::ClientContext context;
    pbc::SolveRequest request;
    request.set_ref(ref);
    if (definition != nullptr) *request.mutable_definition() = *definition;
    pbc::SolveResponse response;
    return FromGrpc(pbc::Control::NewStub(channel_)->Solve(&context, request, &response));
  }

  // The final state of each vertex, from the status stream.
  std::map<std::string, pbc::Vertex> Vertices(const std::string& ref) {
    grpc::ClientContext context;
    pbc::StatusRequest request;
    request.set_ref(ref);
    auto reader = pbc::Control::NewStub(channel_)->Status(&context, request);
    std::map<std::string, pbc::Vertex> vertices;
    pbc::StatusResponse message;
    while (reader->Read(&message))
      for (const auto& vertex : message.vertexes()) vertices[vertex.digest()] = vertex;
    EXPECT_TRUE(reader->Finish().ok());
    return vertices;
  }

  // How many records went, of all that were not used for so long.
  int Prune(absl::Duration keep) {
    grpc::ClientContext context;
    pbc::PruneRequest request;
    request.set_all(true);
    request.set_keepduration(absl::ToInt64Nanoseconds(keep));
    auto reader = pbc::Control::NewStub(channel_)->Prune(&context, request);
    pbc::UsageRecord record;
    int removed = 0;
    while (reader->Read(&record)) ++removed;
    EXPECT_TRUE(reader->Finish().ok());
    return removed;
  }

  TempDir dir_;
  int runs_ = 0;
  std::unique_ptr<Daemon> daemon_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(DaemonTest, BuildsOnceAndRemembersAcrossARestart) {
  const pb::Definition definition = FileDefinition("text");
  const std::string digest = Digest::Of(definition.def(0)).ToString();
  Start();
  ASSERT_EQ(Solve("b1", &definition), absl::OkStatus());
  EXPECT_FALSE(Vertices("b1")[digest].cached());
  EXPECT_TRUE(Vertices("b1")[digest].has_completed());
  ASSERT_EQ(Solve("b2", &definition), absl::OkStatus());
  EXPECT_TRUE(Vertices("b2")[digest].cached());

  grpc::ClientContext context;
  v1::StatsResponse stats;
  ASSERT_TRUE(v1::Stats::NewStub(channel_)->Get(&context, {}, &stats).ok());
  EXPECT_EQ(stats.vertices_executed(), 1);
  EXPECT_EQ(stats.builds_total(), 2);
  EXPECT_GT(stats.rss_bytes(), 0);

  Stop();
  Start();
  ASSERT_EQ(Solve("b3", &definition), absl::OkStatus());
  EXPECT_TRUE(Vertices("b3")[digest].cached());
}

TEST_F(DaemonTest, ClientReadsWhatItBuilt) {
  Start();
  auto solve = std::async(std::launch::async, [this] { return Solve("b1", nullptr); });
  const auto bridge = pbf::LLBBridge::NewStub(channel_);
  const auto context = [] {
    auto made = std::make_unique<grpc::ClientContext>();
    made->AddMetadata("buildkit-controlapi-buildid", "b1");
    return made;
  };
  pbf::SolveRequest request;
  *request.mutable_definition() = FileDefinition("hello");
  request.set_allowresultreturn(true);
  request.set_allowresultarrayref(true);
  pbf::SolveResponse lazy;
  ASSERT_EQ(FromGrpc(bridge->Solve(context().get(), request, &lazy)), absl::OkStatus());
  pbf::ReadFileRequest read;
  read.set_ref(lazy.result().ref().id());
  read.set_filepath("f");
  pbf::ReadFileResponse file;
  ASSERT_EQ(FromGrpc(bridge->ReadFile(context().get(), read, &file)), absl::OkStatus());
  EXPECT_EQ(file.data(), "hello");
  pbf::ReturnRequest done;
  *done.mutable_result() = lazy.result();
  pbf::ReturnResponse returned;
  EXPECT_EQ(FromGrpc(bridge->Return(context().get(), done, &returned)), absl::OkStatus());
  EXPECT_EQ(solve.get(), absl::OkStatus());
}

TEST_F(DaemonTest, MalformedDefinitionIsNamedAndTheDaemonStaysUp) {
  Start();
  pb::Definition definition;
  definition.add_def("\xff\xff");
  definition.add_def("\xff");
  const absl::Status status = Solve("b1", &definition);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnknown) << status;
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("failed to load LLB"));
  const pb::Definition good = FileDefinition("x");
  EXPECT_EQ(Solve("b2", &good), absl::OkStatus());
}

TEST_F(DaemonTest, PruneEmptiesTheStore) {
  Start();
  const pb::Definition definition = FileDefinition("text");
  ASSERT_EQ(Solve("b1", &definition), absl::OkStatus());
  const auto control = pbc::Control::NewStub(channel_);
  const auto usage = [&] {
    grpc::ClientContext context;
    pbc::DiskUsageResponse response;
    EXPECT_TRUE(control->DiskUsage(&context, {}, &response).ok());
    return response.record_size();
  };
  EXPECT_EQ(usage(), 1);
  EXPECT_EQ(Prune(absl::ZeroDuration()), 1);
  EXPECT_EQ(usage(), 0);
  ASSERT_EQ(Solve("b2", &definition), absl::OkStatus());
  EXPECT_FALSE(Vertices("b2")[Digest::Of(definition.def(0)).ToString()].cached());
}

TEST_F(DaemonTest, StartAndStopLeaveNothingOpen) {
  Start();
  Stop();  // what libraries open once stays open
  const size_t before = OpenFds();
  for (int i = 0; i < 3; ++i) {
    Start();
    const pb::Definition definition = FileDefinition(std::to_string(i));
    ASSERT_EQ(Solve("b", &definition), absl::OkStatus());
    Stop();
  }
  for (int i = 0; i < 6000 && OpenFds() > before; ++i) absl::SleepFor(absl::Milliseconds(5));
  EXPECT_LE(OpenFds(), before);
  EXPECT_FALSE(std::filesystem::exists(dir_.File("k.sock")));
}

// A machine whose clock was ahead: what was built is used, kept and pruned as before. Ages are not
// looked at: for some seconds after the step absl::Now() may still tell the time before it.
TEST_F(DaemonTest, ClockSetBackHarmsNoBuild) {
  Start();
  const pb::Definition old = FileDefinition("old"), fresh = FileDefinition("new");
  const std::string digest = Digest::Of(old.def(0)).ToString();
  ASSERT_EQ(Solve("b1", &old), absl::OkStatus());
  SetWallClockBy(-absl::Hours(24));
  EXPECT_EQ(Solve("b2", &old), absl::OkStatus());
  const std::map<std::string, pbc::Vertex> again = Vertices("b2");
  EXPECT_TRUE(again.at(digest).cached());
  EXPECT_EQ(Solve("b3", &fresh), absl::OkStatus());
  Stop();
  Start();
  EXPECT_EQ(Solve("b4", &old), absl::OkStatus());
  EXPECT_TRUE(Vertices("b4")[digest].cached());
  EXPECT_EQ(Prune(absl::ZeroDuration()), 2);
  SetWallClockBy(absl::Hours(24));
}

TEST_F(DaemonTest, D1_SecondDaemonOnTheSameRootIsRefused) {
  Start();
  Config config;
  config.root = dir_.File("root");
  config.addresses = {"unix://" + dir_.File("other.sock")};
  const absl::Status refused = Daemon::Start(config).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()),
              testing::HasSubstr(absl::StrCat(config.root, " is in use by process ", ::getpid())));
}

}  // namespace
}  // namespace kiln::daemon
