// Exporters that the client chooses when the build is done.
#include <gmock/gmock.h>

#include "proto/buildkit/exporter.grpc.pb.h"
#include "tests/daemon/control/control_fixture.h"
#include "tests/daemon/session/session_client.h"

namespace kiln::daemon {
namespace {

namespace pbe = moby::exporter::v1;
using testing::ElementsAre;
using testing::SizeIs;

class ChosenExporters : public pbe::Exporter::Service {
 public:
  std::string type = "memory";
  grpc::Status find, finalize;
  pbe::FindExportersRequest seen;
  std::map<std::string, std::string> finalized;

 private:
  grpc::Status FindExporters(grpc::ServerContext*, const pbe::FindExportersRequest* request,
                             pbe::FindExportersResponse* response) override {
    seen = *request;
    pbe::ExporterRequest& exporter = *response->add_exporters();
    exporter.set_type(type);
    (*exporter.mutable_attrs())["compression"] = "zstd";
    return find;
  }
  grpc::Status FinalizeExport(grpc::ServerContext*, const pbe::FinalizeExportRequest* request,
                              pbe::FinalizeExportResponse*) override {
    finalized = {request->exporter_response().begin(), request->exporter_response().end()};
    return finalize;
  }
};

class SessionExporterTest : public ControlFixture {
 protected:
  SessionExporterTest() {
    solver_.build = [this](const std::string&, const CancelToken&) {
      return MakeResult(std::make_shared<FolderRef>(dir_.path()));
    };
  }
  absl::Status Run(const std::string& ref, bool enabled = true) {
    pbc::SolveRequest request;
    request.set_ref(ref);
    request.set_session("s1");
    request.set_enablesessionexporter(enabled);
    request.mutable_definition()->add_def("op");
    return StartSolve(request).get().first;
  }
  size_t Exports() {
    MutexLock lock(&exported_.mu);
    return exported_.sources.size();
  }

  ChosenExporters chosen_;
};

TEST_F(SessionExporterTest, E26TheClientChoosesWhenItSeesTheResult) {
  SessionClient session(channel_, "s1", {&chosen_});
  ASSERT_EQ(Run("b1"), absl::OkStatus());
  EXPECT_EQ(Exports(), 1u);
  EXPECT_THAT(std::vector<std::string>(chosen_.seen.refs().begin(), chosen_.seen.refs().end()),
              ElementsAre(dir_.path()));
  EXPECT_EQ(chosen_.finalized.at("exported"), "yes");
  {
    MutexLock lock(&exported_.mu);
    EXPECT_EQ(exported_.attrs.at("compression"), "zstd");
  }
  ASSERT_EQ(Run("b2", false), absl::OkStatus());
  EXPECT_EQ(Exports(), 1u);
  chosen_.type = "paper";
  EXPECT_EQ(Run("b3").message(), "exporter \"paper\" could not be found");
  EXPECT_TRUE(session.Close().ok());
}

TEST_F(SessionExporterTest, E26OnlySomeErrorsOfTheClientCount) {
  SessionClient session(channel_, "s1", {&chosen_});
  int n = 0;
  for (const auto code : {grpc::StatusCode::UNIMPLEMENTED, grpc::StatusCode::UNAVAILABLE}) {
    chosen_.find = {};
    chosen_.finalize = {code, "not here"};
    EXPECT_EQ(Run(absl::StrCat("f", ++n)), absl::OkStatus());
    chosen_.find = {code, "not here"};
    EXPECT_EQ(Run(absl::StrCat("f", ++n)), absl::OkStatus());
  }
  EXPECT_EQ(Exports(), 2u);
  chosen_.find = {};
  chosen_.finalize = {grpc::StatusCode::DATA_LOSS, "torn"};
  EXPECT_EQ(Run("g1").message(), "torn");
  chosen_.find = {grpc::StatusCode::INTERNAL, "confused"};
  EXPECT_EQ(Run("g2").message(), "confused");
  EXPECT_TRUE(session.Close().ok());
}

TEST_F(SessionExporterTest, AClientWithoutTheServiceGetsNoMore) {
  SessionClient session(channel_, "s1", {});
  EXPECT_EQ(Run("b1"), absl::OkStatus());
  EXPECT_EQ(Exports(), 0u);
  EXPECT_TRUE(session.Close().ok());
}

}  // namespace
}  // namespace kiln::daemon
