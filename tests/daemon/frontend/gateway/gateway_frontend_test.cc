// Frontends that are images, and containers of frontends, on a whole daemon.
#include <gmock/gmock.h>
#include <grpc/grpc.h>
#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <future>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "daemon/daemon.h"
#include "daemon/rpc/status.h"
#include "proto/buildkit/control.grpc.pb.h"
#include "proto/buildkit/gateway.grpc.pb.h"
#include "proto/digest.h"
#include "proto/status_details.h"
#include "store/base/deadline.h"
#include "store/base/fd.h"
#include "tests/daemon/rpc/temp_dir.h"

namespace kiln::daemon {
namespace {

namespace pbc = moby::buildkit::v1;
namespace pbf = moby::buildkit::v1::frontend;
using testing::HasSubstr;
using testing::Not;

// A tree made from nothing, step by step.
class TreeDefinition {
 public:
  TreeDefinition& File(const std::string& path, const std::string& data, int mode = 0644) {
    auto* file = Next()->mutable_mkfile();
    file->set_path(path);
    file->set_mode(mode);
    file->set_data(data);
    file->set_timestamp(-1);
    return *this;
  }
  TreeDefinition& Folder(const std::string& path) {
    auto* folder = Next()->mutable_mkdir();
    folder->set_path(path);
    folder->set_mode(0755);
    folder->set_timestamp(-1);
    return *this;
  }
  TreeDefinition& Link(const std::string& path, const std::string& target) {
    auto* link = Next()->mutable_symlink();
    link->set_oldpath(target);
    link->set_newpath(path);
    link->set_timestamp(-1);
    return *this;
  }
  pb::Definition Done() {
    op_.mutable_file()->mutable_actions(op_.file().actions_size() - 1)->set_output(0);
    const std::string bytes = op_.SerializeAsString();
    pb::Op last;
    last.add_inputs()->set_digest(Digest::Of(bytes).ToString());
    pb::Definition definition;
    definition.add_def(bytes);
    definition.add_def(last.SerializeAsString());
    return definition;
  }

 private:
  pb::FileAction* Next() {
    pb::FileAction* action = op_.mutable_file()->add_actions();
    action->set_input(op_.file().actions_size() - 2);  // what the one before made
    action->set_secondaryinput(-1);
    action->set_output(-1);
    return action;
  }
  pb::Op op_;
};

pb::Definition Base() {
  return TreeDefinition()
      .Folder("/bin")
      .File("/bin/busybox", *ReadFileToString("/bin/busybox"), 0755)
      .Link("/bin/sh", "busybox")
      .Link("/bin/cat", "busybox")
      .Link("/bin/sleep", "busybox")
      .Link("/bin/stty", "busybox")
      .Folder("/etc")
      .File("/etc/motd", "good morning")
      .Done();
}

pb::Definition FrontendTree(const std::string& program = "/run") {
  return TreeDefinition().File(program, *ReadFileToString(KILN_STDIO_FRONTEND), 0755).Done();
}

size_t Entries(const std::string& folder) {
  std::error_code missing;
  return std::distance(std::filesystem::directory_iterator(folder, missing), {});
}

class GatewayFrontendTest : public testing::Test {
 protected:
  // Keeps gRPC up between tests: its shutdown may wait 10 s for a poller of its own.
  static void SetUpTestSuite() { grpc_init(); }

  explicit GatewayFrontendTest(Config config = {}) {
    config.root = dir_.File("root");
    config.addresses = {"unix://" + dir_.File("k.sock")};
    config.gc.enabled = false;
    auto daemon = Daemon::Start(config);
    EXPECT_TRUE(daemon.ok()) << daemon.status();
    daemon_ = *std::move(daemon);
    channel_ = grpc::CreateChannel(daemon_->names()[0], grpc::InsecureChannelCredentials());
    control_ = pbc::Control::NewStub(channel_);
    bridge_ = pbf::LLBBridge::NewStub(channel_);
  }

  // What no build may leave behind.
  void ExpectNothingLeft() {
    EXPECT_EQ(Entries(dir_.File("root/executor/bundles")), 0u);
    EXPECT_EQ(Entries(dir_.File("root/executor/runtime")), 0u);
    EXPECT_EQ(Entries(dir_.File("root/runtime")), 0u);
  }

  static pbc::SolveRequest Request(const std::string& mode) {
    pbc::SolveRequest request;
    request.set_ref("b1");
    request.set_session("s1");
    request.set_frontend("gateway.v0");
    auto& attrs = *request.mutable_frontendattrs();
    attrs["source"] = "fe";
    attrs["context:fe"] = "input:fe";
    attrs["mode"] = mode;
    (*request.mutable_frontendinputs())["fe"] = FrontendTree();
    (*request.mutable_frontendinputs())["base"] = Base();
    return request;
  }

  std::pair<absl::Status, pbc::SolveResponse> Solve(const pbc::SolveRequest& request,
                                                    grpc::ClientContext* context) {
    pbc::SolveResponse response;
    absl::Status status = FromGrpc(control_->Solve(context, request, &response));
    return {status, response};
  }
  std::pair<absl::Status, pbc::SolveResponse> Solve(const pbc::SolveRequest& request) {
    grpc::ClientContext context;
    return Solve(request, &context);
  }

  // All that the build's steps logged, after their names.
  std::map<std::string, std::string> Logs(const std::string& ref, const std::string& until = "") {
    grpc::ClientContext context;
    pbc::StatusRequest request;
    request.set_ref(ref);
    auto reader = control_->Status(&context, request);
    std::map<std::string, std::string> names, logs;
    pbc::StatusResponse message;
    while (reader->Read(&message)) {
      for (const auto& vertex : message.vertexes()) names[vertex.digest()] = vertex.name();
      for (const auto& log : message.logs()) {
        std::string& text = logs[names[log.vertex()]];
        text += log.msg();
        if (!until.empty() && text.find(until) != std::string::npos) {
          context.TryCancel();
          return logs;
        }
      }
    }
    return logs;
  }

  TempDir dir_;
  std::unique_ptr<Daemon> daemon_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<pbc::Control::Stub> control_;
  std::unique_ptr<pbf::LLBBridge::Stub> bridge_;
};

TEST_F(GatewayFrontendTest, SpeaksOverStandardInputAndOutput) {
  pbc::SolveRequest request = Request("whole");
  const pb::Definition tree = FrontendTree("/frontend");
  (*request.mutable_frontendinputs())["fe"] = tree;
  const std::string config =
      R"({"config":{"Entrypoint":["/frontend"],"Labels":{"moby.buildkit.frontend.caps":
      "moby.buildkit.frontend.inputs"}}})";
  (*request.mutable_frontendattrs())["input-metadata:fe"] =
      absl::StrCat(R"({"containerimage.config":")", absl::Base64Escape(config), "\"}");
  const auto [status, response] = Solve(request);
  ASSERT_EQ(status, absl::OkStatus());
  const auto& told = response.exporterresponse();
  EXPECT_EQ(told.at("frontend.file"), "good morning");
  EXPECT_EQ(told.at("frontend.run"), "good morningexit 5");
  EXPECT_EQ(told.at("frontend.session"), "s1");
  EXPECT_THAT(told.at("frontend.workers"), HasSubstr(R"("os":"linux")"));
  EXPECT_EQ(told.at("frontend.self"), std::to_string(tree.ByteSizeLong()));
  ExpectNothingLeft();
}

TEST_F(GatewayFrontendTest, FailuresAreTold) {
  struct Case {
    const char* mode;
    absl::StatusCode code;
    const char* want;
  };
  int number = 0;
  for (const Case& c : std::initializer_list<Case>{
           {"fail", absl::StatusCode::kUnknown, "line 7 is wrong"},
           {"silent", absl::StatusCode::kUnknown, "no result for incomplete build"},
           {"crash", absl::StatusCode::kUnknown, "exit code: 7: some\nlast words"},
           {"garbage", absl::StatusCode::kUnknown, "frontend grpc server closed unexpectedly"},
           {"closed", absl::StatusCode::kUnknown, "frontend grpc server closed unexpectedly"}}) {
    const Deadline deadline(absl::Seconds(40));
    pbc::SolveRequest request = Request(c.mode);
    request.set_ref("b" + std::to_string(++number));
    const absl::Status status = Solve(request).first;
    EXPECT_EQ(status.code(), c.code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.want));
    EXPECT_FALSE(deadline.Passed()) << c.mode << ": not by a keepalive";
    EXPECT_THAT(Details(status),
                testing::Contains(testing::Field(&StatusDetail::value,
                                                 R"({"name":"gateway.v0","source":"fe"})")));
    ExpectNothingLeft();
  }
  EXPECT_THAT(Logs("b3")["[frontend] fe"], HasSubstr("last words"));
}

// The most memory that this process had since the last call, in MiB.
int64_t PeakMib() {
  const std::string status = ReadFileToString("/proc/self/status").value_or("");
  int64_t kib = 0;
  for (absl::string_view line : absl::StrSplit(status, '\n')) {
    if (absl::ConsumePrefix(&line, "VmHWM:") && absl::ConsumeSuffix(&line, "kB")) {
      EXPECT_TRUE(absl::SimpleAtoi(absl::StripAsciiWhitespace(line), &kib));
    }
  }
  std::ofstream("/proc/self/clear_refs") << "5";
  return kib >> 10;
}

// The first of this machine's programs in whose environment `text` stands; 0: none.
pid_t ProgramWith(const std::string& text) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    pid_t pid = 0;
    if (absl::SimpleAtoi(entry.path().filename().string(), &pid) &&
        absl::StrContains(ReadFileToString(entry.path().string() + "/environ").value_or(""), text))
      return pid;
  }
  return 0;
}

TEST_F(GatewayFrontendTest, ExcessIsBounded) {
  struct Case {
    const char* mode;
    std::map<std::string, std::string> options;
    const char* want;
    int64_t most_mib;
  };
  int number = 0;
  for (const Case& c : std::vector<Case>{
           {"flood", {{"bytes", "500000000"}}, "exit code: 7", 250},
           {"closed-flood", {}, "frontend grpc server closed unexpectedly", 250},
           {"big", {{"bytes", "20000000"}}, "larger than max", 250},
           {"big", {{"bytes", "500000000"}}, "exit code: 3: solve: ", 250},
           {"refs", {{"count", "10000"}, {"bytes", "100"}}, "and 9985 more]", 250},
           {"refs", {{"count", "300"}, {"bytes", "1000000"}}, "refs: one more, of 10000", 450}}) {
    pbc::SolveRequest request = Request(c.mode);
    request.set_ref("b" + std::to_string(++number));
    for (const auto& [key, value] : c.options) (*request.mutable_frontendattrs())[key] = value;
    PeakMib();
    const int64_t before = PeakMib();
    EXPECT_THAT(std::string(Solve(request).first.message()), HasSubstr(c.want)) << c.mode;
    EXPECT_LT(PeakMib() - before, c.most_mib) << c.mode;
    ExpectNothingLeft();
  }
  const std::string log = Logs("b1")["[frontend] fe"];
  EXPECT_LT(log.size(), 8u << 20);
  EXPECT_THAT(log, HasSubstr("[output clipped"));
  EXPECT_THAT(log, testing::EndsWith("that was all\n"));
}

TEST_F(GatewayFrontendTest, WhatItStartedEndsWithIt) {
  for (const bool waits : {false, true}) {
    grpc::ClientContext context;
    pbc::SolveRequest request = Request("leave");
    request.set_ref(waits ? "b2" : "b1");
    (*request.mutable_frontendattrs())["count"] = "5";
    if (waits) (*request.mutable_frontendattrs())["then-wait"] = "1";
    auto solve = std::async(std::launch::async, [&] { return Solve(request, &context); });
    EXPECT_THAT(Logs(request.ref(), "left 5\n")["[frontend] fe"], HasSubstr("left 5"));
    if (waits) context.TryCancel();
    EXPECT_THAT(std::string(solve.get().first.message()),
                waits ? HasSubstr("") : HasSubstr("no result for incomplete build"));
    EXPECT_TRUE(daemon_->WaitIdle(absl::Now() + absl::Seconds(20)));
    ExpectNothingLeft();
    EXPECT_THAT(ReadFileToString("/proc/self/mountinfo").value_or(""),
                Not(HasSubstr(dir_.File("root/runtime/"))));
  }
}

TEST_F(GatewayFrontendTest, KilledByHandIsTold) {
  pbc::SolveRequest request = Request("wait");
  const std::string marker = absl::StrCat("marker=", getpid(), "-killed");
  (*request.mutable_frontendattrs())["marker"] = marker;
  auto solve = std::async(std::launch::async, [&] { return Solve(request).first; });
  EXPECT_THAT(Logs("b1", "waiting\n")["[frontend] fe"], HasSubstr("waiting"));
  const pid_t program = ProgramWith(marker);
  ASSERT_GT(program, 0);
  EXPECT_EQ(kill(program, SIGKILL), 0);
  EXPECT_THAT(std::string(solve.get().message()), HasSubstr("exit code: 137"));
  ExpectNothingLeft();
}

TEST_F(GatewayFrontendTest, BadRequestsAreNamed) {
  struct Case {
    const char* name;
    std::string value;
    const char* want;
  };
  int number = 0;
  for (const Case& c : std::vector<Case>{
           {"source", "", "no source specified for gateway"},
           {"gateway-devel", "1", "development gateway is no longer supported"},
           {"context:fe", "input:nothing", "invalid input nothing"},
           {"context:fe", "input:base", "process \"/run\" did not complete successfully"},
           {"large", std::string(200 << 10, 'x'), "frontend option large"},
           // A tree without a config is asked for no capability.
           {"frontend.caps", "some.cap", "line 7 is wrong"}}) {
    pbc::SolveRequest request = Request("fail");
    request.set_ref("b" + std::to_string(++number));
    (*request.mutable_frontendattrs())[c.name] = c.value;
    EXPECT_THAT(std::string(Solve(request).first.message()), HasSubstr(c.want)) << c.name;
  }
  ExpectNothingLeft();
}

TEST_F(GatewayFrontendTest, CancelKillsTheFrontend) {
  grpc::ClientContext context;
  auto solve = std::async(std::launch::async, [&] { return Solve(Request("wait"), &context); });
  EXPECT_THAT(Logs("b1", "waiting\n")["[frontend] fe"], HasSubstr("waiting"));
  context.TryCancel();
  EXPECT_EQ(solve.get().first.code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(daemon_->WaitIdle(absl::Now() + absl::Seconds(20)));
  ExpectNothingLeft();
}

class OwnFrontendsOnlyTest : public GatewayFrontendTest {
 protected:
  static Config OwnOnly() {
    Config config;
    config.frontend_repositories = {"example.com/own/frontend"};
    config.dockerfile_frontend = false;
    return config;
  }
  OwnFrontendsOnlyTest() : GatewayFrontendTest(OwnOnly()) {}
};

TEST_F(OwnFrontendsOnlyTest, D6_OthersAreRefused) {
  EXPECT_EQ(Solve(Request("fail")).first.message(), "'fe' is not an allowed gateway source");
  pbc::SolveRequest request = Request("fail");
  request.set_ref("b2");
  request.set_frontend("dockerfile.v0");
  EXPECT_EQ(Solve(request).first.message(), "invalid frontend: dockerfile.v0");
  // A named context may stand for what is allowed, as in any build.
  request = Request("fail");
  request.set_ref("b3");
  (*request.mutable_frontendattrs())["source"] = "example.com/own/frontend";
  (*request.mutable_frontendattrs())["context:example.com/own/frontend"] = "input:fe";
  EXPECT_THAT(std::string(Solve(request).first.message()), HasSubstr("line 7 is wrong"));
}

// A build that the client drives, with a container made of the tree Base().
class BuildContainerTest : public GatewayFrontendTest {
 protected:
  using Exec = grpc::ClientReaderWriter<pbf::ExecMessage, pbf::ExecMessage>;

  BuildContainerTest() {
    pbc::SolveRequest request;
    request.set_ref("b1");
    solve_ = std::async(std::launch::async, [this, request] { return Solve(request).first; });
    pbf::SolveRequest lazy;
    *lazy.mutable_definition() = Base();
    pbf::SolveResponse response;
    EXPECT_EQ(Call(&pbf::LLBBridge::Stub::Solve, lazy, &response), absl::OkStatus());
    base_ = response.ref();
  }
  ~BuildContainerTest() override {
    if (!solve_.valid()) return;
    EndBuild();
  }
  void EndBuild() {
    pbf::ReturnRequest request;
    request.mutable_result();
    pbf::ReturnResponse response;
    Call(&pbf::LLBBridge::Stub::Return, request, &response).IgnoreError();
    EXPECT_EQ(solve_.get(), absl::OkStatus());
    ExpectNothingLeft();
  }

  template <typename Request, typename Response>
  absl::Status Call(grpc::Status (pbf::LLBBridge::Stub::*method)(grpc::ClientContext*,
                                                                 const Request&, Response*),
                    const Request& request, Response* response) {
    grpc::ClientContext context;
    context.AddMetadata("buildkit-controlapi-buildid", "b1");
    return FromGrpc((bridge_.get()->*method)(&context, request, response));
  }

  absl::Status NewContainer(pbf::NewContainerRequest request = {}) {
    if (request.containerid().empty()) request.set_containerid("c1");
    if (request.mounts().empty()) {
      request.add_mounts()->set_dest("/");
      request.mutable_mounts(0)->set_resultid(base_);
    }
    pbf::NewContainerResponse response;
    return Call(&pbf::LLBBridge::Stub::NewContainer, request, &response);
  }
  absl::Status Release(const std::string& id) {
    pbf::ReleaseContainerRequest request;
    request.set_containerid(id);
    pbf::ReleaseContainerResponse response;
    return Call(&pbf::LLBBridge::Stub::ReleaseContainer, request, &response);
  }

  std::unique_ptr<Exec> OpenExec(grpc::ClientContext* context) {
    context->AddMetadata("buildkit-controlapi-buildid", "b1");
    return bridge_->ExecProcess(context);
  }
  static pbf::ExecMessage Init(const std::string& id, const std::string& script,
                               bool terminal = false) {
    pbf::ExecMessage message;
    message.set_processid(id);
    auto* init = message.mutable_init();
    init->set_containerid("c1");
    for (const std::string& arg : {std::string("/bin/sh"), std::string("-c"), script})
      init->mutable_meta()->add_args(arg);
    init->mutable_meta()->add_env("PATH=/bin");
    for (int fd : {0, 1, 2}) init->add_fds(fd);
    init->set_tty(terminal);
    return message;
  }

  // What a process did, in order: "started", its output, "1 eof", "exit 3", "done".
  struct Seen {
    std::vector<std::string> events;
    std::string output;
    absl::Status exit;
  };
  static void Take(const pbf::ExecMessage& message, std::map<std::string, Seen>* all) {
    Seen& seen = (*all)[message.processid()];
    if (message.has_started()) seen.events.push_back("started");
    if (message.has_file()) {
      seen.output += message.file().data();
      if (message.file().eof()) seen.events.push_back(std::to_string(message.file().fd()) + " eof");
    }
    if (message.has_exit()) {
      seen.events.push_back("exit " + std::to_string(message.exit().code()));
      if (message.exit().has_error())
        seen.exit = ParseStatus(message.exit().error().SerializeAsString());
    }
    if (message.has_done()) seen.events.push_back("done");
  }
  // Reads until the processes in `ids` are done.
  static std::map<std::string, Seen> ReadUntilDone(Exec& exec, std::set<std::string> ids) {
    std::map<std::string, Seen> all;
    pbf::ExecMessage message;
    while (!ids.empty() && exec.Read(&message)) {
      Take(message, &all);
      if (message.has_done()) ids.erase(message.processid());
    }
    EXPECT_TRUE(ids.empty());
    return all;
  }

  std::string base_;
  std::future<absl::Status> solve_;
};

TEST_F(BuildContainerTest, RunsProcessesWithPipes) {
  ASSERT_EQ(NewContainer(), absl::OkStatus());
  grpc::ClientContext context;
  const auto exec = OpenExec(&context);
  exec->Write(Init("p1", "cat; echo err >&2; exit 3"));
  pbf::ExecMessage input;
  input.set_processid("p1");
  input.mutable_file()->set_data("some input\n");
  exec->Write(input);  // before it is known to have started
  pbf::ExecMessage message;
  std::map<std::string, Seen> first;
  while (first["p1"].output.find("some input") == std::string::npos && exec->Read(&message))
    Take(message, &first);
  exec->Write(Init("p2", "cat /etc/motd; exit 0"));  // joins it
  const auto second = ReadUntilDone(*exec, {"p2"});
  EXPECT_EQ(second.at("p2").output, "good morning");
  EXPECT_THAT(second.at("p2").events,
              testing::UnorderedElementsAre("started", "1 eof", "2 eof", "exit 0", "done"));
  EXPECT_EQ(second.at("p2").events.front(), "started");
  EXPECT_EQ(second.at("p2").events.back(), "done");
  EXPECT_EQ(second.at("p2").exit, absl::OkStatus());
  input.mutable_file()->set_data("");
  input.mutable_file()->set_eof(true);
  exec->Write(input);
  const auto rest = ReadUntilDone(*exec, {"p1"});
  EXPECT_EQ(rest.at("p1").output, "err\n");
  EXPECT_EQ(rest.at("p1").exit.message(), "exit code: 3");
  EXPECT_EQ(Details(rest.at("p1").exit)[0].value, R"({"Code":3})");
  exec->WritesDone();
  EXPECT_EQ(FromGrpc(exec->Finish()), absl::OkStatus());
  EXPECT_EQ(Release("c1"), absl::OkStatus());
  EXPECT_EQ(Release("c1").message(), "container details for c1 not found");
  ExpectNothingLeft();
}

// In the order of the messages, whatever threads start the processes.
TEST_F(BuildContainerTest, TheFirstProcessMakesTheContainer) {
  constexpr int kContainers = 8, kJoining = 3;
  for (int i = 0; i < kContainers; ++i) {
    ASSERT_EQ(NewContainer(), absl::OkStatus());
    grpc::ClientContext context;
    const auto exec = OpenExec(&context);
    exec->Write(Init("first", "echo -n $$; cat; exit 3"));
    std::set<std::string> joining;
    for (int k = 0; k < kJoining; ++k) {
      const std::string id = absl::StrCat("p", k);
      joining.insert(id);
      exec->Write(Init(id, "exit 4"));
    }
    auto seen = ReadUntilDone(*exec, joining);
    for (const std::string& id : joining) EXPECT_EQ(seen[id].exit.message(), "exit code: 4") << id;
    pbf::ExecMessage end;
    end.set_processid("first");
    end.mutable_file()->set_eof(true);
    exec->Write(end);
    std::string output = seen["first"].output;
    seen = ReadUntilDone(*exec, {"first"});
    EXPECT_EQ(output + seen["first"].output, "1");
    EXPECT_EQ(seen["first"].exit.message(), "exit code: 3");
    // Nothing joins a container that has ended.
    exec->Write(Init("late", "exit 4"));
    EXPECT_EQ(ReadUntilDone(*exec, {"late"})["late"].exit.message(),
              "the container's first process has ended");
    exec->WritesDone();
    EXPECT_EQ(FromGrpc(exec->Finish()), absl::OkStatus());
    EXPECT_EQ(Release("c1"), absl::OkStatus());
  }
}

TEST_F(BuildContainerTest, TerminalsAndSignals) {
  ASSERT_EQ(NewContainer(), absl::OkStatus());
  grpc::ClientContext context;
  const auto exec = OpenExec(&context);
  exec->Write(Init("p1", "while true; do sleep 0.05; done"));
  exec->Write(Init("p2", "echo term $TERM; read a; stty size; exit 4", /*terminal=*/true));
  pbf::ExecMessage resize;
  resize.set_processid("p2");
  resize.mutable_resize()->set_rows(31);
  resize.mutable_resize()->set_cols(97);
  exec->Write(resize);
  std::map<std::string, Seen> seen;
  pbf::ExecMessage message;
  while (seen["p2"].output.find("xterm") == std::string::npos && exec->Read(&message))
    Take(message, &seen);
  exec->Write(resize);
  pbf::ExecMessage input;
  input.set_processid("p2");
  input.mutable_file()->set_data("go\n");
  exec->Write(input);
  const auto second = ReadUntilDone(*exec, {"p2"});
  EXPECT_THAT(second.at("p2").output, HasSubstr("31 97"));
  EXPECT_EQ(second.at("p2").exit.message(), "exit code: 4");
  pbf::ExecMessage kill;
  kill.set_processid("p1");
  kill.mutable_signal()->set_name("KILL");
  exec->Write(kill);
  EXPECT_EQ(ReadUntilDone(*exec, {"p1"}).at("p1").exit.message(), "exit code: 137");
  exec->WritesDone();
  EXPECT_EQ(FromGrpc(exec->Finish()), absl::OkStatus());
}

TEST_F(BuildContainerTest, ReleaseKillsWhatRuns) {
  ASSERT_EQ(NewContainer(), absl::OkStatus());
  EXPECT_EQ(NewContainer().code(), absl::StatusCode::kAlreadyExists);
  grpc::ClientContext context;
  const auto exec = OpenExec(&context);
  exec->Write(Init("p1", "echo up; while true; do sleep 1; done"));
  exec->Write(Init("p2", "while true; do echo more than anybody reads; done"));
  std::map<std::string, Seen> seen;
  pbf::ExecMessage message;
  while (seen["p2"].output.empty() && exec->Read(&message)) Take(message, &seen);
  ASSERT_EQ(Release("c1"), absl::OkStatus());
  ExpectNothingLeft();
  const auto ended = ReadUntilDone(*exec, {"p1", "p2"});
  EXPECT_EQ(ended.at("p1").exit.message(), "the container was released");
  EXPECT_THAT(ended.at("p1").events, testing::Contains("exit 255"));
}

TEST_F(BuildContainerTest, EndOfTheBuildAndLostClientsKillToo) {
  ASSERT_EQ(NewContainer(), absl::OkStatus());
  for (const bool by_client : {true, false}) {
    grpc::ClientContext context;
    const auto exec = OpenExec(&context);
    exec->Write(Init("p1", "echo up; while true; do sleep 1; done"));
    std::map<std::string, Seen> seen;
    pbf::ExecMessage message;
    while (seen["p1"].output.empty() && exec->Read(&message)) Take(message, &seen);
    if (by_client) {
      context.TryCancel();
      EXPECT_EQ(exec->Finish().error_code(), grpc::StatusCode::CANCELLED);
    } else {
      EndBuild();
      EXPECT_THAT(ReadUntilDone(*exec, {"p1"}).at("p1").events, testing::Contains("exit 255"));
    }
    if (by_client) {
      ASSERT_EQ(Release("c1"), absl::OkStatus());
      ASSERT_EQ(NewContainer(), absl::OkStatus());
    }
  }
}

TEST_F(BuildContainerTest, WrongMessagesEndTheStream) {
  ASSERT_EQ(NewContainer(), absl::OkStatus());
  struct Case {
    const char* name;
    std::function<void(pbf::ExecMessage*)> edit;
    absl::StatusCode code;
    const char* want;
  };
  for (const Case& c : std::vector<Case>{
           {"id", [](auto* m) { m->clear_processid(); }, absl::StatusCode::kInvalidArgument, "id"},
           {"unknown", [](auto* m) { m->mutable_file()->set_fd(0); }, absl::StatusCode::kNotFound,
            "IO for process \"p1\" not found"},
           {"container", [](auto* m) { m->mutable_init()->set_containerid("c9"); },
            absl::StatusCode::kNotFound, "container details for c9 not found"},
           {"fd", [](auto* m) { m->mutable_init()->add_fds(7); },
            absl::StatusCode::kInvalidArgument, "fd 7"}}) {
    grpc::ClientContext context;
    const auto exec = OpenExec(&context);
    pbf::ExecMessage message = Init("p1", "true");
    c.edit(&message);
    exec->Write(message);
    pbf::ExecMessage answer;
    while (exec->Read(&answer)) {
    }
    const absl::Status status = FromGrpc(exec->Finish());
    EXPECT_EQ(status.code(), c.code) << c.name << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.want));
  }
  // To a process that runs.
  for (const auto& [edit, code] :
       std::vector<std::pair<std::function<void(pbf::ExecMessage*)>, absl::StatusCode>>{
           {[](auto* m) { m->mutable_signal()->set_name("WINK"); },
            absl::StatusCode::kInvalidArgument},
           {[](auto* m) { m->mutable_file()->set_fd(1); }, absl::StatusCode::kOutOfRange},
           {[](auto* m) { *m = Init("p1", "true"); }, absl::StatusCode::kAlreadyExists}}) {
    grpc::ClientContext context;
    const auto exec = OpenExec(&context);
    exec->Write(Init("p1", "while true; do sleep 1; done"));
    pbf::ExecMessage message;
    message.set_processid("p1");
    edit(&message);
    exec->Write(message);
    pbf::ExecMessage answer;
    while (exec->Read(&answer)) {
    }
    EXPECT_EQ(FromGrpc(exec->Finish()).code(), code);
  }
  // A program that is not there is the process's own failure.
  grpc::ClientContext context;
  const auto exec = OpenExec(&context);
  pbf::ExecMessage missing = Init("p2", "true");
  missing.mutable_init()->mutable_meta()->set_args(0, "/no/such/program");
  exec->Write(missing);
  const auto seen = ReadUntilDone(*exec, {"p2"});
  EXPECT_THAT(std::string(seen.at("p2").exit.message()), HasSubstr("/no/such/program"));
  EXPECT_THAT(seen.at("p2").events, testing::Contains("exit 127"));
}

TEST_F(BuildContainerTest, MountsAreCheckedAndTheirFilesRead) {
  pbf::NewContainerRequest request;
  request.add_mounts()->set_dest("/");
  request.mutable_mounts(0)->set_resultid("nobody's");
  EXPECT_EQ(NewContainer(request).message(),
            "failed to find ref nobody's for \"/\" mount: return reference nobody's not found");
  request.mutable_mounts(0)->set_resultid(base_);
  request.set_network(pb::HOST);
  EXPECT_EQ(NewContainer(request).message(), "network.host is not allowed");
  request.set_network(pb::NONE);
  request.mutable_mounts(0)->set_mounttype(pb::TMPFS);
  EXPECT_EQ(NewContainer(request).code(), absl::StatusCode::kInvalidArgument);
  request.mutable_mounts(0)->set_mounttype(pb::BIND);
  auto* scratch = request.add_mounts();
  scratch->set_dest("/scratch");
  auto* tmpfs = request.add_mounts();
  tmpfs->set_dest("/tmp");
  tmpfs->set_mounttype(pb::TMPFS);
  ASSERT_EQ(NewContainer(request), absl::OkStatus());
  grpc::ClientContext context;
  const auto exec = OpenExec(&context);
  exec->Write(Init("p1", "echo -n made >/scratch/f"));
  EXPECT_EQ(ReadUntilDone(*exec, {"p1"}).at("p1").exit, absl::OkStatus());

  pbf::ReadFileRequest read;
  read.set_ref("c1");
  read.set_mountindex(1);
  read.set_filepath("/f");
  pbf::ReadFileResponse file;
  EXPECT_EQ(Call(&pbf::LLBBridge::Stub::ReadFileContainer, read, &file), absl::OkStatus());
  EXPECT_EQ(file.data(), "made");
  pbf::StatFileRequest stat;
  stat.set_ref("c1");
  stat.set_path("/etc/motd");
  pbf::StatFileResponse motd;
  EXPECT_EQ(Call(&pbf::LLBBridge::Stub::StatFileContainer, stat, &motd), absl::OkStatus());
  EXPECT_EQ(motd.stat().size(), 12);
  pbf::ReadDirRequest list;
  list.set_ref("c1");
  list.set_mountindex(1);
  list.set_dirpath("/");
  pbf::ReadDirResponse names;
  EXPECT_EQ(Call(&pbf::LLBBridge::Stub::ReadDirContainer, list, &names), absl::OkStatus());
  ASSERT_EQ(names.entries_size(), 1);
  EXPECT_EQ(names.entries(0).path(), "f");
  read.set_mountindex(2);
  EXPECT_EQ(Call(&pbf::LLBBridge::Stub::ReadFileContainer, read, &file).code(),
            absl::StatusCode::kUnimplemented);
  read.set_mountindex(3);
  EXPECT_EQ(Call(&pbf::LLBBridge::Stub::ReadFileContainer, read, &file).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Release("c1"), absl::OkStatus());
  EXPECT_EQ(Call(&pbf::LLBBridge::Stub::StatFileContainer, stat, &motd).code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace kiln::daemon
