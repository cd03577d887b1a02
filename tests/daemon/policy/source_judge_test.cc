#include "daemon/policy/source_judge.h"

#include <gmock/gmock.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <deque>

#include "daemon/policy/judge_definition.h"
#include "proto/buildkit/policysession.grpc.pb.h"
#include "proto/digest.h"
#include "proto/status_details.h"
#include "store/base/mutex.h"
#include "tests/daemon/session/fake_session.h"

namespace kiln::daemon {
namespace {

namespace pbf = moby::buildkit::v1::frontend;
namespace pbp = moby::buildkit::v1::sourcepolicy;
namespace pbv = moby::buildkit::v1::sourcepolicy::policysession;
using testing::ElementsAre;
using testing::SizeIs;

constexpr char kBusybox[] = "docker-image://docker.io/library/busybox:latest";

// A client that answers as it is told, and then allows everything.
class FakeVerifier : public pbv::PolicyVerifier::Service {
 public:
  FakeVerifier() {
    grpc::ServerBuilder builder;
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~FakeVerifier() override { server_->Shutdown(std::chrono::system_clock::now()); }
  std::shared_ptr<grpc::Channel> Channel() { return server_->InProcessChannel({}); }

  std::deque<pbv::CheckPolicyResponse> answers;
  std::vector<pbv::CheckPolicyRequest> seen;

 private:
  grpc::Status CheckPolicy(grpc::ServerContext*, const pbv::CheckPolicyRequest* request,
                           pbv::CheckPolicyResponse* response) override {
    MutexLock lock(&mu_);
    seen.push_back(*request);
    response->mutable_decision()->set_action(pbp::ALLOW);
    if (answers.empty()) return grpc::Status::OK;
    *response = answers.front();
    answers.pop_front();
    return grpc::Status::OK;
  }
  Mutex mu_;
  std::unique_ptr<grpc::Server> server_;
};

// Knows one session, which comes at the second look.
class LateSession : public SessionFinder {
 public:
  explicit LateSession(SessionPtr session) : session_(std::move(session)) {}
  absl::StatusOr<SessionPtr> Get(absl::string_view id, const CancelToken& cancel) override {
    if (cancel.Cancelled()) return cancel.status();
    if (id != session_->id() || first_++ == 0)
      return absl::NotFoundError("no active session: context deadline exceeded");
    return session_;
  }
  absl::Status Any(absl::Span<const std::string>, const CancelToken&,
                   const std::function<absl::Status(Session&)>&) override {
    return absl::UnimplementedError("Any");
  }

 private:
  const SessionPtr session_;
  std::atomic<int> first_ = 0;
};

class SourceJudgeTest : public testing::Test {
 protected:
  std::shared_ptr<const SourceJudge> WithVerifier() {
    auto verifier = std::make_shared<SourceJudge::Verifier>();
    verifier->session_id = "s1";
    verifier->sessions = &sessions_;
    verifier->resolve = [this](const std::string& bytes,
                               const CancelToken&) -> absl::StatusOr<std::string> {
      pbf::ResolveSourceMetaRequest request;
      request.ParseFromString(bytes);
      ++resolved_;
      pbf::ResolveSourceMetaResponse response;
      *response.mutable_source() = request.source();
      response.mutable_image()->set_digest("sha256:abc");
      return response.SerializeAsString();
    };
    return *SourceJudge::Create({}, verifier);
  }
  static pbv::CheckPolicyResponse Ask(const std::string& identifier) {
    pbv::CheckPolicyResponse response;
    response.mutable_request()->mutable_source()->set_identifier(identifier);
    return response;
  }
  static pbv::CheckPolicyResponse Convert(const std::string& identifier) {
    pbv::CheckPolicyResponse response;
    response.mutable_decision()->set_action(pbp::CONVERT);
    response.mutable_decision()->mutable_update()->set_identifier(identifier);
    return response;
  }
  absl::StatusOr<bool> Judge(const SourceJudge& judge, SourceRef* source) {
    return judge.Judge(source, "", CancelToken());
  }

  FakeVerifier verifier_;
  LateSession sessions_{std::make_shared<FakeSession>("s1", verifier_.Channel())};
  int resolved_ = 0;
};

TEST_F(SourceJudgeTest, AnAllowedSourceStaysAsItIsWritten) {
  SourceRef source{"docker-image://busybox", {}};
  EXPECT_FALSE(*Judge(*WithVerifier(), &source));
  EXPECT_EQ(source.identifier, "docker-image://busybox");
  ASSERT_THAT(verifier_.seen, SizeIs(1));
  EXPECT_EQ(verifier_.seen[0].source().source().identifier(), kBusybox);
}

TEST_F(SourceJudgeTest, TheVerifierMayAskFirst) {
  verifier_.answers = {Ask(kBusybox)};
  SourceRef source{kBusybox, {}};
  EXPECT_FALSE(*Judge(*WithVerifier(), &source));
  ASSERT_THAT(verifier_.seen, SizeIs(2));
  EXPECT_EQ(verifier_.seen[1].source().image().digest(), "sha256:abc");
  // But only about that source, and not for ever.
  verifier_.answers = {Ask("docker-image://other")};
  EXPECT_EQ(Judge(*WithVerifier(), &source).status().message(),
            "policy requested different source identifier: \"docker-image://other\" != "
            "\"docker-image://docker.io/library/busybox:latest\"");
  for (int i = 0; i < 20; ++i) verifier_.answers.push_back(Ask(kBusybox));
  EXPECT_EQ(Judge(*WithVerifier(), &source).status().message(), "too many policy requests");
  EXPECT_EQ(resolved_, 11);
}

TEST_F(SourceJudgeTest, ARefusalCarriesTheVerifiersWords) {
  pbv::CheckPolicyResponse deny;
  deny.mutable_decision()->set_action(pbp::DENY);
  deny.mutable_decision()->add_denymessages()->set_message("not <here>");
  verifier_.answers = {deny};
  SourceRef source{kBusybox, {}};
  const absl::Status status = Judge(*WithVerifier(), &source).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(status.message(),
            "source \"docker-image://docker.io/library/busybox:latest\" not allowed by policy: "
            "action DENY");
  const std::vector<StatusDetail> details = Details(status);
  ASSERT_THAT(details, SizeIs(1));
  EXPECT_EQ(details[0].type_url, kPolicyDetail);
  EXPECT_EQ(details[0].value,
            "{\"action\":1,\"denyMessages\":[{\"message\":\"not \\u003chere\\u003e\"}]}");
}

TEST_F(SourceJudgeTest, AConvertedSourceIsJudgedAgain) {
  verifier_.answers = {Convert("docker-image://alpine")};
  SourceRef source{kBusybox, {{"old", "1"}}};
  EXPECT_TRUE(*Judge(*WithVerifier(), &source));
  EXPECT_EQ(source, (SourceRef{"docker-image://docker.io/library/alpine:latest", {}}));
  ASSERT_THAT(verifier_.seen, SizeIs(2));
  verifier_.answers = {Convert("x")};
  verifier_.answers[0].mutable_decision()->clear_update();
  EXPECT_EQ(Judge(*WithVerifier(), &source).status().message(),
            "convert action requires updated source");
  verifier_.answers = {pbv::CheckPolicyResponse()};
  EXPECT_EQ(Judge(*WithVerifier(), &source).status().message(), "no decision in policy response");
}

TEST_F(SourceJudgeTest, CancelEndsTheWaitForASession) {
  CancelSource stop;
  stop.Cancel(absl::CancelledError("enough"));
  SourceRef source{kBusybox, {}};
  EXPECT_EQ(WithVerifier()->Judge(&source, "", stop.token()).status().message(), "enough");
}

// A definition of an image, a directory, a step on each, and a result.
struct Graph {
  pb::Definition definition;
  std::vector<std::string> digests;

  void Add(pb::Op op, const std::vector<int>& inputs) {
    for (int input : inputs) op.add_inputs()->set_digest(digests[input]);
    definition.add_def(op.SerializeAsString());
    digests.push_back(Digest::Of(definition.def().rbegin()[0]).ToString());
    (*definition.mutable_metadata())[digests.back()].set_ignore_cache(true);
  }
};

TEST_F(SourceJudgeTest, AChangedSourceChangesWhatStandsOnIt) {
  Graph graph;
  pb::Op image, local, step;
  image.mutable_source()->set_identifier(kBusybox);
  local.mutable_source()->set_identifier("local://x");
  step.mutable_exec()->mutable_meta()->add_args("true");
  graph.Add(image, {});
  graph.Add(local, {});
  graph.Add(step, {0, 1});
  graph.Add(step, {1});
  graph.Add(pb::Op(), {2});
  auto& location = (*graph.definition.mutable_source()->mutable_locations())[graph.digests[2]];
  location.add_locations()->set_sourceindex(3);
  const std::string bytes = graph.definition.SerializeAsString();

  pbp::Policy policy;
  pbp::Rule& rule = *policy.add_rules();
  rule.mutable_selector()->set_identifier("docker-image://*");
  rule.set_action(pbp::ALLOW);
  auto judge = *SourceJudge::Create({policy.SerializeAsString()}, nullptr);
  EXPECT_EQ(*JudgeDefinition(bytes, *judge, CancelToken()), bytes);

  rule.set_action(pbp::CONVERT);
  rule.mutable_updates()->set_identifier("docker-image://docker.io/library/alpine:latest");
  judge = *SourceJudge::With(nullptr, {policy.SerializeAsString()});
  const auto changed = JudgeDefinition(bytes, *judge, CancelToken());
  ASSERT_TRUE(changed.ok()) << changed.status();
  pb::Definition got;
  ASSERT_TRUE(got.ParseFromString(*changed));
  ASSERT_EQ(got.def_size(), 5);
  std::vector<std::string> digests;
  std::vector<pb::Op> ops(5);
  for (int i = 0; i < 5; ++i) {
    digests.push_back(Digest::Of(got.def(i)).ToString());
    ASSERT_TRUE(ops[i].ParseFromString(got.def(i)));
    EXPECT_TRUE(got.metadata().at(digests[i]).ignore_cache());
  }
  EXPECT_EQ(got.metadata_size(), 5);
  EXPECT_EQ(ops[0].source().identifier(), "docker-image://docker.io/library/alpine:latest");
  EXPECT_EQ(digests[1], graph.digests[1]);
  EXPECT_EQ(digests[3], graph.digests[3]);
  EXPECT_EQ(ops[2].inputs(0).digest(), digests[0]);
  EXPECT_EQ(ops[2].inputs(1).digest(), digests[1]);
  EXPECT_EQ(ops[4].inputs(0).digest(), digests[2]);
  EXPECT_NE(digests[2], graph.digests[2]);
  EXPECT_EQ(got.source().locations().at(digests[2]).locations(0).sourceindex(), 3);
}

TEST_F(SourceJudgeTest, NothingEscapesTheJudge) {
  pbp::Policy policy;
  pbp::Rule& rule = *policy.add_rules();
  rule.mutable_selector()->set_identifier("*");
  rule.set_action(pbp::DENY);
  const auto judge = *SourceJudge::Create({policy.SerializeAsString()}, nullptr);
  Graph graph;
  pb::Op nested, image;
  nested.mutable_build()->set_builder(-1);
  image.mutable_source()->set_identifier("docker-image://busybox");
  graph.Add(nested, {});
  EXPECT_EQ(
      JudgeDefinition(graph.definition.SerializeAsString(), *judge, CancelToken()).status().code(),
      absl::StatusCode::kUnimplemented);
  Graph plain;
  plain.Add(image, {});
  EXPECT_EQ(JudgeDefinition(plain.definition.SerializeAsString(), *judge, CancelToken())
                .status()
                .message(),
            "source \"docker-image://docker.io/library/busybox:latest\" denied by policy: source "
            "denied by policy");
  EXPECT_EQ(*JudgeDefinition("\xff\xff", *judge, CancelToken()), "\xff\xff");
}

}  // namespace
}  // namespace kiln::daemon
