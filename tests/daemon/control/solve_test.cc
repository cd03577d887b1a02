#include <gmock/gmock.h>

#include <chrono>
#include <thread>

#include "daemon/control/status_stream.h"
#include "proto/status_details.h"
#include "tests/daemon/control/control_fixture.h"

namespace kiln::daemon {
namespace {

using testing::HasSubstr;

class SolveTest : public ControlFixture {
 protected:
  using ControlFixture::ControlFixture;
  static pbc::SolveRequest Request(const std::string& ref) {
    pbc::SolveRequest request;
    request.set_ref(ref);
    request.set_session("s1");
    return request;
  }

  struct Told {
    absl::Status status;
    std::vector<pbc::StatusResponse> messages;
    bool has_clock = false;
  };
  Told ReadStatus(const std::string& ref) {
    grpc::ClientContext context;
    pbc::StatusRequest request;
    request.set_ref(ref);
    auto reader = control_stub_->Status(&context, request);
    reader->WaitForInitialMetadata();
    Told told;
    told.has_clock = context.GetServerInitialMetadata().count(kTimestampHeader) == 1;
    pbc::StatusResponse message;
    while (reader->Read(&message)) told.messages.push_back(message);
    told.status = FromGrpc(reader->Finish());
    return told;
  }
};

TEST_F(SolveTest, ClientDrivenBuildIsExported) {
  TempDir tree;
  solver_.build = [&](const std::string& definition, const CancelToken&) {
    pb::Definition proto;
    EXPECT_TRUE(proto.ParseFromString(definition));
    EXPECT_EQ(proto.def(0), "op");
    return MakeResult(std::make_shared<FolderRef>(tree.path()));
  };
  pbc::SolveRequest request = Request("b1");
  // New clients fill both forms with the same exporter: it must run once.
  request.set_exporterdeprecated("memory");
  request.add_exporters()->set_type("memory");
  (*request.mutable_frontendattrs())["build-arg:SOURCE_DATE_EPOCH"] = "42";
  auto solve = StartSolve(request);
  const std::string ref = AddRef("b1", "op");
  pbf::Result result;
  result.mutable_ref()->set_id(ref);
  (*result.mutable_metadata())["frontend.note"] = "n";
  (*result.mutable_metadata())["other"] = "o";
  EXPECT_EQ(Return("b1", result), absl::OkStatus());
  const auto [status, response] = solve.get();
  ASSERT_EQ(status, absl::OkStatus());
  EXPECT_EQ(response.exporterresponse().at("exported"), "yes");
  EXPECT_EQ(response.exporterresponse().at("frontend.note"), "n");
  EXPECT_FALSE(response.exporterresponse().contains("other"));
  MutexLock lock(&exported_.mu);
  ASSERT_EQ(exported_.sources.size(), 1u);
  EXPECT_EQ(exported_.sources[0].ref->id(), tree.path());
  EXPECT_EQ(exported_.sources[0].metadata.at("other"), "o");
  EXPECT_EQ(exported_.sessions[0], "s1");
  EXPECT_EQ(exported_.attrs.at("source-date-epoch"), "42");
}

// The capability probe of buildx.
TEST_F(SolveTest, EmptyResult) {
  pbc::SolveRequest request = Request("b1");
  request.set_internal(true);
  auto solve = StartSolve(request);
  pbf::Result result;
  result.mutable_ref();
  EXPECT_EQ(Return("b1", result), absl::OkStatus());
  EXPECT_EQ(solve.get().first, absl::OkStatus());
}

TEST_F(SolveTest, MapOfPlatforms) {
  pbc::SolveRequest request = Request("b1");
  request.add_exporters()->set_type("memory");
  auto solve = StartSolve(request);
  pbf::Result result;
  (*result.mutable_refs()->mutable_refs())["linux/arm64"].set_id(AddRef("b1", "op"));
  (*result.mutable_refs()->mutable_refs())["linux/amd64"];
  (*result.mutable_metadata())["refs.platforms"] =
      R"({"Platforms":[{"ID":"linux/arm64","Platform":{"os":"linux"}},{"ID":"linux/amd64"}]})";
  EXPECT_EQ(Return("b1", result), absl::OkStatus());
  EXPECT_EQ(solve.get().first, absl::OkStatus());
  MutexLock lock(&exported_.mu);
  ASSERT_EQ(exported_.sources.size(), 1u);
  EXPECT_TRUE(exported_.sources[0].is_map);
  EXPECT_EQ(exported_.sources[0].refs.size(), 2u);
  ASSERT_EQ(exported_.sources[0].platforms.size(), 2u);
  EXPECT_EQ(exported_.sources[0].platforms[0].id, "linux/arm64");
}

TEST_F(SolveTest, DefinitionInTheRequestNeedsNoFrontend) {
  int built = 0;
  solver_.build = [&](const std::string&, const CancelToken&) {
    ++built;
    return absl::StatusOr<solver::ResultPtr>(nullptr);
  };
  pbc::SolveRequest request = Request("b1");
  request.mutable_definition()->add_def("op");
  EXPECT_EQ(StartSolve(request).get().first, absl::OkStatus());
  EXPECT_EQ(built, 1);
  // Present but empty is not the client-driven case either: it is the empty tree.
  request = Request("b2");
  request.mutable_definition();
  EXPECT_EQ(StartSolve(request).get().first, absl::OkStatus());
  EXPECT_EQ(built, 1);
}

TEST_F(SolveTest, CacheImportIsToldAndDoesNotFailTheBuild) {
  pbc::SolveRequest request = Request("b1");
  request.mutable_definition();
  auto* entry = request.mutable_cache()->add_imports();
  entry->set_type("registry");
  (*entry->mutable_attrs())["ref"] = "example.com/cache";
  EXPECT_EQ(StartSolve(request).get().first, absl::OkStatus());
  std::string name, error;
  for (const auto& message : ReadStatus("b1").messages) {
    for (const auto& vertex : message.vertexes()) {
      name = vertex.name();
      error = vertex.error();
    }
  }
  EXPECT_EQ(name, "importing cache manifest from example.com/cache");
  EXPECT_THAT(error, HasSubstr("registry"));
}

TEST_F(SolveTest, ErrorsOfTheClientComeBackWhole) {
  auto solve = StartSolve(Request("b1"));
  absl::Status error = absl::UnknownError("failed");
  AddVertexDetail("sha256:aa", &error);
  AddDetail("example.com/own+json", R"({ "x":1})", &error);
  pbf::ReturnRequest request;
  request.mutable_error()->ParseFromString(SerializeStatus(error));
  pbf::ReturnResponse response;
  EXPECT_EQ(Call(&pbf::LLBBridge::Stub::Return, "b1", request, &response), absl::OkStatus());
  EXPECT_EQ(solve.get().first, error);
}

TEST_F(SolveTest, FailureOfAStepFailsTheBuildWithDetails) {
  absl::Status error = absl::UnknownError("process failed");
  AddExitDetail(3, &error);
  solver_.build = [&](const std::string&, const CancelToken&) { return error; };
  pbc::SolveRequest request = Request("b1");
  request.add_exporters()->set_type("memory");
  auto solve = StartSolve(request);
  pbf::Result result;
  result.mutable_ref()->set_id(AddRef("b1", "op"));
  EXPECT_EQ(Return("b1", result), absl::OkStatus());
  EXPECT_EQ(solve.get().first, error);
  MutexLock lock(&exported_.mu);
  EXPECT_TRUE(exported_.sources.empty());
}

TEST_F(SolveTest, Llb6_70_StatusRepliesFromTheStartAndEndsWithTheBuild) {
  auto solve = StartSolve(Request("b1"));
  auto early = std::async(std::launch::async, [this] { return ReadStatus("b1"); });
  const std::string ref = AddRef("b1", "op");  // the build is there
  solver::VertexUpdate vertex;
  vertex.digest = Digest::Of("v");
  vertex.name = "name \xff";
  vertex.started = absl::FromUnixNanos(1'500'000'000);
  solver_.Fake("b1")->log().Add(vertex);
  solver_.Fake("b1")->log().Add(
      solver::VertexLogUpdate{vertex.digest, {1, "out\n", absl::FromUnixSeconds(2)}});
  pbf::WarnRequest warn;
  warn.set_digest(vertex.digest.ToString());
  warn.set_short_("careful");
  warn.add_ranges();
  pbf::WarnResponse warned;
  EXPECT_EQ(Call(&pbf::LLBBridge::Stub::Warn, "b1", warn, &warned), absl::OkStatus());
  pbf::Result result;
  EXPECT_EQ(Return("b1", result), absl::OkStatus());
  EXPECT_EQ(solve.get().first, absl::OkStatus());

  const Told late = ReadStatus("b1");  // after the end
  for (const Told& told : {early.get(), late}) {
    EXPECT_EQ(told.status, absl::OkStatus());
    EXPECT_TRUE(told.has_clock);
    pbc::StatusResponse all;
    for (const auto& message : told.messages) all.MergeFrom(message);
    ASSERT_EQ(all.vertexes_size(), 1);
    EXPECT_EQ(all.vertexes(0).name(), "name \xff");
    EXPECT_EQ(all.vertexes(0).started().seconds(), 1);
    EXPECT_EQ(all.vertexes(0).started().nanos(), 500'000'000);
    EXPECT_FALSE(all.vertexes(0).has_completed());
    ASSERT_EQ(all.logs_size(), 1);
    EXPECT_EQ(all.logs(0).msg(), "out\n");
    ASSERT_EQ(all.warnings_size(), 1);
    EXPECT_EQ(all.warnings(0).level(), 1);
    EXPECT_TRUE(all.warnings(0).ranges(0).has_start());
    EXPECT_TRUE(all.warnings(0).ranges(0).has_end());
  }
}

TEST_F(SolveTest, ARunOfAVertexIsToldOnceInAMessage) {
  auto solve = StartSolve(Request("b1"));
  AddRef("b1", "op");  // the build is there
  solver::VertexUpdate vertex, other;
  vertex.digest = Digest::Of("v");
  other.digest = Digest::Of("other");
  FakeProgress& log = solver_.Fake("b1")->log();
  log.Add(vertex);
  log.Add(other);
  for (const int64_t second : {1, 3}) {
    vertex.started = absl::FromUnixSeconds(second);
    vertex.completed = absl::InfinitePast();
    log.Add(vertex);
    vertex.completed = absl::FromUnixSeconds(second + 1);
    log.Add(vertex);
  }
  EXPECT_EQ(Return("b1", pbf::Result()), absl::OkStatus());
  EXPECT_EQ(solve.get().first, absl::OkStatus());
  const Told late = ReadStatus("b1");
  ASSERT_EQ(late.messages.size(), 1u);
  const auto& told = late.messages[0].vertexes();
  ASSERT_EQ(told.size(), 3);
  EXPECT_EQ(told[0].digest(), other.digest.ToString());
  EXPECT_FALSE(told[0].has_started());
  for (const int run : {0, 1}) {
    EXPECT_EQ(told[run + 1].digest(), vertex.digest.ToString());
    EXPECT_EQ(told[run + 1].started().seconds(), 2 * run + 1);
    EXPECT_EQ(told[run + 1].completed().seconds(), 2 * run + 2);
  }
}

TEST_F(SolveTest, ManySmallEventsAreFewMessages) {
  const auto begin = std::chrono::steady_clock::now();
  auto solve = StartSolve(Request("b1"));
  auto reading = std::async(std::launch::async, [this] { return ReadStatus("b1"); });
  AddRef("b1", "op");  // the build is there
  constexpr int kEvents = 20000;
  solver::VertexUpdate vertex;
  for (int i = 0; i < kEvents; ++i) {
    vertex.digest = Digest::Of(std::to_string(i));
    solver_.Fake("b1")->log().Add(vertex);
  }
  EXPECT_EQ(Return("b1", pbf::Result()), absl::OkStatus());
  EXPECT_EQ(solve.get().first, absl::OkStatus());
  const Told told = reading.get();
  int events = 0, small = 0;
  for (const auto& message : told.messages) {
    events += message.vertexes_size();
    if (message.ByteSizeLong() < (64 << 10)) ++small;
  }
  EXPECT_EQ(events, kEvents);
  // One at the begin, one at the end, and one for each pause of 20 ms.
  EXPECT_LE(small, 2 + (std::chrono::steady_clock::now() - begin) / std::chrono::milliseconds(20));
}

class HastySolveTest : public SolveTest {
 protected:
  HastySolveTest() : SolveTest({absl::Milliseconds(1), absl::Milliseconds(1)}) {}
};

TEST_F(HastySolveTest, StatusOfAnUnknownBuild) {
  const Told told = ReadStatus("nobody");
  EXPECT_EQ(told.status, absl::NotFoundError("no such job nobody"));
}

TEST_F(SolveTest, LargeLogsAreCutIntoMessages) {
  auto solve = StartSolve(Request("b1"));
  AddRef("b1", "op");
  for (int i = 0; i < 24; ++i) {
    solver_.Fake("b1")->log().Add(solver::VertexLogUpdate{
        Digest::Of("v"), {1, std::string(1 << 20, 'x'), absl::FromUnixSeconds(i)}});
  }
  EXPECT_EQ(Return("b1", pbf::Result()), absl::OkStatus());
  EXPECT_EQ(solve.get().first, absl::OkStatus());
  const Told told = ReadStatus("b1");
  EXPECT_EQ(told.status, absl::OkStatus());
  size_t bytes = 0;
  for (const auto& message : told.messages) {
    EXPECT_LE(message.ByteSizeLong(), size_t{3} << 20);
    for (const auto& log : message.logs()) bytes += log.msg().size();
  }
  EXPECT_EQ(bytes, size_t{24} << 20);
}

TEST_F(SolveTest, SecondBuildWithTheSameRef) {
  auto solve = StartSolve(Request("b1"));
  AddRef("b1", "op");
  EXPECT_EQ(StartSolve(Request("b1")).get().first, absl::AlreadyExistsError("job ID b1 exists"));
  EXPECT_EQ(Return("b1", pbf::Result()), absl::OkStatus());
  EXPECT_EQ(solve.get().first, absl::OkStatus());
}

TEST_F(SolveTest, ClientThatLeavesCancelsItsBuild) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Milliseconds(100)));
  pbc::SolveResponse response;
  EXPECT_EQ(control_stub_->Solve(&context, Request("b1"), &response).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(builds_.WaitIdle(absl::Now() + absl::Seconds(20)));
}

TEST_F(SolveTest, DrainRefusesNewBuildsAndWaitsForRunningOnes) {
  auto running = StartSolve(Request("b1"));
  AddRef("b1", "op");
  builds_.Drain(absl::UnavailableError("the daemon is shutting down: new builds are refused"));
  const absl::Status refused = StartSolve(Request("b2")).get().first;
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("shutting down"));
  EXPECT_FALSE(builds_.WaitIdle(absl::Now()));
  EXPECT_EQ(Return("b1", pbf::Result()), absl::OkStatus());
  EXPECT_EQ(running.get().first, absl::OkStatus());
  EXPECT_TRUE(builds_.WaitIdle(absl::Now() + absl::Seconds(20)));
}

struct Refusal {
  const char* name;
  void (*edit)(pbc::SolveRequest*);
  absl::StatusCode code;
  const char* text;
};
class SolveRefuses : public SolveTest, public testing::WithParamInterface<Refusal> {};

TEST_P(SolveRefuses, ByName) {
  pbc::SolveRequest request = Request("b1");
  GetParam().edit(&request);
  const absl::Status status = StartSolve(request).get().first;
  EXPECT_EQ(status.code(), GetParam().code) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().text));
  EXPECT_TRUE(builds_.Running().empty());
}

INSTANTIATE_TEST_SUITE_P(
    Request, SolveRefuses,
    testing::ValuesIn<Refusal>({
        {"FrontendAndDefinition",
         [](pbc::SolveRequest* r) {
           r->set_frontend("x");
           r->mutable_definition()->add_def("op");
         },
         absl::StatusCode::kInvalidArgument,
         "cannot solve with both Definition and Frontend specified"},
        {"UnknownFrontend", [](pbc::SolveRequest* r) { r->set_frontend("x"); },
         absl::StatusCode::kUnknown, "invalid frontend: x"},
        {"UnknownExporter", [](pbc::SolveRequest* r) { r->add_exporters()->set_type("x"); },
         absl::StatusCode::kUnknown, "exporter \"x\" could not be found"},
        {"ImageExporter", [](pbc::SolveRequest* r) { r->add_exporters()->set_type("image"); },
         absl::StatusCode::kUnimplemented, "exporter \"image\""},
        {"Entitlement", [](pbc::SolveRequest* r) { r->add_entitlements("security.insecure"); },
         absl::StatusCode::kPermissionDenied,
         "granting entitlement security.insecure is not allowed by build daemon configuration"},
        {"CacheExport",
         [](pbc::SolveRequest* r) { r->mutable_cache()->add_exports()->set_type("registry"); },
         absl::StatusCode::kInvalidArgument, "unknown cache exporter: \"registry\""},
        {"CacheExportUnbuilt",
         [](pbc::SolveRequest* r) { r->mutable_cache()->add_exports()->set_type("azblob"); },
         absl::StatusCode::kUnimplemented, "remote cache of type azblob"},
        {"Version", [](pbc::SolveRequest* r) { r->set_compatibilityversion(11); },
         absl::StatusCode::kInvalidArgument, "unsupported compatibility-version 11"},
        {"NoRef", [](pbc::SolveRequest* r) { r->set_ref(""); }, absl::StatusCode::kInvalidArgument,
         "ref"},
    }),
    [](const auto& test) { return std::string(test.param.name); });

TEST(BuildTableTest, NobodyWaitsForABuildThatWasRefused) {
  BuildTable builds({absl::Hours(1), absl::Hours(1)});
  auto status = std::async(std::launch::async, [&] { return builds.Find("b1", CancelToken()); });
  auto bridge =
      std::async(std::launch::async, [&] { return builds.FindBridge("b1", CancelToken()); });
  builds.Refused("b1");
  const auto found = status.get();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, nullptr);
  EXPECT_TRUE(absl::IsNotFound(bridge.get().status()));
}

TEST_F(SolveTest, ARegistryOutOfReachIsNotADaemonOutOfReach) {
  solver_.build = [](const std::string&, const CancelToken&) -> absl::StatusOr<solver::ResultPtr> {
    absl::Status status = absl::UnavailableError("registry.test: connection refused");
    AddExitDetail(1, &status);
    return status;
  };
  auto solve = StartSolve(Request("b1"));
  pbf::Result result;
  result.mutable_ref()->set_id(AddRef("b1", "op"));
  EXPECT_EQ(Return("b1", result), absl::OkStatus());
  const absl::Status status = solve.get().first;
  EXPECT_EQ(status.code(), absl::StatusCode::kUnknown);
  EXPECT_THAT(std::string(status.message()), HasSubstr("registry.test: connection refused"));
  EXPECT_EQ(Details(status).size(), 1u) << status;
}

TEST_F(SolveTest, ARefusedBuildHasNothingToTell) {
  pbc::SolveRequest request = Request("b1");
  request.add_entitlements("security.insecure");
  EXPECT_TRUE(absl::IsPermissionDenied(StartSolve(request).get().first));
  const Told told = ReadStatus("b1");
  EXPECT_EQ(told.status, absl::OkStatus());
  EXPECT_THAT(told.messages, testing::IsEmpty());
  pbf::PongResponse pong;
  EXPECT_TRUE(absl::IsNotFound(Call(&pbf::LLBBridge::Stub::Ping, "b1", {}, &pong)));
  // The ref is not used up.
  auto solve = StartSolve(Request("b1"));
  while (builds_.Peek("b1") == nullptr) std::this_thread::yield();
  AddRef("b1", "op");
  EXPECT_EQ(Return("b1", pbf::Result()), absl::OkStatus());
  EXPECT_EQ(solve.get().first, absl::OkStatus());
}

TEST_F(SolveTest, GrantedEntitlementsReachTheJob) {
  pbc::SolveRequest request = Request("b1");
  request.add_entitlements("network.host");
  auto solve = StartSolve(request);
  AddRef("b1", "op");
  EXPECT_THAT(solver_.Fake("b1")->options().entitlements, testing::ElementsAre("network.host"));
  EXPECT_THAT(solver_.Fake("b1")->options().session_ids, testing::ElementsAre("s1"));
  EXPECT_EQ(Return("b1", pbf::Result()), absl::OkStatus());
  EXPECT_EQ(solve.get().first, absl::OkStatus());
}

TEST_F(SolveTest, HistoryTellsOfRunningBuildsAndEndsEarlyWhenAsked) {
  auto solve = StartSolve(Request("b1"));
  pbc::SolveRequest internal = Request("b2");
  internal.set_internal(true);
  auto hidden = StartSolve(internal);
  AddRef("b1", "op");
  AddRef("b2", "op");
  auto listen = [this](const std::string& ref) {
    grpc::ClientContext context;
    pbc::BuildHistoryRequest request;
    request.set_earlyexit(true);
    request.set_activeonly(true);
    request.set_ref(ref);
    auto reader = control_stub_->ListenBuildHistory(&context, request);
    reader->WaitForInitialMetadata();
    EXPECT_EQ(context.GetServerInitialMetadata().count(kTimestampHeader), 1u);
    std::vector<std::string> refs;
    pbc::BuildHistoryEvent event;
    while (reader->Read(&event)) refs.push_back(event.record().ref());
    EXPECT_TRUE(reader->Finish().ok());
    return refs;
  };
  EXPECT_THAT(listen(""), testing::ElementsAre("b1"));
  EXPECT_THAT(listen("buildx-test-history-api-feature"), testing::IsEmpty());
  EXPECT_EQ(Return("b1", pbf::Result()), absl::OkStatus());
  EXPECT_EQ(Return("b2", pbf::Result()), absl::OkStatus());
  EXPECT_EQ(solve.get().first, absl::OkStatus());
  EXPECT_EQ(hidden.get().first, absl::OkStatus());
  EXPECT_THAT(listen(""), testing::IsEmpty());
}

TEST_F(SolveTest, HistoryFollowsABuild) {
  grpc::ClientContext context;
  auto reader = control_stub_->ListenBuildHistory(&context, {});
  reader->WaitForInitialMetadata();
  pbc::SolveRequest request = Request("b1");
  request.mutable_frontendattrs()->insert({"target", "x"});
  request.mutable_frontendattrs()->insert({"cache-imports", R"([{"secret_access_key": "s"}])"});
  auto solve = StartSolve(request);
  pbc::BuildHistoryEvent event;
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.type(), pbc::STARTED);
  EXPECT_EQ(event.record().ref(), "b1");
  EXPECT_EQ(event.record().frontendattrs().at("target"), "x");
  EXPECT_FALSE(event.record().frontendattrs().contains("cache-imports"));
  EXPECT_FALSE(event.record().has_completedat());
  EXPECT_EQ(Return("b1", pbf::Result()), absl::OkStatus());
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.type(), pbc::COMPLETE);
  EXPECT_TRUE(event.record().has_completedat());
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(solve.get().first, absl::OkStatus());
}

TEST_F(SolveTest, WorkersAndInfo) {
  grpc::ClientContext context;
  pbc::ListWorkersResponse workers;
  ASSERT_TRUE(control_stub_->ListWorkers(&context, {}, &workers).ok());
  ASSERT_EQ(workers.record_size(), 1);
  EXPECT_EQ(workers.record(0).id(), "w1");
  EXPECT_EQ(workers.record(0).buildkitversion().dockerfileversion(), "1.26.0");
  EXPECT_EQ(workers.record(0).platforms(0).os(), "linux");
  grpc::ClientContext other;
  pbc::ListWorkersRequest filtered;
  filtered.add_filter("id==other");
  ASSERT_TRUE(control_stub_->ListWorkers(&other, filtered, &workers).ok());
  EXPECT_EQ(workers.record_size(), 0);
  grpc::ClientContext third;
  pbc::InfoResponse info;
  ASSERT_TRUE(control_stub_->Info(&third, {}, &info).ok());
  EXPECT_EQ(info.buildkitversion().version(), kApiVersion);
  EXPECT_EQ(info.buildkitversion().dockerfileversion(), "1.26.0");
}

}  // namespace
}  // namespace kiln::daemon
