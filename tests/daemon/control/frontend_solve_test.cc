// Control.Solve with a frontend of the daemon.
#include <gmock/gmock.h>

#include "absl/synchronization/notification.h"
#include "proto/status_details.h"
#include "store/base/status_macros.h"
#include "tests/daemon/control/control_fixture.h"

namespace kiln::daemon {
namespace {

using testing::HasSubstr;

std::string Definition(const std::string& op) {
  pb::Definition definition;
  definition.add_def(op);
  return definition.SerializeAsString();
}

class FrontendSolveTest : public ControlFixture {
 protected:
  FrontendSolveTest() {
    RecordBuilds();
    AddFrontend("one", [](FrontendClient& client) -> absl::StatusOr<BridgeResult> {
      FrontendClient::Solve solve;
      solve.definition = Definition(client.opts().at("op"));
      KILN_ASSIGN_OR_RETURN(BridgeResult result, client.SolveGraph(solve));
      result.metadata["frontend.session"] = client.session_id();
      result.metadata["frontend.platform"] = client.worker_platforms().at(0);
      return result;
    });
    // Runs another one with what it was given itself.
    AddFrontend("outer", [](FrontendClient& client) -> absl::StatusOr<BridgeResult> {
      FrontendClient::Solve solve;
      solve.frontend = client.opts().at("inner");
      solve.frontend_opts = {{"op", "from outer"}};
      solve.frontend_inputs = client.inputs();
      return client.SolveGraph(solve);
    });
    AddFrontend("bad", [](FrontendClient&) -> absl::StatusOr<BridgeResult> {
      absl::Status status = absl::UnknownError("line 3 is wrong");
      AddVertexDetail("sha256:1", &status);
      return status;
    });
    AddFrontend("liar", [](FrontendClient&) -> absl::StatusOr<BridgeResult> {
      BridgeResult result;
      result.ref = "nobody's";
      return result;
    });
    AddFrontend("patient", [this](FrontendClient& client) -> absl::StatusOr<BridgeResult> {
      waiting_.Notify();
      Mutex mu;
      CondVar woken;
      const CancelRegistration wake = client.cancel().OnCancel([&] {
        MutexLock lock(&mu);
        woken.SignalAll();
      });
      MutexLock lock(&mu);
      while (!client.cancel().Cancelled()) woken.Wait(&mu);
      return client.cancel().status();
    });
  }

  pbc::SolveRequest Request(const std::string& frontend,
                            const std::map<std::string, std::string>& attrs = {}) {
    pbc::SolveRequest request;
    request.set_ref("b1");
    request.set_session("s1");
    request.set_frontend(frontend);
    for (const auto& [key, value] : attrs) (*request.mutable_frontendattrs())[key] = value;
    request.add_exporters()->set_type("memory");
    return request;
  }

  absl::Notification waiting_;
};

TEST_F(FrontendSolveTest, BuildsAndExportsWhatTheFrontendMade) {
  const auto [status, response] = StartSolve(Request("one", {{"op", "x"}})).get();
  ASSERT_EQ(status, absl::OkStatus());
  EXPECT_EQ(response.exporterresponse().at("frontend.session"), "s1");
  EXPECT_THAT(response.exporterresponse().at("frontend.platform"), HasSubstr("linux/"));
  EXPECT_EQ(response.exporterresponse().at("exported"), "yes");
  MutexLock lock(&mu_);
  EXPECT_THAT(built_, testing::ElementsAre(Definition("x")));
}

TEST_F(FrontendSolveTest, FrontendsRunFrontends) {
  const auto [status, response] = StartSolve(Request("outer", {{"inner", "one"}})).get();
  ASSERT_EQ(status, absl::OkStatus());
  MutexLock lock(&mu_);
  EXPECT_THAT(built_, testing::ElementsAre(Definition("from outer")));
  MutexLock exported(&exported_.mu);
  ASSERT_EQ(exported_.sources.size(), 1u);
  EXPECT_NE(exported_.sources[0].ref, nullptr);
}

TEST_F(FrontendSolveTest, ErrorsKeepTheirDetailsAndNameTheFrontend) {
  const absl::Status status =
      StartSolve(Request("outer", {{"inner", "bad"}, {"source", "img"}})).get().first;
  EXPECT_EQ(status.code(), absl::StatusCode::kUnknown);
  EXPECT_EQ(status.message(), "line 3 is wrong");
  std::vector<std::string> details;
  for (const StatusDetail& detail : Details(status)) details.push_back(detail.value);
  EXPECT_THAT(details,
              testing::UnorderedElementsAre(R"({"digest":"sha256:1"})", R"({"name":"bad"})",
                                            R"({"name":"outer","source":"img"})"));
}

TEST_F(FrontendSolveTest, RefsThatAreNotThereAreRefused) {
  EXPECT_EQ(StartSolve(Request("liar")).get().first.message(),
            "return reference nobody's not found");
}

TEST_F(FrontendSolveTest, GatewayWithTheBuiltInSourceIsTheBuiltInOne) {
  AddFrontend("dockerfile.v0", [](FrontendClient&) { return BridgeResult(); });
  AddFrontend("gateway.v0", [](FrontendClient&) -> absl::StatusOr<BridgeResult> {
    return absl::UnknownError("from an image");
  });
  EXPECT_EQ(StartSolve(Request("gateway.v0", {{"source", "dockerfile.v0"}})).get().first,
            absl::OkStatus());
  pbc::SolveRequest overridden =
      Request("gateway.v0", {{"source", "dockerfile.v0"}, {"context:dockerfile.v0", "input:x"}});
  overridden.set_ref("b2");
  EXPECT_EQ(StartSolve(overridden).get().first.message(), "from an image");
}

TEST_F(FrontendSolveTest, CancelReachesAFrontendInAFrontend) {
  grpc::ClientContext context;
  pbc::SolveRequest request = Request("outer", {{"inner", "patient"}});
  auto solve = std::async(std::launch::async, [&] {
    pbc::SolveResponse response;
    return control_stub_->Solve(&context, request, &response);
  });
  waiting_.WaitForNotification();
  context.TryCancel();
  EXPECT_EQ(solve.get().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(builds_.WaitIdle(absl::Now() + absl::Seconds(20)));
}

}  // namespace
}  // namespace kiln::daemon
