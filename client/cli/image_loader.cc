#include "client/cli/image_loader.h"

#include <curl/curl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "store/base/fd.h"
#include "store/base/process.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

constexpr char kContainerd[] = "/run/containerd/containerd.sock";
constexpr size_t kMaxAnswerBytes = 1 << 20;

bool IsSocket(const std::string& path) {
  struct stat info = {};
  return stat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode);
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

size_t KeepAnswer(char* data, size_t size, size_t count, void* out) {
  auto* answer = static_cast<std::string*>(out);
  if (answer->size() < kMaxAnswerBytes) answer->append(data, size * count);
  return size * count;
}

int StopOnCancel(void* cancel, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<const CancelToken*>(cancel)->Cancelled() ? 1 : 0;
}

// What the engine reports in its stream of JSON lines; "" when all went well.
std::string ErrorIn(const std::string& answer) {
  for (const absl::string_view line : absl::StrSplit(answer, '\n', absl::SkipWhitespace())) {
    const nlohmann::json json = nlohmann::json::parse(line.begin(), line.end(), nullptr, false);
    if (!json.is_object()) continue;
    for (const char* key : {"error", "message", "cause"}) {
      const auto found = json.find(key);
      if (found != json.end() && found->is_string()) return found->get<std::string>();
    }
  }
  return "";
}

}  // namespace

absl::StatusOr<std::unique_ptr<ImageLoader>> ImageLoader::Find() {
  std::unique_ptr<ImageLoader> loader(new ImageLoader);
  std::vector<std::string> looked_for;
  std::vector<std::pair<std::string, std::string>> sockets = DockerSockets();
  if (const char* host = std::getenv("DOCKER_HOST"); host != nullptr && *host != '\0') {
    absl::string_view path = host;
    if (!absl::ConsumePrefix(&path, "unix://"))
      return absl::UnimplementedError(absl::StrCat("--load: DOCKER_HOST=", host,
                                                   " is no unix socket; export with --output "
                                                   "type=docker,dest=FILE and load that there"));
    sockets = {{"docker", std::string(path)}};
  }
  for (const auto& [engine, socket] : sockets) {
    looked_for.push_back(socket);
    if (!IsSocket(socket)) continue;
    loader->engine_ = absl::StrCat(engine, " (", socket, ")");
    loader->socket_ = socket;
    break;
  }
  looked_for.push_back(kContainerd);
  if (loader->socket_.empty() && IsSocket(kContainerd)) {
    loader->engine_ = absl::StrCat("containerd (", kContainerd, ")");
    loader->socket_ = kContainerd;
    loader->containerd_ = true;
  }
  if (loader->socket_.empty())
    return absl::FailedPreconditionError(absl::StrCat(
        "--load: no container engine on this machine (looked for ", absl::StrJoin(looked_for, ", "),
        "); export with --output type=docker,dest=FILE instead"));
  const char* folder = std::getenv("TMPDIR");
  std::string pattern =
      absl::StrCat(folder != nullptr && *folder != '\0' ? folder : "/tmp", "/kiln-load-XXXXXX");
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
  return Annotate(containerd_ ? Import(cancel) : Post(cancel), absl::StrCat("load into ", engine_));
}

absl::Status ImageLoader::Post(const CancelToken& cancel) const {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(fopen(archive_.c_str(), "rbe"), &fclose);
  if (file == nullptr) return ErrnoStatus(errno, absl::StrCat("open ", archive_));
  struct stat info = {};
  if (fstat(fileno(file.get()), &info) != 0) return ErrnoStatus(errno, "stat the archive");
  const std::unique_ptr<CURL, void (*)(CURL*)> curl(curl_easy_init(), &curl_easy_cleanup);
  const std::unique_ptr<curl_slist, void (*)(curl_slist*)> headers(
      curl_slist_append(nullptr, "Content-Type: application/x-tar"), &curl_slist_free_all);
  std::string answer;
  char error[CURL_ERROR_SIZE] = {};
  curl_easy_setopt(curl.get(), CURLOPT_UNIX_SOCKET_PATH, socket_.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_URL, "http://localhost/images/load?quiet=1");
  curl_easy_setopt(curl.get(), CURLOPT_POST, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl.get(), CURLOPT_READDATA, file.get());
  curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(info.st_size));
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, &KeepAnswer);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &answer);
  curl_easy_setopt(curl.get(), CURLOPT_ERRORBUFFER, error);
  curl_easy_setopt(curl.get(), CURLOPT_NOPROXY, "*");
  curl_easy_setopt(curl.get(), CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl.get(), CURLOPT_XFERINFOFUNCTION, &StopOnCancel);
  curl_easy_setopt(curl.get(), CURLOPT_XFERINFODATA, &cancel);
  const CURLcode code = curl_easy_perform(curl.get());
  if (cancel.Cancelled()) return cancel.status();
  if (code != CURLE_OK)
    return absl::UnavailableError(*error != '\0' ? error : curl_easy_strerror(code));
  long status = 0;
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
  const std::string complaint = ErrorIn(answer);
  if (status == 200 && complaint.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      complaint.empty() ? absl::StrCat("the engine answered with status ", status) : complaint);
}

absl::Status ImageLoader::Import(const CancelToken& cancel) const {
  ProcessOptions options;
  options.args = {"ctr", "--namespace", "default", "images", "import", archive_};
  return RunCommandForOutput(options, cancel).status();
}

}  // namespace kiln::client
