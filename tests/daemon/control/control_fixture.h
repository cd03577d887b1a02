#pragma once

#include <grpc/grpc.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/control/control_service.h"
#include "daemon/control/worker.h"
#include "daemon/gateway/bridge_client.h"
#include "daemon/gateway/bridge_service.h"
#include "daemon/gateway/source_meta.h"
#include "daemon/ops/ref_result.h"
#include "daemon/rpc/server.h"
#include "daemon/rpc/status.h"
#include "proto/buildkit/control.grpc.pb.h"
#include "proto/buildkit/gateway.grpc.pb.h"
#include "store/blob_store.h"
#include "store/database.h"
#include "store/root.h"
#include "tests/daemon/control/fake_solver.h"
#include "tests/daemon/rpc/temp_dir.h"

namespace kiln::daemon {

namespace pbc = moby::buildkit::v1;
namespace pbf = moby::buildkit::v1::frontend;

// A tree in a plain folder.
class FolderRef : public store::Ref {
 public:
  explicit FolderRef(std::string dir) : dir_(std::move(dir)) {}
  const std::string& id() const override { return dir_; }
  absl::StatusOr<store::Layers> Materialize(const CancelToken&) const override {
    return store::Layers{dir_};
  }

 private:
  const std::string dir_;
};

// Remembers what it exported.
class RecordingExporter : public Exporter {
 public:
  struct Log {
    Mutex mu;
    std::vector<ExportSource> sources ABSL_GUARDED_BY(mu);
    std::vector<std::string> sessions ABSL_GUARDED_BY(mu);
    std::map<std::string, std::string> attrs ABSL_GUARDED_BY(mu);
  };
  explicit RecordingExporter(Log* log) : log_(log) {}
  const std::string& name() const override { return name_; }
  absl::StatusOr<ExportAnswer> Export(const ExportSource& source,
                                      const ExportContext& context) override {
    MutexLock lock(&log_->mu);
    log_->sources.push_back(source);
    log_->sessions.push_back(context.session_id);
    ExportAnswer answer;
    answer.response = {{"exported", "yes"}};
    return answer;
  }

 private:
  Log* const log_;
  const std::string name_ = "exporting to memory";
};

// A frontend that is a function.
class FunctionFrontend : public Frontend {
 public:
  using Function = std::function<absl::StatusOr<BridgeResult>(FrontendClient&)>;
  explicit FunctionFrontend(Function function) : function_(std::move(function)) {}
  absl::StatusOr<BridgeResult> Run(FrontendClient& client) override { return function_(client); }

 private:
  const Function function_;
};

// Control and LLBBridge on a real socket over a fake solver.
class ControlFixture : public testing::Test {
 protected:
  // Keeps gRPC up between tests: its shutdown may wait 10 s for a poller of its own.
  static void SetUpTestSuite() { grpc_init(); }

  // `waits`: how long calls wait for their build, which may begin late on a busy machine.
  explicit ControlFixture(BuildTable::Waits waits = {absl::Minutes(1), absl::Minutes(1)})
      : builds_(waits) {
    exporters_.Add("memory",
                   [this](const std::map<std::string, std::string>& attrs)
                       -> absl::StatusOr<std::unique_ptr<Exporter>> {
                     MutexLock lock(&exported_.mu);
                     exported_.attrs = attrs;
                     return std::make_unique<RecordingExporter>(&exported_);
                   });
    ControlDeps deps;
    deps.solve.solver = &solver_;
    deps.solve.builds = &builds_;
    deps.solve.sessions = &sessions_.registry();
    deps.solve.exporters = &exporters_;
    deps.solve.history = &history_;
    deps.solve.caches = &caches_;
    deps.solve.bridge_parts = &parts_;
    deps.solve.timers = &timers_;
    deps.solve.entitlements = {"network.host"};
    deps.session_host = &sessions_;
    deps.builds = &pool_;
    deps.calls = &pool_;
    deps.worker = [] { return WorkerRecord({"w1", "native", "host", {}, {"linux/amd64"}}); };
    control_ = MakeControlService(deps);
    parts_.frontends = &frontends_;
    parts_.worker = deps.worker;
    parts_.platforms = [] { return std::vector<std::string>{"linux/amd64"}; };
    parts_.resolve_source = MakeSourceResolver({});
    BridgeServiceDeps bridge;
    bridge.finder = &builds_;
    bridge.pool = &pool_;
    bridge.parts = &parts_;
    bridge_ = MakeBridgeService(bridge);
    RpcServerOptions options;
    options.addresses = {*ParseListenAddress("unix://" + dir_.File("k.sock"))};
    server_ = *RpcServer::Start(options, {control_.get(), bridge_.get()});
    channel_ = grpc::CreateChannel(server_->names()[0], grpc::InsecureChannelCredentials());
    control_stub_ = pbc::Control::NewStub(channel_);
    bridge_stub_ = pbf::LLBBridge::NewStub(channel_);
  }

  ~ControlFixture() override {
    builds_.CancelAll(absl::CancelledError("test is over"));
    server_->Shutdown(absl::Now() + absl::Seconds(5));
  }

  // One call of LLBBridge for a build.
  template <typename Request, typename Response>
  absl::Status Call(grpc::Status (pbf::LLBBridge::Stub::*method)(grpc::ClientContext*,
                                                                 const Request&, Response*),
                    const std::string& build, const Request& request, Response* response) {
    grpc::ClientContext context;
    if (!build.empty()) context.AddMetadata("buildkit-controlapi-buildid", build);
    return FromGrpc((bridge_stub_.get()->*method)(&context, request, response));
  }

  std::future<std::pair<absl::Status, pbc::SolveResponse>> StartSolve(pbc::SolveRequest request) {
    return std::async(std::launch::async, [this, request] {
      grpc::ClientContext context;
      pbc::SolveResponse response;
      const absl::Status status = FromGrpc(control_stub_->Solve(&context, request, &response));
      return std::make_pair(status, response);
    });
  }

  // Makes a frontend of that name known. Before any build runs.
  void AddFrontend(std::string name, FunctionFrontend::Function function) {
    made_frontends_.push_back(std::make_unique<FunctionFrontend>(std::move(function)));
    frontends_.Add(std::move(name), made_frontends_.back().get());
  }

  // Lets the build end with this result.
  absl::Status Return(const std::string& build, const pbf::Result& result) {
    pbf::ReturnRequest request;
    *request.mutable_result() = result;
    pbf::ReturnResponse response;
    return Call(&pbf::LLBBridge::Stub::Return, build, request, &response);
  }

  // A lazy ref of a definition whose only op is `name`.
  std::string AddRef(const std::string& build, const std::string& name) {
    pbf::SolveRequest request;
    request.set_allowresultreturn(true);
    request.set_allowresultarrayref(true);
    request.mutable_definition()->add_def(name);
    pbf::SolveResponse response;
    EXPECT_EQ(Call(&pbf::LLBBridge::Stub::Solve, build, request, &response), absl::OkStatus());
    EXPECT_EQ(response.result().ref().def().def_size(), 1);
    return response.result().ref().id();
  }

  // Every definition builds, and is kept in `built_`.
  void RecordBuilds() {
    solver_.build = [this](const std::string& definition, const CancelToken&) {
      MutexLock lock(&mu_);
      built_.push_back(definition);
      return MakeResult(std::make_shared<FolderRef>(dir_.path()));
    };
  }

  static std::unique_ptr<store::Database> OpenDatabase(const store::Root& root) {
    store::DatabaseOptions options;
    options.path = root.index_dir();
    options.boot_id = root.boot_id();
    auto database = *store::Database::Open(options);
    EXPECT_EQ(database->RecoveryDone(), absl::OkStatus());
    return database;
  }

  Mutex mu_;
  std::vector<std::string> built_ ABSL_GUARDED_BY(mu_);
  TempDir dir_;
  std::unique_ptr<store::Root> root_ = *store::Root::Open(dir_.File("root"));
  std::unique_ptr<store::Database> database_ = OpenDatabase(*root_);
  std::unique_ptr<store::BlobStore> blobs_ =
      *store::BlobStore::Open(root_.get(), database_.get(), {});
  BuildHistory history_{database_.get(), blobs_.get(), HistoryLimits{2, absl::ZeroDuration()}};
  FakeSolver solver_;
  SessionHost sessions_;
  FdLoop timers_{"timers"};
  ExporterTable exporters_;
  RemoteCaches caches_{CacheStores()};
  RecordingExporter::Log exported_;
  FrontendTable frontends_;
  std::vector<std::unique_ptr<FunctionFrontend>> made_frontends_;
  BridgeParts parts_;
  BuildTable builds_;
  ThreadPool pool_{"test", 32};
  std::unique_ptr<grpc::Service> control_, bridge_;
  std::unique_ptr<RpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<pbc::Control::Stub> control_stub_;
  std::unique_ptr<pbf::LLBBridge::Stub> bridge_stub_;
};

}  // namespace kiln::daemon
