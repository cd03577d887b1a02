#include "client/cli/image_loader.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "client/cli/containerd_import.h"
#include "client/cli/engine_api.h"
#include "client/cli/image_archive.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

constexpr char kContainerd[] = "containerd";
// A smaller archive is sent sooner than the engine says what it has.
constexpr int64_t kWorthAskingBytes = 1 << 20;

std::string EnvOr(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

// Whether somebody listens there whom this user may talk to.
absl::Status Probe(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return ErrnoStatus(ENAMETOOLONG, path);
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return ErrnoStatus(errno, "make a socket");
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0)
    return absl::OkStatus();
  const int err = errno;
  if (err == ECONNREFUSED) return absl::UnavailableError(absl::StrCat(path, ": nobody listens"));
  if (err == ENOENT) return absl::NotFoundError(absl::StrCat(path, ": not there"));
  return ErrnoStatus(err, path);
}

// Engines that speak Docker's API, best first.
std::vector<std::pair<std::string, std::string>> DockerSockets() {
  std::vector<std::pair<std::string, std::string>> sockets = {{"docker", "/var/run/docker.sock"}};
  if (const char* runtime = std::getenv("XDG_RUNTIME_DIR"); runtime != nullptr && *runtime != 0) {
    sockets.emplace_back("docker", absl::StrCat(runtime, "/docker.sock"));
    sockets.emplace_back("podman", absl::StrCat(runtime, "/podman/podman.sock"));
  }
  sockets.emplace_back("podman", "/run/podman/podman.sock");
  return sockets;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ImageLoader>> ImageLoader::Find() {
  std::unique_ptr<ImageLoader> loader(new ImageLoader);
  std::vector<std::pair<std::string, std::string>> sockets = DockerSockets();
  const std::string containerd = EnvOr("CONTAINERD_ADDRESS", "/run/containerd/containerd.sock");
  sockets.emplace_back(kContainerd, containerd);
  if (const std::string host = EnvOr("DOCKER_HOST", ""); !host.empty()) {
    absl::string_view path = host;
    if (!absl::ConsumePrefix(&path, "unix://"))
      return absl::UnimplementedError(absl::StrCat("--load: DOCKER_HOST=", host,
                                                   " is no unix socket; export with --output "
                                                   "type=docker,dest=FILE and load that there"));
    sockets = {{"engine", std::string(path)}};
  }
  std::vector<std::string> looked_for;
  for (const auto& [engine, socket] : sockets) {
    const absl::Status found = Probe(socket);
    if (!found.ok()) {
      looked_for.emplace_back(found.message());
      continue;
    }
    loader->engine_ = absl::StrCat(engine, " (", socket, ")");
    loader->socket_ = socket;
    loader->containerd_ = engine == kContainerd;
    break;
  }
  if (loader->socket_.empty())
    return absl::FailedPreconditionError(absl::StrCat(
        "--load: no container engine that can be used (", absl::StrJoin(looked_for, "; "),
        "); export with --output type=docker,dest=FILE instead"));
  std::string pattern = absl::StrCat(EnvOr("TMPDIR", "/tmp"), "/kiln-load-XXXXXX");
  const Fd made(mkstemp(pattern.data()));
  if (!made.valid()) return ErrnoStatus(errno, absl::StrCat("--load: make ", pattern));
  loader->archive_ = pattern;
  return loader;
}

ImageLoader::~ImageLoader() {
  if (!archive_.empty()) unlink(archive_.c_str());
}

ExportRequest ImageLoader::Request(const std::string& names) const {
  ExportRequest request;
  request.type = "docker";
  if (!names.empty()) request.attrs["name"] = names;
  request.target.kind = ExportTarget::Kind::kFile;
  request.target.path = archive_;
  return request;
}

absl::Status ImageLoader::Load(const CancelToken& cancel) const {
  return Annotate(Send(cancel), absl::StrCat("load into ", engine_));
}

absl::Status ImageLoader::Send(const CancelToken& cancel) const {
  const Fd file(open(archive_.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info = {};
  if (!file.valid() || fstat(file.get(), &info) != 0)
    return ErrnoStatus(errno, absl::StrCat("open ", archive_));
  std::unique_ptr<EngineApi> docker;
  if (!containerd_) docker = std::make_unique<EngineApi>(socket_);
  const auto load = [&](const std::vector<ImageArchive::Range>& ranges) {
    return containerd_ ? ImportIntoContainerd(socket_, file.get(), ranges, cancel)
                       : docker->Load(file.get(), ranges, cancel);
  };
  // What the engine lacks; empty: everything.
  const auto lacking = [&]() -> absl::StatusOr<std::vector<ImageArchive::Range>> {
    KILN_ASSIGN_OR_RETURN(const ImageArchive archive, ImageArchive::Read(file.get()));
    std::set<std::string> known;
    if (containerd_) {
      KILN_ASSIGN_OR_RETURN(known, LayersInContainerd(socket_, archive, cancel));
    } else {
      KILN_ASSIGN_OR_RETURN(known, docker->KnownLayers(archive, cancel));
    }
    if (known.empty()) return std::vector<ImageArchive::Range>();
    return archive.Without(known);
  };
  if (info.st_size >= kWorthAskingBytes) {
    // Whatever goes wrong here, everything can be sent.
    const absl::StatusOr<std::vector<ImageArchive::Range>> ranges = lacking();
    if (ranges.ok() && !ranges->empty()) {
      const absl::Status status = load(*ranges);
      // The engine may have lost a layer meanwhile, or want it after all.
      if (status.ok() || absl::IsUnavailable(status) || cancel.Cancelled()) return status;
    }
  }
  return load({{0, info.st_size}});
}

}  // namespace kiln::client
