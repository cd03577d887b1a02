// Build history over the wire, kept in a real store.
#include "daemon/control/history.h"

#include <gmock/gmock.h>

#include <future>

#include "proto/buildkit/ops.pb.h"
#include "proto/status_details.h"
#include "store/base/status_macros.h"
#include "tests/daemon/control/control_fixture.h"

namespace kiln::daemon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class HistoryTest : public ControlFixture {
 protected:
  HistoryTest() {
    AddFrontend("ok", [](FrontendClient& client) -> absl::StatusOr<BridgeResult> {
      const CancelToken cancel = client.cancel();
      BridgeResult result;
      result.metadata["note"] = "of the frontend";
      result.metadata["binary"] = "\xff";
      return result;
    });
    AddFrontend("bad", [](FrontendClient&) -> absl::StatusOr<BridgeResult> {
      absl::Status status = absl::UnknownError("it failed");
      AddVertexDetail("sha256:1", &status);
      return status;
    });
  }

  absl::Status Build(const std::string& ref, const std::string& frontend) {
    pbc::SolveRequest request;
    request.set_ref(ref);
    request.set_frontend(frontend);
    (*request.mutable_frontendattrs())["target"] = "t";
    request.add_exporters()->set_type("memory");
    return StartSolve(request).get().first;
  }

  std::vector<pbc::BuildHistoryEvent> List(pbc::BuildHistoryRequest request = {},
                                           absl::Status* status = nullptr) {
    request.set_earlyexit(true);
    grpc::ClientContext context;
    auto reader = control_stub_->ListenBuildHistory(&context, request);
    std::vector<pbc::BuildHistoryEvent> events;
    pbc::BuildHistoryEvent event;
    while (reader->Read(&event)) events.push_back(event);
    const absl::Status end = FromGrpc(reader->Finish());
    if (status != nullptr) {
      *status = end;
    } else {
      EXPECT_EQ(end, absl::OkStatus());
    }
    return events;
  }
  std::vector<std::string> Refs(const pbc::BuildHistoryRequest& request = {}) {
    std::vector<std::string> refs;
    for (const auto& event : List(request)) refs.push_back(event.record().ref());
    return refs;
  }

  absl::Status Update(const std::function<void(pbc::UpdateBuildHistoryRequest*)>& edit) {
    pbc::UpdateBuildHistoryRequest request;
    edit(&request);
    grpc::ClientContext context;
    pbc::UpdateBuildHistoryResponse response;
    return FromGrpc(control_stub_->UpdateBuildHistory(&context, request, &response));
  }

  std::string Blob(const std::string& digest) {
    const auto file = blobs_->OpenBlob(*Digest::Parse(digest));
    EXPECT_TRUE(file.ok()) << file.status();
    return file.ok() ? *ReadAll(file->get()) : "";
  }
};

TEST_F(HistoryTest, EndedBuildsAreKept) {
  ASSERT_EQ(Build("b1", "ok"), absl::OkStatus());
  const auto events = List();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].type(), pbc::COMPLETE);
  const pbc::BuildHistoryRecord& record = events[0].record();
  EXPECT_EQ(record.frontend(), "ok");
  EXPECT_EQ(record.frontendattrs().at("target"), "t");
  EXPECT_EQ(record.exporters(0).type(), "memory");
  EXPECT_GE(record.completedat().seconds(), record.createdat().seconds());
  EXPECT_FALSE(record.has_error());
  EXPECT_EQ(record.exporterresponse().at("note"), "of the frontend");
  EXPECT_FALSE(record.exporterresponse().contains("binary"));
  EXPECT_EQ(record.numtotalsteps(), 1);  // exporting
  EXPECT_EQ(record.numcompletedsteps(), 1);
  EXPECT_EQ(record.generation(), 1);
  EXPECT_EQ(record.logs().size(), static_cast<int64_t>(Blob(record.logs().digest()).size()));
}

// buildx reads "buildx.build.provenance" and the materials of a build from there.
TEST_F(HistoryTest, ProvenanceIsKeptOfEveryBuild) {
  solver_.build = [](const std::string&, const CancelToken&) {
    return absl::StatusOr<solver::ResultPtr>(nullptr);
  };
  pb::Op op;
  op.mutable_source()->set_identifier("docker-image://docker.io/library/base:latest@sha256:" +
                                      std::string(64, 'a'));
  pb::Op last;
  last.add_inputs()->set_digest(Digest::Of(op.SerializeAsString()).ToString());
  pb::Definition definition;
  definition.add_def(op.SerializeAsString());
  definition.add_def(last.SerializeAsString());
  AddFrontend("map", [&](FrontendClient& client) -> absl::StatusOr<BridgeResult> {
    KILN_ASSIGN_OR_RETURN(const BridgeResult solved,
                          client.SolveGraph({.definition = definition.SerializeAsString()}));
    BridgeResult result;
    result.is_map = true;
    result.refs["linux/arm64"] = solved.ref;
    result.refs["linux/amd64"] = "";
    return result;
  });
  ASSERT_EQ(Build("b1", "map"), absl::OkStatus());
  const auto events = List();
  ASSERT_EQ(events.size(), 1u);
  const auto& results = events[0].record().results();
  ASSERT_EQ(results.size(), 1u) << "an empty result was made of nothing";
  ASSERT_EQ(results.at("linux/arm64").attestations_size(), 1);
  const pbc::Descriptor& kept = results.at("linux/arm64").attestations(0);
  EXPECT_EQ(kept.media_type(), "application/vnd.in-toto+json");
  EXPECT_EQ(kept.annotations().at("in-toto.io/predicate-type"), "https://slsa.dev/provenance/v1");
  const std::string predicate = Blob(kept.digest());
  EXPECT_EQ(static_cast<size_t>(kept.size()), predicate.size());
  EXPECT_THAT(predicate, HasSubstr("\"resolvedDependencies\""));
  EXPECT_THAT(predicate, HasSubstr("pkg:docker/base@latest"));
  EXPECT_THAT(predicate, HasSubstr("\"target\"")) << "with all that is known";
}

TEST_F(HistoryTest, FailuresAreKeptWithTheirDetailsBeside) {
  EXPECT_FALSE(Build("b1", "bad").ok());
  const auto events = List();
  ASSERT_EQ(events.size(), 1u);
  const pbc::BuildHistoryRecord& record = events[0].record();
  EXPECT_EQ(record.error().code(), 2);
  EXPECT_EQ(record.error().message(), "it failed");
  EXPECT_EQ(record.error().details_size(), 0);
  const absl::Status whole = ParseStatus(Blob(record.externalerror().digest()));
  EXPECT_EQ(whole.message(), "it failed");
  EXPECT_EQ(Details(whole).size(), 2u);
}

TEST_F(HistoryTest, StatusOfAnEndedBuildIsReplayed) {
  ASSERT_EQ(Build("b1", "ok"), absl::OkStatus());
  const auto read = [this] {
    grpc::ClientContext context;
    pbc::StatusRequest request;
    request.set_ref("b1");
    auto reader = control_stub_->Status(&context, request);
    std::vector<std::string> messages;
    pbc::StatusResponse message;
    while (reader->Read(&message)) messages.push_back(message.SerializeAsString());
    EXPECT_EQ(FromGrpc(reader->Finish()), absl::OkStatus());
    return messages;
  };
  const auto live = read();
  EXPECT_FALSE(live.empty());
  builds_.Remove(builds_.Peek("b1"));
  EXPECT_EQ(read(), live);
}

TEST_F(HistoryTest, D7_PinnedRecordsOutliveTheLimit) {
  ASSERT_EQ(Build("b1", "ok"), absl::OkStatus());
  ASSERT_EQ(Update([](auto* r) {
              r->set_ref("b1");
              r->set_pinned(true);
            }),
            absl::OkStatus());
  for (const char* ref : {"b2", "b3", "b4", "b5"}) ASSERT_EQ(Build(ref, "ok"), absl::OkStatus());
  EXPECT_THAT(Refs(), ElementsAre("b1", "b4", "b5"));
  pbc::BuildHistoryRequest newest;
  newest.set_limit(1);
  EXPECT_THAT(Refs(newest), ElementsAre("b5"));
  pbc::BuildHistoryRequest one;
  one.set_ref("b4");
  EXPECT_THAT(Refs(one), ElementsAre("b4"));
  pbc::BuildHistoryRequest filtered;
  filtered.add_filter("ref==b1");
  const auto events = List(filtered);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_TRUE(events[0].record().pinned());
  EXPECT_EQ(events[0].record().generation(), 2);
  EXPECT_THAT(*blobs_->Held("history/b2"), IsEmpty());
  EXPECT_THAT(*blobs_->Held("history/b1"), testing::SizeIs(1));
}

TEST_F(HistoryTest, RecordsAreDeletedAndListenersTold) {
  ASSERT_EQ(Build("b1", "ok"), absl::OkStatus());
  grpc::ClientContext context;
  auto reader = control_stub_->ListenBuildHistory(&context, {});
  pbc::BuildHistoryEvent event;
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.type(), pbc::COMPLETE);
  for (int i = 0; i < 2; ++i)  // an unknown one is fine
    EXPECT_EQ(Update([](auto* r) {
                r->set_ref("b1");
                r->set_delete_(true);
              }),
              absl::OkStatus());
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.type(), pbc::DELETED);
  EXPECT_EQ(event.record().ref(), "b1");
  context.TryCancel();
  reader->Finish();
  EXPECT_THAT(Refs(), IsEmpty());
  EXPECT_THAT(*blobs_->Held("history/b1"), IsEmpty());
}

// The client of a build has its answer before the record is kept.
TEST_F(HistoryTest, WhoAsksForARecordWaitsUntilItIsKept) {
  auto build = std::make_shared<daemon::Build>();
  build->ref = "b1";
  build->created_at = absl::Now();
  solver::JobOptions options;
  options.id = build->ref;
  build->job = *solver_.NewJob(options);
  build->warnings = std::make_shared<WarningLog>();
  build->job->progress().End();
  std::vector<BuildHistory::EventType> told;
  const auto listen = [&] {
    return history_.Listen(
        [&told](const BuildHistory::Event& event) { told.push_back(event.type); });
  };
  history_.Started(build);
  history_.StopListening(listen());
  EXPECT_THAT(told, ElementsAre(BuildHistory::EventType::kStarted));
  BuildEnd end;
  end.completed_at = absl::Now();
  history_.Ended(build, end);
  const uint64_t listener = listen();
  EXPECT_EQ(told.size(), 1u) << "it runs no more";

  std::future<absl::StatusOr<std::string>> one =
      std::async(std::launch::async, [this] { return history_.Get("b1"); });
  std::future<absl::StatusOr<std::vector<std::string>>> all =
      std::async(std::launch::async, [this] { return history_.List(); });
  EXPECT_TRUE(absl::IsNotFound(history_.Get("b2").status())) << "of others it is known";
  history_.Keep(build, end);
  EXPECT_EQ(one.get().status(), absl::OkStatus());
  EXPECT_EQ(all.get()->size(), 1u);
  EXPECT_THAT(told,
              ElementsAre(BuildHistory::EventType::kStarted, BuildHistory::EventType::kComplete));
  history_.StopListening(listener);
}

// A daemon that was killed when its client had the answer: Keep was not called.
TEST_F(HistoryTest, EndedBuildsAreKnownToTheNextDaemon) {
  auto build = std::make_shared<daemon::Build>();
  build->ref = "b1";
  build->frontend = "f";
  build->created_at = absl::Now();
  BuildEnd end;
  end.completed_at = absl::Now();
  end.status = absl::UnknownError("it failed");
  end.roots[0] = {};
  history_.Ended(build, end);

  BuildHistory next(database_.get(), blobs_.get(), HistoryLimits());
  const auto kept = next.Get("b1");
  ASSERT_EQ(kept.status(), absl::OkStatus());
  pbc::BuildHistoryRecord record;
  ASSERT_TRUE(record.ParseFromString(*kept));
  EXPECT_EQ(record.frontend(), "f");
  EXPECT_TRUE(record.has_completedat());
  EXPECT_EQ(record.error().message(), "it failed");
  EXPECT_FALSE(record.has_result()) << "nobody holds it";
  EXPECT_EQ(next.OpenLogs("b1").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(next.Delete("b1"), absl::OkStatus());
  EXPECT_TRUE(absl::IsNotFound(next.Get("b1").status()));
}

// What may go is looked for when a record can have become too old, or is no longer pinned.
TEST_F(HistoryTest, D7_OldRecordsGoWhenTheirTimeHasCome) {
  BuildHistory history(database_.get(), blobs_.get(), HistoryLimits{2, absl::Hours(1)});
  const auto keep = [&](const std::string& ref, absl::Duration age) {
    auto build = std::make_shared<daemon::Build>();
    build->ref = ref;
    build->created_at = absl::Now() - age;
    solver::JobOptions options;
    options.id = ref;
    build->job = *solver_.NewJob(options);
    build->warnings = std::make_shared<WarningLog>();
    build->job->progress().End();
    BuildEnd end;
    end.completed_at = build->created_at;
    history.Ended(build, end);
    history.Keep(build, end);
  };
  const auto refs = [&] {
    std::set<std::string> kept;
    const auto records = history.List();
    EXPECT_EQ(records.status(), absl::OkStatus());
    for (const std::string& bytes : *records) {
      pbc::BuildHistoryRecord record;
      record.ParseFromString(bytes);
      kept.insert(record.ref());
    }
    return kept;
  };
  keep("old1", absl::Hours(3));
  keep("old2", absl::Hours(2));
  EXPECT_THAT(refs(), ElementsAre("old1", "old2")) << "few";
  EXPECT_EQ(history.SetPinned("old1", true), absl::OkStatus());
  keep("new1", absl::ZeroDuration());
  keep("new2", absl::ZeroDuration());
  EXPECT_THAT(refs(), ElementsAre("new1", "new2", "old1"));
  keep("new3", absl::ZeroDuration());
  EXPECT_THAT(refs(), ElementsAre("new1", "new2", "new3", "old1")) << "many, but not old";
  EXPECT_EQ(history.SetPinned("old1", false), absl::OkStatus());
  keep("new4", absl::ZeroDuration());
  EXPECT_THAT(refs(), ElementsAre("new1", "new2", "new3", "new4"));
}

TEST_F(HistoryTest, WhatIsNotThereIsNamed) {
  EXPECT_EQ(Update([](auto* r) { r->set_ref("x"); }).message(),
            "failed to retrieve ref x: file does not exist");
  EXPECT_EQ(Update([](auto* r) {
              r->set_ref("x");
              r->set_finalize(true);
            }),
            absl::OkStatus());
  pbc::BuildHistoryRequest request;
  request.set_limit(-1);
  absl::Status status;
  List(request, &status);
  EXPECT_EQ(status.message(), "invalid limit -1");
  request.set_limit(0);
  request.add_filter("duration>x");
  List(request, &status);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace kiln::daemon
