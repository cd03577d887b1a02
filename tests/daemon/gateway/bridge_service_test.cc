#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "absl/synchronization/notification.h"
#include "daemon/gateway/capabilities.h"
#include "daemon/gateway/file_access.h"
#include "store/base/status_macros.h"
#include "tests/daemon/control/control_fixture.h"

namespace kiln::daemon {
namespace {

using testing::HasSubstr;

// A build "b1" that waits for its frontend; its refs are the folder tree_.
class BridgeServiceTest : public ControlFixture {
 protected:
  BridgeServiceTest() {
    solver_.build = [this](const std::string&, const CancelToken&) {
      ++evaluated_;
      return MakeResult(std::make_shared<FolderRef>(tree_.path()));
    };
    pbc::SolveRequest request;
    request.set_ref("b1");
    request.mutable_frontendinputs()->insert({"ctx", pb::Definition()});
    solve_ = StartSolve(request);
  }
  ~BridgeServiceTest() override {
    Return("b1", pbf::Result()).IgnoreError();
    solve_.get();
  }

  template <typename Request, typename Response>
  absl::Status Ask(grpc::Status (pbf::LLBBridge::Stub::*method)(grpc::ClientContext*,
                                                                const Request&, Response*),
                   const Request& request, Response* response) {
    return Call(method, "b1", request, response);
  }

  TempDir tree_;
  std::atomic<int> evaluated_ = 0;
  std::future<std::pair<absl::Status, pbc::SolveResponse>> solve_;
};

class UnknownBuildTest : public ControlFixture {
 protected:
  UnknownBuildTest() : ControlFixture({absl::Milliseconds(1), absl::Milliseconds(1)}) {}
};

TEST_F(UnknownBuildTest, Llb6_31_BuildMustBeNamedAndKnown) {
  pbf::PongResponse pong;
  const absl::Status unnamed = Call(&pbf::LLBBridge::Stub::Ping, "", pbf::PingRequest(), &pong);
  EXPECT_THAT(std::string(unnamed.message()), HasSubstr("no buildid found in context"));
  EXPECT_EQ(Call(&pbf::LLBBridge::Stub::Ping, "b2", pbf::PingRequest(), &pong),
            absl::NotFoundError("forwarding Ping: no such job b2"));
}

TEST_F(BridgeServiceTest, PingWaitsForTheBuildAndListsCapabilities) {
  pbc::SolveRequest request;
  request.set_ref("late");
  // The call may come before its build does.
  auto ping = std::async(std::launch::async, [this] {
    pbf::PongResponse pong;
    absl::Status status;
    do {
      status = Call(&pbf::LLBBridge::Stub::Ping, "late", pbf::PingRequest(), &pong);
    } while (absl::IsNotFound(status));
    EXPECT_EQ(status, absl::OkStatus());
    return pong;
  });
  auto solve = StartSolve(request);
  const pbf::PongResponse pong = ping.get();
  std::vector<std::string> frontend, llb;
  for (const auto& cap : pong.frontendapicaps()) {
    frontend.push_back(cap.id());
    EXPECT_TRUE(cap.enabled());
    EXPECT_EQ(cap.deprecated(), cap.id() == "solve.inlinereturn");
  }
  for (const auto& cap : pong.llbcaps()) llb.push_back(cap.id());
  EXPECT_TRUE(std::is_sorted(frontend.begin(), frontend.end()));
  EXPECT_TRUE(std::is_sorted(llb.begin(), llb.end()));
  EXPECT_THAT(frontend, testing::IsSupersetOf({"solve.base", "return", "returnmap", "readfile",
                                               "proto.refarray", "gateway.evaluate"}));
  EXPECT_THAT(llb, testing::IsSupersetOf({"file.base", "exec.meta.base", "source.local", "mergeop",
                                          "diffop", "platform"}));
  EXPECT_THAT(frontend, testing::Contains("gateway.exec"));
  EXPECT_THAT(llb, testing::Not(testing::Contains("exec.meta.network.proxy")));
  ASSERT_EQ(pong.workers_size(), 1);
  EXPECT_FALSE(pong.workers(0).has_buildkitversion());
  EXPECT_EQ(pong.workers(0).gcpolicy_size(), 0);
  EXPECT_EQ(Return("late", pbf::Result()), absl::OkStatus());
  EXPECT_EQ(solve.get().first, absl::OkStatus());
}

TEST_F(BridgeServiceTest, SolveIsLazy) {
  const std::string ref = AddRef("b1", "op");
  EXPECT_EQ(evaluated_, 0);
  pbf::EvaluateRequest evaluate;
  evaluate.set_ref(ref);
  pbf::EvaluateResponse done;
  EXPECT_EQ(Ask(&pbf::LLBBridge::Stub::Evaluate, evaluate, &done), absl::OkStatus());
  EXPECT_EQ(Ask(&pbf::LLBBridge::Stub::Evaluate, evaluate, &done), absl::OkStatus());
  EXPECT_EQ(evaluated_, 1);

  pbf::SolveRequest at_once;
  at_once.set_evaluate(true);
  at_once.mutable_definition()->add_def("op");
  pbf::SolveResponse old_form;
  EXPECT_EQ(Ask(&pbf::LLBBridge::Stub::Solve, at_once, &old_form), absl::OkStatus());
  EXPECT_EQ(evaluated_, 2);
  EXPECT_FALSE(old_form.ref().empty());
  EXPECT_FALSE(old_form.has_result());
}

TEST_F(BridgeServiceTest, EmptyDefinitionIsAnEmptyRef) {
  pbf::SolveRequest request;
  request.set_allowresultreturn(true);
  request.set_allowresultarrayref(true);
  request.mutable_definition();
  pbf::SolveResponse response;
  EXPECT_EQ(Ask(&pbf::LLBBridge::Stub::Solve, request, &response), absl::OkStatus());
  ASSERT_TRUE(response.result().has_ref());
  EXPECT_EQ(response.result().ref().id(), "");
}

TEST_F(BridgeServiceTest, UnknownFrontendsAreRefusedByName) {
  pbf::SolveRequest request;
  pbf::SolveResponse response;
  request.set_frontend("x");
  EXPECT_EQ(Ask(&pbf::LLBBridge::Stub::Solve, request, &response),
            absl::UnknownError("invalid frontend: x"));
  request.mutable_definition()->add_def("op");
  EXPECT_EQ(Ask(&pbf::LLBBridge::Stub::Solve, request, &response),
            absl::UnknownError("cannot solve with both Definition and Frontend specified"));
}

// A forwarded frontend, as buildx runs it: its refs belong to the caller's build afterwards.
TEST_F(BridgeServiceTest, RunsAFrontendForTheClient) {
  AddFrontend("two", [](FrontendClient& client) -> absl::StatusOr<BridgeResult> {
    pb::Definition definition;
    definition.add_def(client.opts().at("op"));
    FrontendClient::Solve solve;
    solve.definition = definition.SerializeAsString();
    KILN_ASSIGN_OR_RETURN(const BridgeResult one, client.SolveGraph(solve));
    BridgeResult result;
    result.is_map = true;
    result.refs = {{"linux/amd64", one.ref}, {"linux/arm64", ""}};
    result.metadata["note"] = std::string("\0\xff", 2);
    return result;
  });
  std::ofstream(tree_.File("f")) << "text";
  pbf::SolveRequest request;
  request.set_frontend("two");
  request.set_allowresultreturn(true);
  request.set_allowresultarrayref(true);
  (*request.mutable_frontendopt())["op"] = "the op";
  pbf::SolveResponse response;
  ASSERT_EQ(Ask(&pbf::LLBBridge::Stub::Solve, request, &response), absl::OkStatus());
  EXPECT_EQ(evaluated_, 0);
  EXPECT_EQ(response.result().metadata().at("note"), std::string("\0\xff", 2));
  const auto& refs = response.result().refs().refs();
  ASSERT_EQ(refs.size(), 2u);
  EXPECT_EQ(refs.at("linux/amd64").def().def(0), "the op");
  EXPECT_EQ(refs.at("linux/arm64").id(), "");
  pbf::ReadFileRequest read;
  read.set_ref(refs.at("linux/amd64").id());
  read.set_filepath("f");
  pbf::ReadFileResponse file;
  EXPECT_EQ(Ask(&pbf::LLBBridge::Stub::ReadFile, read, &file), absl::OkStatus());
  EXPECT_EQ(file.data(), "text");

  request.set_evaluate(true);
  ASSERT_EQ(Ask(&pbf::LLBBridge::Stub::Solve, request, &response), absl::OkStatus());
  EXPECT_EQ(evaluated_, 2);
  request.set_allowresultreturn(false);
  EXPECT_EQ(Ask(&pbf::LLBBridge::Stub::Solve, request, &response).code(),
            absl::StatusCode::kUnknown);
}

// What its trees will need is under way before the client asks for them; nothing is built.
TEST_F(BridgeServiceTest, AnswerOfAFrontendIsBegun) {
  AddFrontend("two", [](FrontendClient& client) -> absl::StatusOr<BridgeResult> {
    BridgeResult result;
    result.is_map = true;
    for (const char* op : {"op1", "op2"}) {
      pb::Definition definition;
      definition.add_def(op);
      FrontendClient::Solve solve;
      solve.definition = definition.SerializeAsString();
      KILN_ASSIGN_OR_RETURN(const BridgeResult made, client.SolveGraph(solve));
      client.Prefetch(made.ref);
      result.refs[op] = made.ref;
    }
    return result;
  });
  pbf::SolveRequest request;
  request.set_frontend("two");
  request.set_allowresultreturn(true);
  request.set_allowresultarrayref(true);
  pbf::SolveResponse response;
  ASSERT_EQ(Ask(&pbf::LLBBridge::Stub::Solve, request, &response), absl::OkStatus());
  std::vector<std::pair<std::string, bool>> begun;
  for (const bool run : {true, false}) {  // by the frontend, by its caller
    for (const char* op : {"op1", "op2"}) {
      pb::Definition definition;
      definition.add_def(op);
      begun.emplace_back(definition.SerializeAsString(), run);
    }
  }
  EXPECT_EQ(solver_.Fake("b1")->begun(), begun);
  EXPECT_EQ(evaluated_, 0);
}

// Knows every image but one.
class FakeImages : public ImageResolver {
 public:
  explicit FakeImages(const Digest& digest) : digest_(digest) {}
  absl::Status ResolveAhead(const std::string& reference, solver::JobValues&,
                            const CancelToken& cancel) override {
    if (reference == "slow") return cancel.SleepFor(absl::Minutes(5));
    return absl::NotFoundError(reference);
  }
  absl::StatusOr<ResolvedImage> Resolve(const ImageQuery& query, solver::JobValues* job,
                                        const CancelToken&) override {
    if (query.reference == "docker.io/library/none:latest")
      return absl::NotFoundError("no such image");
    EXPECT_EQ(query.platform, "linux/arm64/v8");
    EXPECT_NE(job, nullptr);
    ResolvedImage image{"docker.io/library/b:1", digest_, query.no_config ? "" : "{}"};
    if (query.attestation_chain) {
      auto chain = std::make_shared<AttestationChain>();
      chain->root = digest_;
      chain->image_manifest = Digest::Of("image");
      for (const std::string& type : query.predicate_types)
        chain->blobs[Digest::Of(type)] = {{"t", Digest::Of(type), 0, {{"a", "b"}}}, type};
      image.attestations = std::move(chain);
    }
    return image;
  }

 private:
  const Digest digest_;
};

// A frontend that ends does not wait for what it had asked for ahead.
TEST_F(BridgeServiceTest, ImagesAheadAreToldUnlessTheFrontendEnds) {
  FakeImages images(Digest::Of("x"));
  parts_.images = &images;
  absl::Notification told;
  absl::Status outcome;
  std::atomic<bool> told_late = false;
  AddFrontend("ahead", [&](FrontendClient& client) -> absl::StatusOr<BridgeResult> {
    client.ResolveAhead("slow", [&](const absl::Status&) { told_late = true; });
    client.ResolveAhead("gone", [&](const absl::Status& status) {
      outcome = status;
      told.Notify();
    });
    told.WaitForNotification();
    return BridgeResult();
  });
  pbf::SolveRequest request;
  request.set_frontend("ahead");
  request.set_allowresultreturn(true);
  pbf::SolveResponse response;
  ASSERT_EQ(Ask(&pbf::LLBBridge::Stub::Solve, request, &response), absl::OkStatus());
  EXPECT_EQ(outcome, absl::NotFoundError("gone"));
  EXPECT_FALSE(told_late);
}

// Go's client reads the ref of each without asking whether it is there (wire.md 4.3).
TEST_F(BridgeServiceTest, AttestationsAlwaysHaveARefAndAreEvaluated) {
  AddFrontend("attesting", [](FrontendClient& client) -> absl::StatusOr<BridgeResult> {
    pb::Definition definition;
    definition.add_def("op");
    FrontendClient::Solve solve;
    solve.definition = definition.SerializeAsString();
    KILN_ASSIGN_OR_RETURN(const BridgeResult made, client.SolveGraph(solve));
    BridgeResult result;
    result.attestations["p"] = {BridgeAttestation{"", {}}, BridgeAttestation{made.ref, {}}};
    return result;
  });
  pbf::SolveRequest request;
  request.set_frontend("attesting");
  request.set_evaluate(true);
  request.set_allowresultreturn(true);
  request.set_allowresultarrayref(true);
  pbf::SolveResponse response;
  ASSERT_EQ(Ask(&pbf::LLBBridge::Stub::Solve, request, &response), absl::OkStatus());
  EXPECT_EQ(evaluated_, 1);
  const auto& list = response.result().attestations().at("p");
  ASSERT_EQ(list.attestation_size(), 2);
  EXPECT_TRUE(list.attestation(0).has_ref());
  EXPECT_EQ(list.attestation(0).ref().id(), "");
  EXPECT_EQ(list.attestation(1).ref().def().def(0), "op");
}

TEST_F(BridgeServiceTest, ResolvesImagesAsAStep) {
  const Digest digest = Digest::Of("index");
  FakeImages images(digest);
  parts_.images = &images;
  pbf::ResolveImageConfigRequest request;
  request.set_ref("docker.io/library/a:1");
  request.set_logname("[internal] load metadata for a");
  request.mutable_platform()->set_os("linux");
  request.mutable_platform()->set_architecture("arm64");
  request.mutable_platform()->set_variant("v8");
  pbf::ResolveImageConfigResponse response;
  ASSERT_EQ(Ask(&pbf::LLBBridge::Stub::ResolveImageConfig, request, &response), absl::OkStatus());
  EXPECT_EQ(response.digest(), digest.ToString());
  EXPECT_EQ(response.ref(), "docker.io/library/b:1");
  pbf::ResolveSourceMetaRequest meta;
  meta.mutable_source()->set_identifier("docker-image://docker.io/library/a:1");
  *meta.mutable_platform() = request.platform();
  meta.mutable_image()->set_noconfig(true);
  pbf::ResolveSourceMetaResponse answer;
  ASSERT_EQ(Ask(&pbf::LLBBridge::Stub::ResolveSourceMeta, meta, &answer), absl::OkStatus());
  EXPECT_EQ(answer.source().identifier(), "docker-image://docker.io/library/b:1");
  EXPECT_EQ(answer.image().digest(), digest.ToString());
  EXPECT_EQ(answer.image().config(), "");
  EXPECT_FALSE(answer.image().has_attestationchain());
  // Asking for statements asks for the chain.
  meta.mutable_image()->add_resolveattestations("https://slsa.dev/provenance/v1");
  answer.Clear();
  ASSERT_EQ(Ask(&pbf::LLBBridge::Stub::ResolveSourceMeta, meta, &answer), absl::OkStatus());
  const auto& chain = answer.image().attestationchain();
  EXPECT_EQ(chain.root(), digest.ToString());
  EXPECT_EQ(chain.imagemanifest(), Digest::Of("image").ToString());
  EXPECT_EQ(chain.attestationmanifest(), "");
  ASSERT_EQ(chain.blobs_size(), 1);
  const std::string statement = "https://slsa.dev/provenance/v1";
  const auto& blob = chain.blobs().at(Digest::Of(statement).ToString());
  EXPECT_EQ(blob.data(), statement);
  EXPECT_EQ(blob.blob_descriptor().digest(), Digest::Of(statement).ToString());
  EXPECT_EQ(blob.blob_descriptor().size(), static_cast<int64_t>(statement.size()));
  EXPECT_EQ(blob.blob_descriptor().annotations().at("a"), "b");
  request.set_ref("docker.io/library/none:latest");
  EXPECT_EQ(Ask(&pbf::LLBBridge::Stub::ResolveImageConfig, request, &response),
            absl::UnknownError("no such image"));
  bool ended = false;
  std::vector<std::string> names;
  for (const auto& event : solver_.Fake("b1")->log().Read(0, 100, &ended))
    if (const auto* vertex = std::get_if<solver::VertexUpdate>(event.get()))
      if (vertex->completed != absl::InfinitePast()) names.push_back(vertex->name);
  EXPECT_THAT(names,
              testing::ElementsAre("[internal] load metadata for a",
                                   "resolve image config for docker-image://docker.io/library/a:1",
                                   "resolve image config for docker-image://docker.io/library/a:1",
                                   "[internal] load metadata for a"));
}

TEST_F(BridgeServiceTest, ReadsFilesOfARef) {
  std::ofstream(tree_.File("f")) << "0123456789";
  std::filesystem::create_directory(tree_.File("d"));
  std::filesystem::create_symlink("/f", tree_.File("link"));
  std::filesystem::create_symlink("../../../../etc/passwd", tree_.File("out"));
  const std::string ref = AddRef("b1", "op");

  pbf::ReadFileRequest read;
  read.set_ref(ref);
  read.set_filepath("link");
  pbf::ReadFileResponse file;
  EXPECT_EQ(Ask(&pbf::LLBBridge::Stub::ReadFile, read, &file), absl::OkStatus());
  EXPECT_EQ(file.data(), "0123456789");
  read.mutable_range()->set_offset(4);
  read.mutable_range()->set_length(3);
  EXPECT_EQ(Ask(&pbf::LLBBridge::Stub::ReadFile, read, &file), absl::OkStatus());
  EXPECT_EQ(file.data(), "456");
  read.set_filepath("d");
  EXPECT_THAT(std::string(Ask(&pbf::LLBBridge::Stub::ReadFile, read, &file).message()),
              HasSubstr("d is not a regular file"));
  for (const char* missing : {"nothing", "out"}) {
    read.set_filepath(missing);
    EXPECT_THAT(std::string(Ask(&pbf::LLBBridge::Stub::ReadFile, read, &file).message()),
                testing::EndsWith("no such file or directory"));
  }

  pbf::ReadDirRequest list;
  list.set_ref(ref);
  list.set_dirpath("/");
  list.set_includepattern("l*");
  pbf::ReadDirResponse entries;
  EXPECT_EQ(Ask(&pbf::LLBBridge::Stub::ReadDir, list, &entries), absl::OkStatus());
  ASSERT_EQ(entries.entries_size(), 1);
  EXPECT_EQ(entries.entries(0).path(), "link");
  EXPECT_EQ(entries.entries(0).linkname(), "/f");

  pbf::StatFileRequest stat;
  stat.set_ref(ref);
  stat.set_path("link");
  pbf::StatFileResponse found;
  EXPECT_EQ(Ask(&pbf::LLBBridge::Stub::StatFile, stat, &found), absl::OkStatus());
  EXPECT_EQ(found.stat().path(), "f");
  EXPECT_EQ(found.stat().size(), 10);
  EXPECT_EQ(evaluated_, 1);
}

TEST_F(BridgeServiceTest, UnknownRefsAreNamed) {
  pbf::ReadFileRequest read;
  read.set_ref("nope");
  pbf::ReadFileResponse file;
  EXPECT_THAT(std::string(Ask(&pbf::LLBBridge::Stub::ReadFile, read, &file).message()),
              HasSubstr("no such ref: nope, all ["));
  pbf::Result result;
  result.mutable_ref()->set_id("nope");
  EXPECT_EQ(Return("b1", result), absl::NotFoundError("return reference nope not found"));
}

TEST_F(BridgeServiceTest, ReturnTakesOneOfTwoOnce) {
  pbf::ReturnResponse response;
  EXPECT_EQ(Ask(&pbf::LLBBridge::Stub::Return, pbf::ReturnRequest(), &response),
            absl::InvalidArgumentError("gateway return must be either result or err"));
  EXPECT_EQ(Return("b1", pbf::Result()), absl::OkStatus());
  const absl::Status second = Return("b1", pbf::Result());
  EXPECT_FALSE(second.ok());
}

TEST_F(BridgeServiceTest, MalformedAnswersAreNone) {
  pbf::Result bad;
  (*bad.mutable_attestations())["p"].add_attestation()->add_intotosubjects()->add_digest("x");
  EXPECT_EQ(Return("b1", bad).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Return("b1", pbf::Result()), absl::OkStatus());
}

TEST_F(BridgeServiceTest, WarningsOfNoVertexAreDropped) {
  pbf::WarnRequest warning;
  warning.set_digest("of nothing");
  pbf::WarnResponse response;
  EXPECT_EQ(Ask(&pbf::LLBBridge::Stub::Warn, warning, &response), absl::OkStatus());
}

// What a link means depends on the container's other mounts (wire.md 4.5).
TEST_F(BridgeServiceTest, LinksOutOfAMountAreToldAsThemselves) {
  std::ofstream(tree_.File("f")) << "0123456789";
  std::filesystem::create_directory(tree_.File("d"));
  const std::vector<std::pair<const char*, const char*>> links = {
      {"inner", "d/../f"}, {"d/up", "../f"},        {"chain", "d/up"}, {"absolute", "/f"},
      {"out", "../f"},     {"d/out", "../../../f"}, {"loop", "loop"},  {"nowhere", "none"}};
  for (const auto& [name, target] : links)
    std::filesystem::create_symlink(target, tree_.File(name));
  for (const char* name : {"inner", "d/up", "chain", "f"}) {
    const auto stat = StatMountFile({tree_.path()}, name);
    ASSERT_TRUE(stat.ok()) << stat.status();
    EXPECT_EQ(stat->size, 10) << name;
    EXPECT_EQ(stat->linkname, "") << name;
  }
  EXPECT_EQ(StatMountFile({tree_.path()}, "/chain")->path, "chain");
  EXPECT_EQ(StatMountFile({tree_.path()}, "absolute")->linkname, "/f");
  EXPECT_EQ(StatMountFile({tree_.path()}, "out")->linkname, "../f");
  EXPECT_EQ(StatMountFile({tree_.path()}, "d/out")->linkname, "../../../f");
  EXPECT_THAT(std::string(StatMountFile({tree_.path()}, "loop").status().message()),
              HasSubstr("too many levels of symbolic links"));
  EXPECT_TRUE(absl::IsNotFound(StatMountFile({tree_.path()}, "nowhere").status()));
}

TEST_F(BridgeServiceTest, InputsAndSourceMeta) {
  pbf::InputsResponse inputs;
  EXPECT_EQ(Ask(&pbf::LLBBridge::Stub::Inputs, pbf::InputsRequest(), &inputs), absl::OkStatus());
  EXPECT_TRUE(inputs.definitions().contains("ctx"));
  pbf::ResolveSourceMetaRequest request;
  pbf::ResolveSourceMetaResponse response;
  EXPECT_EQ(Ask(&pbf::LLBBridge::Stub::ResolveSourceMeta, request, &response),
            absl::UnknownError("source is required"));
  request.mutable_source()->set_identifier("local://x");
  EXPECT_EQ(Ask(&pbf::LLBBridge::Stub::ResolveSourceMeta, request, &response), absl::OkStatus());
  EXPECT_EQ(response.source().identifier(), "local://x");
  // What a checksum cannot be of is refused before anybody is asked for the file.
  request.mutable_source()->set_identifier("http://127.0.0.1:1/f");
  request.mutable_http()->mutable_checksumrequest()->set_suffix(std::string(4097, 's'));
  EXPECT_EQ(Ask(&pbf::LLBBridge::Stub::ResolveSourceMeta, request, &response),
            absl::UnknownError("http checksum request suffix exceeds max size 4096"));
  request.mutable_http()->mutable_checksumrequest()->set_suffix("s");
  request.mutable_http()->mutable_checksumrequest()->set_algo(
      static_cast<pbf::ChecksumRequest::ChecksumAlgo>(7));
  EXPECT_EQ(Ask(&pbf::LLBBridge::Stub::ResolveSourceMeta, request, &response),
            absl::UnknownError("unsupported checksum algorithm 7"));
}

TEST_F(BridgeServiceTest, ContainersNeedARuntimeAndABuild) {
  pbf::NewContainerResponse container;
  const absl::Status status =
      Ask(&pbf::LLBBridge::Stub::NewContainer, pbf::NewContainerRequest(), &container);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no OCI runtime"));
  grpc::ClientContext context;
  auto stream = bridge_stub_->ExecProcess(&context);
  pbf::ExecMessage message;
  EXPECT_FALSE(stream->Read(&message));
  EXPECT_EQ(FromGrpc(stream->Finish()),
            absl::InvalidArgumentError("forwarding ExecProcess: no buildid found in context"));
}

}  // namespace
}  // namespace kiln::daemon
