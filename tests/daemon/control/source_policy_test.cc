// What builds may use, decided by the request, by a frontend and by the client's verifier.
#include <gmock/gmock.h>

#include "proto/buildkit/policysession.grpc.pb.h"
#include "proto/status_details.h"
#include "store/base/status_macros.h"
#include "tests/daemon/control/control_fixture.h"
#include "tests/daemon/session/session_client.h"

namespace kiln::daemon {
namespace {

namespace pbp = moby::buildkit::v1::sourcepolicy;
namespace pbv = moby::buildkit::v1::sourcepolicy::policysession;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kBusybox[] = "docker-image://docker.io/library/busybox:latest";
constexpr char kAlpine[] = "docker-image://docker.io/library/alpine:latest";

std::string ImageDefinition(const std::string& identifier) {
  pb::Definition definition;
  pb::Op source, last;
  source.mutable_source()->set_identifier(identifier);
  definition.add_def(source.SerializeAsString());
  last.add_inputs()->set_digest(Digest::Of(definition.def(0)).ToString());
  definition.add_def(last.SerializeAsString());
  return definition.SerializeAsString();
}

void AddRule(pbp::Policy* policy, pbp::PolicyAction action, const std::string& selector,
             const std::string& to = "") {
  pbp::Rule& rule = *policy->add_rules();
  rule.set_action(action);
  rule.mutable_selector()->set_identifier(selector);
  if (!to.empty()) rule.mutable_updates()->set_identifier(to);
}

// Knows what it wants only when it knows the directory's name.
class Verifier : public pbv::PolicyVerifier::Service {
 public:
  std::string denied;

 private:
  grpc::Status CheckPolicy(grpc::ServerContext*, const pbv::CheckPolicyRequest* request,
                           pbv::CheckPolicyResponse* response) override {
    const pb::SourceOp& source = request->source().source();
    if (!asked_.exchange(true)) {
      *response->mutable_request()->mutable_source() = source;
      return grpc::Status::OK;
    }
    pbv::DecisionResponse& decision = *response->mutable_decision();
    decision.set_action(source.identifier() == denied ? pbp::DENY : pbp::ALLOW);
    decision.add_denymessages()->set_message("ask somebody");
    return grpc::Status::OK;
  }
  std::atomic<bool> asked_ = false;
};

class SourcePolicySolveTest : public ControlFixture {
 protected:
  SourcePolicySolveTest() {
    RecordBuilds();
    AddFrontend("one", [](FrontendClient& client) -> absl::StatusOr<BridgeResult> {
      FrontendClient::Solve solve;
      solve.definition = ImageDefinition(client.opts().at("image"));
      return client.SolveGraph(solve);
    });
    // Holds what it runs to a policy of its own.
    AddFrontend("strict", [](FrontendClient& client) -> absl::StatusOr<BridgeResult> {
      FrontendClient::Solve solve;
      solve.frontend = "one";
      solve.frontend_opts = client.opts();
      pbp::Policy policy;
      AddRule(&policy, pbp::DENY, "*alpine*");
      solve.source_policies = {policy.SerializeAsString()};
      return client.SolveGraph(solve);
    });
    AddFrontend("asks", [](FrontendClient& client) -> absl::StatusOr<BridgeResult> {
      FrontendClient::ImageRequest request;
      request.reference = "docker.io/library/busybox:latest";
      return client.ResolveImage(request).status();
    });
  }

  pbc::SolveRequest Request(const std::string& frontend, const std::string& image = kBusybox) {
    pbc::SolveRequest request;
    request.set_ref("b1");
    request.set_session("s1");
    request.set_frontend(frontend);
    (*request.mutable_frontendattrs())["image"] = image;
    request.add_exporters()->set_type("memory");
    return request;
  }
  absl::Status Run(const pbc::SolveRequest& request) { return StartSolve(request).get().first; }
};

TEST_F(SourcePolicySolveTest, RulesOfTheRequest) {
  pbc::SolveRequest request = Request("one");
  AddRule(request.mutable_sourcepolicy(), pbp::CONVERT, kBusybox, kAlpine);
  ASSERT_EQ(Run(request), absl::OkStatus());
  {
    MutexLock lock(&mu_);
    EXPECT_THAT(built_, ElementsAre(ImageDefinition(kAlpine)));
    built_.clear();
  }
  AddRule(request.mutable_sourcepolicy(), pbp::DENY, "*alpine*");
  request.set_ref("b2");
  const absl::Status denied = Run(request);
  EXPECT_EQ(denied.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(denied.message(),
            "failed to load LLB: error evaluating the source policy: source "
            "\"docker-image://docker.io/library/alpine:latest\" denied by policy: source denied by "
            "policy");
  pbc::SolveRequest broken = Request("one");
  broken.set_ref("b3");
  broken.mutable_sourcepolicy()->add_rules();
  EXPECT_EQ(Run(broken).message(), "invalid nil selector in policy");
  MutexLock lock(&mu_);
  EXPECT_THAT(built_, IsEmpty());
}

TEST_F(SourcePolicySolveTest, RulesOfAFrontendComeOnTop) {
  pbc::SolveRequest request = Request("strict");
  EXPECT_EQ(Run(request), absl::OkStatus());
  AddRule(request.mutable_sourcepolicy(), pbp::CONVERT, kBusybox, kAlpine);
  request.set_ref("b2");
  EXPECT_THAT(std::string(Run(request).message()), HasSubstr("denied by policy"));
}

TEST_F(SourcePolicySolveTest, ImagesThatAreOnlyAskedFor) {
  pbc::SolveRequest request = Request("asks");
  AddRule(request.mutable_sourcepolicy(), pbp::DENY, "*");
  EXPECT_EQ(
      Run(request).message(),
      "could not resolve image due to policy: source "
      "\"docker-image://docker.io/library/busybox:latest\" denied by policy: source denied by "
      "policy");
  pbc::SolveRequest converted = Request("asks");
  converted.set_ref("b2");
  AddRule(converted.mutable_sourcepolicy(), pbp::CONVERT, kBusybox, "https://x/y.tar");
  EXPECT_EQ(Run(converted).message(),
            "ref mutated by policy to non-image: docker-image://docker.io/library/busybox:latest "
            "-> https://x/y.tar");
}

TEST_F(SourcePolicySolveTest, TheClientsVerifierDecides) {
  Verifier verifier;
  verifier.denied = kBusybox;
  SessionClient session(channel_, "judge", {&verifier});
  pbc::SolveRequest request = Request("one", "local://src");
  request.set_sourcepolicysession("judge");
  EXPECT_EQ(Run(request), absl::OkStatus());
  request = Request("one", "docker-image://busybox");
  request.set_ref("b2");
  request.set_sourcepolicysession("judge");
  const absl::Status denied = Run(request);
  EXPECT_EQ(denied.message(),
            "failed to load LLB: error evaluating the source policy: source "
            "\"docker-image://docker.io/library/busybox:latest\" not allowed by policy: action "
            "DENY");
  bool told = false;
  for (const StatusDetail& detail : Details(denied)) {
    if (detail.type_url == kPolicyDetail) told = true;
  }
  EXPECT_TRUE(told);
  EXPECT_TRUE(session.Close().ok());
}

}  // namespace
}  // namespace kiln::daemon
