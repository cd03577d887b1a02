// Builds driven by a client-side frontend, call by call (wire.md 4).
#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <set>

#include "absl/time/clock.h"
#include "client/grpc_status.h"
#include "client/llb/file_action.h"
#include "proto/buildkit/control.grpc.pb.h"
#include "proto/solve_detail.h"
#include "proto/status_details.h"
#include "store/base/status_macros.h"
#include "tests/integration/build_fixture.h"
#include "tests/integration/gateway_client.h"

namespace kiln::integration {
namespace {

namespace llb = client::llb;
using testing::HasSubstr;

class GatewayTest : public BuildTest {
 protected:
  absl::Status InBuild(const std::function<void(GatewayClient&)>& frontend) {
    return GatewayClient::InBuild(daemon_->address(), base_, frontend);
  }

  static SolveDetail DetailOf(const absl::Status& status) {
    const auto payload = status.GetPayload(kSolveDetail);
    EXPECT_TRUE(payload.has_value()) << status;
    auto detail = SolveDetailFromJson(payload.has_value() ? std::string(*payload) : "");
    EXPECT_TRUE(detail.ok()) << detail.status();
    return detail.ok() ? *detail : SolveDetail();
  }

  // A container with the mounts of a failed exec op under these ids, as debuggers make it.
  static gateway::NewContainerRequest ContainerOf(const std::string& name,
                                                  const SolveDetail& detail,
                                                  const std::vector<std::string>& ids) {
    gateway::NewContainerRequest request;
    request.set_containerid(name);
    pb::Op op;
    EXPECT_TRUE(op.ParseFromString(detail.op) && op.has_exec());
    EXPECT_EQ(ids.size(), static_cast<size_t>(op.exec().mounts_size()));
    for (size_t i = 0; i < ids.size(); ++i) {
      pb::Mount& mount = *request.add_mounts();
      mount = op.exec().mounts(static_cast<int>(i));
      mount.set_resultid(ids[i]);
    }
    return request;
  }
  // One with a root only.
  static gateway::NewContainerRequest RootOf(const std::string& name, const std::string& id) {
    gateway::NewContainerRequest request;
    request.set_containerid(name);
    request.add_mounts()->set_dest("/");
    request.mutable_mounts(0)->set_resultid(id);
    return request;
  }

  std::set<std::string> Records() {
    client::ConnectOptions connect;
    connect.address = daemon_->address();
    auto connection = client::Connection::Open(connect);
    EXPECT_TRUE(connection.ok()) << connection.status();
    moby::buildkit::v1::DiskUsageResponse usage;
    grpc::ClientContext context;
    const absl::Status status =
        client::FromGrpc(moby::buildkit::v1::Control::NewStub((*connection)->channel())
                             ->DiskUsage(&context, moby::buildkit::v1::DiskUsageRequest(), &usage));
    EXPECT_TRUE(status.ok()) << status;
    std::set<std::string> ids;
    for (const auto& record : usage.record()) ids.insert(record.id());
    return ids;
  }
};

TEST_F(GatewayTest, Llb6_29_FailedStepCanBeLookedIntoUntilTheBuildEnds) {
  SeenProgress seen;
  ASSERT_TRUE(Run(base_.state().Run(Step("warm up", "true")).Root(), &seen).ok());
  const std::set<std::string> before = Records();
  const Holdings idle = daemon_->Count();

  llb::RunInfo step =
      Step("half", "echo half > /work/file; echo root > /made; echo c > /cache/f; exit 3");
  step.mounts.push_back({.target = "/work"});
  step.mounts.push_back({.target = "/cache", .cache_id = "kept"});
  step.mounts.push_back({.target = "/base", .source = base_.state(), .readonly = true});
  std::string old_id;
  const absl::Status built = InBuild([&](GatewayClient& client) {
    const auto failed = client.Evaluate(base_.state().Run(step).Root());
    ASSERT_FALSE(failed.ok());
    EXPECT_THAT(std::string(failed.status().message()), HasSubstr("exit code: 3"));
    EXPECT_TRUE(failed.status().GetPayload(kVertexDetail).has_value());
    EXPECT_TRUE(failed.status().GetPayload(kExitDetail).has_value());
    const SolveDetail detail = DetailOf(failed.status());
    EXPECT_THAT(detail.description, testing::Contains(testing::Pair("llb.customname", "half")));
    EXPECT_FALSE(detail.file_index.has_value());
    pb::Op op;
    ASSERT_TRUE(op.ParseFromString(detail.op));
    ASSERT_EQ(detail.input_ids.size(), static_cast<size_t>(op.exec().mounts_size()));
    for (int i = 0; i < op.exec().mounts_size(); ++i) {
      const size_t at = static_cast<size_t>(i);
      const std::string dest = op.exec().mounts(i).dest();
      EXPECT_EQ(detail.input_ids[at].empty(), dest == "/work" || dest == "/cache") << dest;
      EXPECT_EQ(detail.mount_ids[at].empty(), dest == "/cache") << dest;
      EXPECT_EQ(detail.mount_ids[at] == detail.input_ids[at], dest == "/cache" || dest == "/base");
      if (dest == "/") old_id = detail.mount_ids[at];
    }

    auto end = client.RunIn(ContainerOf("after", detail, detail.mount_ids),
                            {"/bin/sh", "-c", "cat /work/file /made /cache/f; ls /base/bin/sh"});
    ASSERT_TRUE(end.ok()) << end.status();
    EXPECT_EQ(end->out, "half\nroot\nc\n/base/bin/sh\n") << end->err;
    // What the shell changes is its own: the trees stay as the step left them.
    end = client.RunIn(ContainerOf("again", detail, detail.mount_ids),
                       {"/bin/sh", "-c", "cat /made; rm /made; echo x > /work/file"});
    ASSERT_TRUE(end.ok()) << end.status();
    end = client.RunIn(ContainerOf("third", detail, detail.mount_ids),
                       {"/bin/sh", "-c", "cat /made /work/file"});
    ASSERT_TRUE(end.ok()) << end.status();
    EXPECT_EQ(end->out, "root\nhalf\n");
    end = client.RunIn(ContainerOf("before", detail, detail.input_ids),
                       {"/bin/sh", "-c", "ls /made /work/file"});
    ASSERT_TRUE(end.ok()) << end.status();
    EXPECT_EQ(end->code, 1u);
    EXPECT_EQ(end->out, "");
  });
  EXPECT_TRUE(built.ok()) << built;

  const absl::Status other = InBuild([&](GatewayClient& client) {
    const auto late = client.RunIn(RootOf("late", old_id), {"/bin/sh"});
    EXPECT_THAT(std::string(late.status().message()),
                HasSubstr("return reference " + old_id + " not found"));
  });
  EXPECT_TRUE(other.ok()) << other;
  EXPECT_TRUE(daemon_->SettlesTo(idle)) << idle.ToString() << "\n" << daemon_->Count().ToString();
  // A new record of the cache directory and nothing of the step, once the build was let go.
  std::set<std::string> left;
  const Deadline deadline(absl::Minutes(1));
  do {
    left = Records();
    for (const std::string& id : before) left.erase(id);
  } while (left.size() != 1 && !deadline.Passed());
  EXPECT_EQ(left.size(), 1u);
}

TEST_F(GatewayTest, Llb6_29_FailedFileActionCanBeLookedInto) {
  const absl::Status built = InBuild([&](GatewayClient& client) {
    const auto failed = client.Evaluate(base_.state().File(
        llb::FileAction().Mkfile("/first", 0644, "one").Mkfile("/none/second", 0644, "two")));
    ASSERT_FALSE(failed.ok());
    const SolveDetail detail = DetailOf(failed.status());
    EXPECT_EQ(detail.file_index, 1);
    ASSERT_EQ(detail.input_ids.size(), 1u);
    ASSERT_EQ(detail.mount_ids.size(), 2u);
    EXPECT_EQ(detail.mount_ids[0], "");
    auto end = client.RunIn(RootOf("c", detail.mount_ids[1]), {"/bin/sh", "-c", "cat /first"});
    ASSERT_TRUE(end.ok()) << end.status();
    EXPECT_EQ(end->out, "one");
    end = client.RunIn(RootOf("c", detail.input_ids[0]), {"/bin/sh", "-c", "cat /first"});
    ASSERT_TRUE(end.ok()) << end.status();
    EXPECT_EQ(end->code, 1u);
  });
  EXPECT_TRUE(built.ok()) << built;
}

// The files of a Dockerfile's build are looked for when its result is evaluated, not before.
TEST_F(GatewayTest, S146WhatADockerfileMissesIsNamedWhenEvaluated) {
  const absl::Status built = InBuild([&](GatewayClient& client) {
    gateway::SolveRequest request;
    request.set_frontend("dockerfile.v0");
    (*request.mutable_frontendopt())["build-arg:FILE"] = "badfile";
    const auto offer = [&](const char* name, const llb::State& state) {
      const auto definition = state.Marshal();
      ASSERT_TRUE(definition.ok()) << definition.status();
      (*request.mutable_frontendinputs())[name].ParseFromString(definition->Serialize());
    };
    const std::string text = "FROM scratch\nARG FILE\nCOPY $FILE /\n";
    offer("dockerfile", llb::State().File(llb::FileAction().Mkfile("/Dockerfile", 0644, text)));
    offer("context", llb::State().File(llb::FileAction().Mkfile("/goodfile", 0644, "good")));
    const auto solve = [&](bool evaluate, gateway::SolveResponse* response) {
      request.set_evaluate(evaluate);
      request.set_allowresultreturn(true);
      request.set_allowresultarrayref(true);
      return client.Call(&gateway::LLBBridge::Stub::Solve, request, response);
    };
    gateway::SolveResponse lazy, eager;
    EXPECT_EQ(solve(false, &lazy), absl::OkStatus());
    const absl::Status failed = solve(true, &eager);
    EXPECT_THAT(std::string(failed.message()), HasSubstr("\"/badfile\": not found"));
    EXPECT_TRUE(failed.GetPayload(kVertexDetail).has_value());
    gateway::EvaluateRequest evaluate;
    evaluate.set_ref(lazy.result().ref().id());
    gateway::EvaluateResponse done;
    const absl::Status later = client.Call(&gateway::LLBBridge::Stub::Evaluate, evaluate, &done);
    EXPECT_THAT(std::string(later.message()), HasSubstr("\"/badfile\": not found"));
    (*request.mutable_frontendopt())["build-arg:FILE"] = "goodfile";
    EXPECT_EQ(solve(true, &eager), absl::OkStatus());
  });
  EXPECT_TRUE(built.ok()) << built;
}

// A source has no trees, but its op is told.
TEST_F(GatewayTest, EveryFailedOpIsDescribed) {
  const absl::Status built = InBuild([&](GatewayClient& client) {
    const auto failed = client.Evaluate(llb::Local("nowhere"));
    ASSERT_FALSE(failed.ok());
    const SolveDetail detail = DetailOf(failed.status());
    pb::Op op;
    ASSERT_TRUE(op.ParseFromString(detail.op));
    EXPECT_EQ(op.source().identifier(), "local://nowhere");
    EXPECT_TRUE(detail.mount_ids.empty());
  });
  EXPECT_TRUE(built.ok()) << built;
}

// As a RUN step of that platform does.
TEST_F(GatewayTest, ContainerForAnotherMachineSaysWhatIsMissing) {
  const absl::Status built = InBuild([&](GatewayClient& client) {
    for (const char* architecture : {"loong64", "mips64", "s390x", "riscv64", "arm64"}) {
      const auto ref = client.Evaluate(base_.state().File(llb::FileAction().Mkfile(
          "/alien", 0755,
          Slurp(absl::StrCat(daemon_->root(), "/executor/foreign/", architecture)))));
      ASSERT_TRUE(ref.ok()) << ref.status();
      gateway::NewContainerRequest request = RootOf(architecture, *ref);
      request.mutable_platform()->set_os("linux");
      request.mutable_platform()->set_architecture(architecture);
      const auto end = client.RunIn(request, {"/alien"});
      ASSERT_TRUE(end.ok()) << end.status();
      if (end->code == 0) continue;  // emulated here
      EXPECT_THAT(end->error, HasSubstr(absl::StrCat("no binfmt_misc handler for linux/",
                                                     architecture, "; install qemu-user-static")));
      const auto native = client.RunIn(RootOf("native", *ref), {"/alien"});
      ASSERT_TRUE(native.ok()) << native.status();
      EXPECT_NE(native->code, 0u);
      EXPECT_EQ(native->error.find("binfmt"), std::string::npos) << native->error;
    }
  });
  EXPECT_TRUE(built.ok()) << built;
}

}  // namespace
}  // namespace kiln::integration
