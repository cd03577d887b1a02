#include "client/cli/image_loader.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "client/cli/containerd_import.h"
#include "client/cli/engine_api.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

constexpr char kContainerd[] = "containerd";
// kilnd's own attribute of the docker exporter: chain ids and blobs of which the archive need not
// have the layers.
constexpr char kKnownLayers[] = "known-layers";
constexpr size_t kMaxKnownLayers = 1000;

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

ExportRequest ImageLoader::Request(const std::vector<std::string>& names,
                                   const CancelToken& cancel) {
  ExportRequest request;
  request.type = "docker";
  if (!names.empty()) request.attrs["name"] = absl::StrJoin(names, ",");
  request.target.kind = ExportTarget::Kind::kFile;
  request.target.path = archive_;
  const absl::StatusOr<std::vector<Digest>> known = KnownLayers(names, cancel);
  lacks_layers_ = known.ok() && !known->empty();
  if (lacks_layers_)
    request.attrs[kKnownLayers] = absl::StrJoin(
        *known, ",",
        [](std::string* out, const Digest& digest) { absl::StrAppend(out, digest.ToString()); });
  return request;
}

absl::StatusOr<std::vector<Digest>> ImageLoader::KnownLayers(const std::vector<std::string>& names,
                                                             const CancelToken& cancel) const {
  if (containerd_) return BlobsInContainerd(socket_, kMaxKnownLayers, cancel);
  return EngineApi(socket_).KnownLayers(names, kMaxKnownLayers, cancel);
}

void ImageLoader::SendWhole(std::vector<ExportRequest>* outputs) {
  for (ExportRequest& output : *outputs) output.attrs.erase(kKnownLayers);
}

absl::Status ImageLoader::Load(const CancelToken& cancel,
                               const std::function<absl::Status()>& build_whole) const {
  absl::Status status = Send(cancel);
  if (!status.ok() && lacks_layers_ && !absl::IsUnavailable(status) && !cancel.Cancelled()) {
    KILN_RETURN_IF_ERROR(build_whole());
    status = Send(cancel);
  }
  return Annotate(status, absl::StrCat("load into ", engine_));
}

absl::Status ImageLoader::Send(const CancelToken& cancel) const {
  const Fd file(open(archive_.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info = {};
  if (!file.valid() || fstat(file.get(), &info) != 0)
    return ErrnoStatus(errno, absl::StrCat("open ", archive_));
  if (containerd_) return ImportIntoContainerd(socket_, file.get(), cancel);
  return EngineApi(socket_).Load(file.get(), info.st_size, cancel);
}

}  // namespace kiln::client
