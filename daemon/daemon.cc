#include "daemon/daemon.h"

#include <grp.h>
#include <grpcpp/impl/service_type.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "daemon/attest/source_pins.h"
#include "daemon/content/content_service.h"
#include "daemon/control/control_service.h"
#include "daemon/control/gc.h"
#include "daemon/control/history.h"
#include "daemon/control/worker.h"
#include "daemon/device/device_registry.h"
#include "daemon/executor/foreign_programs.h"
#include "daemon/executor/oci_executor.h"
#include "daemon/exporter/archive_exporter.h"
#include "daemon/exporter/exporter.h"
#include "daemon/exporter/image_exporter.h"
#include "daemon/exporter/image_pusher.h"
#include "daemon/exporter/image_writer.h"
#include "daemon/exporter/local_exporter.h"
#include "daemon/exporter/tar_exporter.h"
#include "daemon/frontend/dockerfile/frontend.h"
#include "daemon/frontend/frontend_table.h"
#include "daemon/frontend/gateway/gateway_frontend.h"
#include "daemon/gateway/bridge_client.h"
#include "daemon/gateway/bridge_service.h"
#include "daemon/gateway/build_container.h"
#include "daemon/gateway/source_meta.h"
#include "daemon/images/image_usage.h"
#include "daemon/images/images_service.h"
#include "daemon/ops/cache_mounts.h"
#include "daemon/ops/exec.h"
#include "daemon/ops/ref_result.h"
#include "daemon/ops/resolver.h"
#include "daemon/ops/runtime_folder.h"
#include "daemon/registry/http_registry.h"
#include "daemon/registry/image_layer_fetcher.h"
#include "daemon/registry/image_reader.h"
#include "daemon/remotecache/cache_origins.h"
#include "daemon/remotecache/gha_cache.h"
#include "daemon/remotecache/local_cache.h"
#include "daemon/remotecache/registry_cache.h"
#include "daemon/remotecache/remote_caches.h"
#include "daemon/remotecache/s3_cache.h"
#include "daemon/rpc/callback_threads.h"
#include "daemon/rpc/server.h"
#include "daemon/session/tunnel.h"
#include "daemon/source/git_source.h"
#include "daemon/source/http_source.h"
#include "daemon/source/image_blob_source.h"
#include "daemon/source/image_source.h"
#include "daemon/source/local_source.h"
#include "solver/solver.h"
#include "store/base/status_macros.h"
#include "store/base/thread_pool.h"
#include "store/blob_store.h"
#include "store/database.h"
#include "store/image_table.h"
#include "store/layer/local_layer_store.h"
#include "store/ref/local_ref_store.h"
#include "store/rocks_cache_index.h"
#include "store/root.h"

namespace kiln::daemon {

namespace {

constexpr size_t kMaxBuilds = 1024;                    // threads that wait for a running build each
constexpr size_t kMaxCalls = 512;                      // calls that block at the same time
constexpr size_t kMaxBufferedBytes = size_t{1} << 30;  // of requests that have not come whole
constexpr absl::Duration kBarrierInterval = absl::Seconds(5);
constexpr absl::Duration kCallGrace = absl::Seconds(5);
constexpr absl::Duration kCancelGrace = absl::Seconds(10);
constexpr char kHttpUserAgent[] = "kiln/0.1";

std::string DefaultRoot() {
  if (geteuid() == 0) return "/var/lib/kiln";
  const char* data = getenv("XDG_DATA_HOME");
  const char* home = getenv("HOME");
  return data != nullptr && *data != '\0'
             ? absl::StrCat(data, "/kiln")
             : absl::StrCat(home ? home : "/tmp", "/.local/share/kiln");
}

std::string DefaultAddress() {
  const char* runtime = getenv("XDG_RUNTIME_DIR");
  if (geteuid() != 0 && runtime != nullptr && *runtime != '\0')
    return absl::StrCat("unix://", runtime, "/buildkit/buildkitd.sock");
  return "unix:///run/buildkit/buildkitd.sock";
}

absl::StatusOr<gid_t> GroupId(const Config& config) {
  if (config.group.empty()) return config.gid.has_value() ? *config.gid : static_cast<gid_t>(-1);
  gid_t number = 0;
  if (absl::SimpleAtoi(config.group, &number)) return number;
  group entry;
  group* found = nullptr;
  std::string buffer(16 << 10, '\0');
  if (getgrnam_r(config.group.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 ||
      found == nullptr)
    return absl::InvalidArgumentError(absl::StrCat("--group: no group \"", config.group, "\""));
  return found->gr_gid;
}

// 0 when unknown.
int64_t DiskBytes(const std::string& path) {
  struct statvfs fs;
  if (statvfs(path.c_str(), &fs) != 0) return 0;
  return static_cast<int64_t>(fs.f_blocks) * static_cast<int64_t>(fs.f_frsize);
}

store::DriverKind Driver(const std::string& snapshotter) {
  if (snapshotter == "overlayfs") return store::DriverKind::kOverlay;
  if (snapshotter == "native") return store::DriverKind::kNative;
  return store::DriverKind::kAuto;
}

absl::StatusOr<RpcServerOptions> ServerOptions(const Config& config) {
  RpcServerOptions options;
  std::vector<std::string> addresses = config.addresses;
  if (addresses.empty()) addresses = {DefaultAddress()};
  for (const std::string& text : addresses) {
    KILN_ASSIGN_OR_RETURN(ListenAddress address, ParseListenAddress(text));
    options.addresses.push_back(std::move(address));
  }
  options.max_buffered_bytes = kMaxBufferedBytes;
  options.socket.mode = config.socket_mode;
  KILN_ASSIGN_OR_RETURN(options.socket.gid, GroupId(config));
  if (!config.tls_cert.empty())
    options.tls = TlsOptions{config.tls_cert, config.tls_key, config.tls_ca};
  return options;
}

OciExecutorOptions ExecutorOptions(const Config& config, const std::string& root) {
  OciExecutorOptions options;
  options.state_dir = root + "/executor";
  options.runtime = config.runtime_binary;
  options.cgroup_parent = config.cgroup_parent;
  options.network.mode = config.network_mode;
  if (!config.cni_config_path.empty()) options.network.cni_config_path = config.cni_config_path;
  if (!config.cni_binary_dir.empty()) options.network.cni_binary_dir = config.cni_binary_dir;
  if (!config.bridge_name.empty()) options.network.bridge_name = config.bridge_name;
  if (!config.bridge_subnet.empty()) options.network.bridge_subnet = config.bridge_subnet;
  options.dns = {config.dns_nameservers, config.dns_options, config.dns_search};
  return options;
}

}  // namespace

// In the order of creation; destroyed from the end.
struct Daemon::Parts {
  absl::Time started_at = absl::Now();
  std::unique_ptr<store::Root> root;
  std::unique_ptr<store::Database> database;
  std::unique_ptr<store::RocksCacheIndex> index;
  std::unique_ptr<store::BlobStore> blobs;
  std::unique_ptr<store::LocalRefStore> refs;
  std::unique_ptr<HttpRegistry> registry;
  std::unique_ptr<OriginSessions> origins;
  LayerProgress layer_progress;
  std::unique_ptr<ImageLayerFetcher> layer_fetcher;
  std::unique_ptr<CacheOrigins> cache_origins;
  std::unique_ptr<store::LocalLayerStore> layers;
  std::unique_ptr<store::ImageTable> images;

  SessionHost sessions;
  std::unique_ptr<ForeignPrograms> foreign;
  std::unique_ptr<OciExecutor> executor;
  absl::Status no_executor;  // why there is none
  std::unique_ptr<RuntimeFolder> runtime_folder;
  std::unique_ptr<CacheMounts> cache_mounts;
  std::unique_ptr<DeviceRegistry> devices;  // null: disabled
  std::unique_ptr<LocalSource> local_source;
  std::unique_ptr<HttpSource> http_source;
  std::unique_ptr<GitSource> git_source;
  std::unique_ptr<ImageReader> image_reader;
  std::unique_ptr<ImageSource> image_source;
  std::unique_ptr<ImageBlobSource> image_blob_source;
  SourcePins pins;
  std::unique_ptr<RefResultLoader> loader;
  std::unique_ptr<OpResolver> resolver;
  std::unique_ptr<solver::Solver> solver;
  ExporterTable exporters;
  DockerfileFrontend dockerfile_frontend;
  FrontendTable frontends;
  std::unique_ptr<GatewayFrontend> gateway_frontend;
  ContainerParts container_parts;
  BridgeParts bridge_parts;
  std::unique_ptr<ImageWriter> image_writer;
  std::unique_ptr<ImagePusher> image_pusher;
  std::unique_ptr<RemoteCaches> caches;
  BuildTable builds;
  std::unique_ptr<BuildHistory> history;
  std::unique_ptr<GarbageCollector> gc;

  // After what its callbacks use, which include builds that ended just now; before who sets timers.
  FdLoop timers{"kiln-timers"};
  std::unique_ptr<grpc::Service> control, bridge, content, image_table, stats;
  // Joined before what their work uses is gone.
  std::unique_ptr<ThreadPool> build_pool, call_pool;
  std::unique_ptr<RpcServer> server;
  std::unique_ptr<CallbackThreads> callback_threads;

  std::vector<Source*> Sources() {
    return {local_source.get(), http_source.get(), git_source.get(), image_source.get(),
            image_blob_source.get()};
  }
  absl::Status OpenStore(const Config& config);
  absl::Status OpenExecutor(const Config& config);
  void MakeSolver(const Config& config);
  void AddImageExporters();
  void MakeCaches();
  absl::Status Serve(const Config& config);
};

absl::Status Daemon::Parts::OpenStore(const Config& config) {
  KILN_ASSIGN_OR_RETURN(root, store::Root::Open(config.root.empty() ? DefaultRoot() : config.root));
  store::DatabaseOptions options;
  options.path = root->index_dir();
  options.boot_id = root->boot_id();
  options.sync_files = [this] { return root->SyncFiles(); };
  options.barrier_interval = kBarrierInterval;
  KILN_ASSIGN_OR_RETURN(database, store::Database::Open(options));
  index = std::make_unique<store::RocksCacheIndex>(database.get());
  store::LocalRefStoreOptions ref_options;
  ref_options.root = root.get();
  ref_options.database = database.get();
  ref_options.driver = Driver(config.snapshotter);
  ref_options.on_removed = [this](absl::string_view id) {
    const absl::Status status = index->Release(ResultId(id));
    if (!status.ok()) spdlog::warn("forget {}: {}", std::string(id), std::string(status.message()));
  };
  KILN_ASSIGN_OR_RETURN(blobs, store::BlobStore::Open(root.get(), database.get(), {}));
  KILN_ASSIGN_OR_RETURN(refs, store::LocalRefStore::Open(ref_options));
  HttpRegistryOptions registry_options;
  registry_options.config = config.registries;
  registry_options.user_agent = kHttpUserAgent;
  registry_options.max_concurrency = config.max_registry_concurrency;
  registry = std::make_unique<HttpRegistry>(&sessions.registry(), registry_options);
  origins = std::make_unique<OriginSessions>(&sessions.registry());
  layer_fetcher = std::make_unique<ImageLayerFetcher>(registry.get(), &sessions.registry(),
                                                      origins.get(), &layer_progress);
  store::LocalLayerStoreOptions layer_options;
  layer_options.root = root.get();
  layer_options.database = database.get();
  layer_options.refs = refs.get();
  layer_options.blobs = blobs.get();
  cache_origins = std::make_unique<CacheOrigins>(layer_fetcher.get());
  layer_options.fetcher = cache_origins.get();
  layer_options.unpacking = [this](const Digest& blob, absl::Span<const std::string> from) {
    return layer_progress.Unpacking(blob, from);
  };
  layers = std::make_unique<store::LocalLayerStore>(layer_options);
  KILN_RETURN_IF_ERROR(SweepExportLeases(*blobs));
  KILN_ASSIGN_OR_RETURN(images, store::ImageTable::Open(database.get(), blobs.get()));
  return database->RecoveryDone();
}

// Without an OCI runtime everything but RUN steps works.
absl::Status Daemon::Parts::OpenExecutor(const Config& config) {
  KILN_ASSIGN_OR_RETURN(runtime_folder, RuntimeFolder::Create(root->path() + "/runtime"));
  foreign = std::make_unique<ForeignPrograms>(root->path() + "/executor/foreign");
  auto made = OciExecutor::Create(ExecutorOptions(config, root->path()));
  if (!made.ok()) {
    if (!config.runtime_binary.empty() || !absl::IsNotFound(made.status())) return made.status();
    no_executor = Annotate(made.status(), "this daemon cannot run steps");
    spdlog::warn("{}", std::string(no_executor.message()));
    return absl::OkStatus();
  }
  executor = *std::move(made);
  cache_mounts = std::make_unique<CacheMounts>(refs.get());
  if (!config.cdi_disabled)
    devices = std::make_unique<DeviceRegistry>(config.cdi_spec_dirs, config.cdi_auto_allowed);
  return absl::OkStatus();
}

void Daemon::Parts::MakeSolver(const Config& config) {
  local_source = std::make_unique<LocalSource>(refs.get(), &sessions.registry());
  http_source = std::make_unique<HttpSource>(refs.get(), &sessions.registry(), kHttpUserAgent);
  image_reader = std::make_unique<ImageReader>(registry.get(), &sessions.registry(), origins.get());
  image_source = std::make_unique<ImageSource>(image_reader.get(), layers.get(), &layer_progress);
  image_blob_source =
      std::make_unique<ImageBlobSource>(refs.get(), registry.get(), &sessions.registry());
  git_source = std::make_unique<GitSource>(refs.get(), &sessions.registry(), runtime_folder->path(),
                                           image_blob_source.get());
  ExecOpFactory make_exec = [why = no_executor](absl::string_view, const solver::VertexInfo&) {
    return absl::StatusOr<std::shared_ptr<solver::Op>>(why);
  };
  if (executor != nullptr) {
    ExecOpDeps deps;
    deps.refs = refs.get();
    deps.executor = executor.get();
    deps.foreign = foreign.get();
    deps.sessions = &sessions.registry();
    deps.cache_mounts = cache_mounts.get();
    deps.runtime_dir = runtime_folder->path();
    deps.log_limits = LogLimits::FromEnvironment();
    deps.devices = devices.get();
    container_parts = {deps, executor.get()};
    bridge_parts.containers = &container_parts;
    make_exec = [deps](absl::string_view op, const solver::VertexInfo& vertex) {
      return MakeExecOp(deps, op, vertex);
    };
  }
  resolver = std::make_unique<OpResolver>(
      refs.get(), Sources(), make_exec,
      [this](const Digest& vertex, const std::string& pin) { pins.Record(vertex, pin); });
  loader = std::make_unique<RefResultLoader>(refs.get());
  solver::SolverOptions options;
  options.max_parallelism = config.max_parallelism;
  solver = solver::Solver::Create(options, index.get(), loader.get(), resolver.get());
  exporters.Add("local", NewLocalExporter);
  exporters.Add("tar", NewTarExporter);
  AddImageExporters();
  gc = std::make_unique<GarbageCollector>(refs.get(),
                                          GcPolicies(config.gc, DiskBytes(root->path())), &timers);
  builds.AddListener([this](const BuildPtr&, const BuildEnd* end) {
    if (end != nullptr) gc->Nudge();
  });
}

void Daemon::Parts::AddImageExporters() {
  image_writer = std::make_unique<ImageWriter>(layers.get(), blobs.get());
  image_pusher = std::make_unique<ImagePusher>(image_writer.get(), registry.get());
  for (const bool docker : {false, true}) {
    exporters.Add(docker ? "docker" : "oci",
                  [writer = image_writer.get(), docker](const auto& attrs) {
                    return NewArchiveExporter(writer, docker, attrs);
                  });
  }
  exporters.Add("image",
                [deps = ImageExporterDeps{image_writer.get(), image_pusher.get(), images.get()}](
                    const auto& attrs) { return NewImageExporter(deps, attrs); });
}

void Daemon::Parts::MakeCaches() {
  CacheStores stores;
  stores.imports = {refs.get(), layers.get(), blobs.get()};
  stores.index = index.get();
  stores.loader = loader.get();
  caches = std::make_unique<RemoteCaches>(stores);
  const RegistryCacheDeps remote = {registry.get(), image_pusher.get(), blobs.get(), origins.get()};
  caches->Add(
      "registry",
      [remote](const CacheAttrs& attrs) { return NewRegistryCacheTarget(remote, attrs); },
      [remote](const CacheAttrs& attrs) { return NewRegistryCacheSource(remote, attrs); });
  const LocalCacheDeps local = {&sessions.registry(), blobs.get(), layers.get()};
  caches->Add(
      "local", [local](const CacheAttrs& attrs) { return NewLocalCacheTarget(local, attrs); },
      [local](const CacheAttrs& attrs) { return NewLocalCacheSource(local, attrs); });
  const ObjectCacheDeps objects = {blobs.get(), layers.get(), cache_origins.get(), kHttpUserAgent};
  caches->Add(
      "s3", [objects](const CacheAttrs& attrs) { return NewS3CacheTarget(objects, attrs); },
      [objects](const CacheAttrs& attrs) { return NewS3CacheSource(objects, attrs); });
  caches->Add(
      "gha", [objects](const CacheAttrs& attrs) { return NewGhaCacheTarget(objects, attrs); },
      [objects](const CacheAttrs& attrs) { return NewGhaCacheSource(objects, attrs); });
}

absl::Status Daemon::Parts::Serve(const Config& config) {
  KILN_ASSIGN_OR_RETURN(const std::string worker_id, WorkerId(root->path()));
  const auto worker =
      [this, facts = WorkerFacts{worker_id,
                                 std::string(refs->driver().name()),
                                 executor != nullptr ? executor->default_network() : "none",
                                 config.labels,
                                 {}}] {
        WorkerFacts now = facts;
        now.platforms = WorkerPlatforms(*foreign);
        return WorkerRecord(now);
      };
  build_pool = std::make_unique<ThreadPool>("kiln-build", kMaxBuilds);
  call_pool = std::make_unique<ThreadPool>("kiln-call", kMaxCalls);

  if (config.dockerfile_frontend) frontends.Add("dockerfile.v0", &dockerfile_frontend);
  KILN_ASSIGN_OR_RETURN(AllowedSources allowed,
                        AllowedSources::Parse(config.frontend_repositories));
  gateway_frontend = std::make_unique<GatewayFrontend>(
      GatewayFrontendDeps{&bridge_parts, call_pool.get(), std::move(allowed)});
  if (config.gateway_frontend) frontends.Add("gateway.v0", gateway_frontend.get());
  bridge_parts.frontends = &frontends;
  // Images have a resolver of their own.
  bridge_parts.resolve_source =
      MakeSourceResolver({local_source.get(), http_source.get(), git_source.get()});
  bridge_parts.images = image_reader.get();
  bridge_parts.refs = refs.get();
  bridge_parts.worker = worker;
  bridge_parts.platforms = [this] { return WorkerPlatforms(*foreign); };
  ControlDeps control_deps;
  control_deps.solve.solver = solver.get();
  control_deps.solve.builds = &builds;
  control_deps.solve.sessions = &sessions.registry();
  control_deps.solve.exporters = &exporters;
  history = std::make_unique<BuildHistory>(database.get(), blobs.get(), HistoryLimits());
  control_deps.solve.history = history.get();
  control_deps.solve.caches = caches.get();
  control_deps.solve.bridge_parts = &bridge_parts;
  control_deps.solve.timers = &timers;
  control_deps.solve.pins = &pins;
  control_deps.solve.entitlements.insert(config.entitlements.begin(), config.entitlements.end());
  // Which devices there are says the administrator in files; which of them a build may have, who
  // starts it.
  control_deps.solve.devices = devices.get();
  if (devices != nullptr) control_deps.solve.entitlements.insert("device");
  control_deps.session_host = &sessions;
  control_deps.refs = refs.get();
  control_deps.image_usage = [this] { return ImageUsage(*images, *blobs); };
  control_deps.builds = build_pool.get();
  control_deps.calls = call_pool.get();
  control_deps.worker = worker;
  control_deps.devices = devices.get();
  control = MakeControlService(std::move(control_deps));

  BridgeServiceDeps bridge_deps;
  bridge_deps.finder = &builds;
  bridge_deps.pool = call_pool.get();
  bridge_deps.parts = &bridge_parts;
  bridge = MakeBridgeService(std::move(bridge_deps));
  content = MakeContentService({blobs.get(), call_pool.get()});
  image_table = MakeImagesService({images.get(), blobs.get(), image_pusher.get(), call_pool.get()});
  stats = MakeStatsService({solver.get(), &builds, &sessions.registry(), started_at});

  KILN_ASSIGN_OR_RETURN(const RpcServerOptions options, ServerOptions(config));
  KILN_ASSIGN_OR_RETURN(server, RpcServer::Start(options, {control.get(), bridge.get(), stats.get(),
                                                           content.get(), image_table.get()}));
  callback_threads = std::make_unique<CallbackThreads>(&timers, ProcessorCount());
  return absl::OkStatus();
}

Daemon::Daemon(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Daemon::~Daemon() { Shutdown(); }

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const Config& config) {
  auto parts = std::make_unique<Parts>();
  absl::Time last = parts->started_at;
  const auto told = [&last](const char* what) {
    const absl::Time now = absl::Now();
    spdlog::debug("start: {} took {} ms", what, absl::ToInt64Milliseconds(now - last));
    last = now;
  };
  KILN_RETURN_IF_ERROR(parts->OpenStore(config));
  told("store");
  KILN_RETURN_IF_ERROR(parts->OpenExecutor(config));
  told("executor");
  parts->MakeSolver(config);
  parts->MakeCaches();
  KILN_RETURN_IF_ERROR(parts->Serve(config));
  told("server");
  // Off the path of the start: what earlier runs left.
  parts->call_pool->Post(
      [root = parts->root.get(), blobs = parts->blobs.get(), layers = parts->layers.get()] {
        absl::Status status = root->SweepTmp();
        status.Update(layers->Sweep());
        status.Update(blobs->SweepFiles().status());
        if (!status.ok()) spdlog::warn("sweep: {}", std::string(status.message()));
      });
  return std::unique_ptr<Daemon>(new Daemon(std::move(parts)));
}

std::vector<std::string> Daemon::names() const { return parts_->server->names(); }

void Daemon::Drain() {
  parts_->builds.Drain(
      absl::UnavailableError("the daemon is shutting down: new builds are refused"));
}

bool Daemon::WaitIdle(absl::Time deadline) { return parts_->builds.WaitIdle(deadline); }

void Daemon::Shutdown() {
  if (parts_ == nullptr) return;
  Drain();
  parts_->builds.CancelAll(absl::CancelledError("the daemon is shutting down"));
  if (!parts_->builds.WaitIdle(absl::Now() + kCancelGrace))
    spdlog::warn("builds are still winding down");
  parts_->callback_threads.reset();
  parts_->server->Shutdown(absl::Now() + kCallGrace);
  parts_.reset();
}

}  // namespace kiln::daemon
