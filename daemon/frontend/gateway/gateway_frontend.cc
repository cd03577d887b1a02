#include "daemon/frontend/gateway/gateway_frontend.h"

#include <fcntl.h>
#include <grpcpp/impl/service_type.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/frontend/gateway/frontend_image.h"
#include "daemon/frontend/gateway/frontend_process.h"
#include "daemon/gateway/bridge_service.h"
#include "daemon/gateway/build_container.h"
#include "proto/buildkit/gateway.pb.h"
#include "proto/buildkit/worker.pb.h"
#include "proto/status_details.h"
#include "spdlog/spdlog.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

namespace pbf = moby::buildkit::v1::frontend;
using nlohmann::json;

constexpr char kMetadataFolder[] = "/run/config/buildkit/metadata";
constexpr char kMetadataFile[] = "frontend.bin";
constexpr char kNetworkLabel[] = "moby.buildkit.frontend.network.none";
constexpr size_t kMaxVariableBytes = (128 << 10) - 1;  // MAX_ARG_STRLEN, less the NUL

std::string Option(const FrontendClient& client, const std::string& key) {
  const auto found = client.opts().find(key);
  return found == client.opts().end() ? "" : found->second;
}

std::string WorkersJson(const std::string& bytes) {
  moby::buildkit::v1::types::WorkerRecord worker;
  worker.ParseFromString(bytes);
  json platforms = json::array();
  for (const pb::Platform& platform : worker.platforms()) {
    json one = {{"architecture", platform.architecture()}, {"os", platform.os()}};
    if (!platform.variant().empty()) one["variant"] = platform.variant();
    platforms.push_back(std::move(one));
  }
  json labels = json::object();
  for (const auto& [key, value] : worker.labels()) labels[key] = value;
  return json::array({{{"id", worker.id()}, {"labels", labels}, {"platforms", platforms}}})
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

absl::StatusOr<std::vector<std::string>> Environment(const FrontendClient& client,
                                                     const FrontendImage& image,
                                                     const std::string& worker) {
  std::vector<std::string> env = image.env;
  size_t number = 0;
  for (const auto& [key, value] : client.opts()) {
    env.push_back(absl::StrCat("BUILDKIT_FRONTEND_OPT_", number++, "=", key, "=", value));
    // Larger ones fit neither one variable nor, mostly, what the program does with it.
    if (env.back().size() > kMaxVariableBytes)
      return absl::InvalidArgumentError(
          absl::StrCat("frontend option ", key, " has ", value.size(),
                       " bytes: a frontend in a container takes less than ", kMaxVariableBytes));
  }
  env.push_back(absl::StrCat("BUILDKIT_SESSION_ID=", client.session_id()));
  env.push_back(absl::StrCat("BUILDKIT_WORKERS=", WorkersJson(worker)));
  env.push_back("BUILDKIT_EXPORTEDPRODUCT=kiln");
  return env;
}

// A folder of the daemon's with what a frontend may read of itself; removed with the object.
class MetadataFolder {
 public:
  static absl::StatusOr<std::unique_ptr<MetadataFolder>> Make(const std::string& parent,
                                                              const std::string& definition) {
    std::unique_ptr<MetadataFolder> made(
        new MetadataFolder(absl::StrCat(parent, "/frontend-", NewId())));
    if (mkdir(made->path_.c_str(), 0755) != 0)
      return ErrnoStatus(errno, absl::StrCat("make folder ", made->path_));
    KILN_ASSIGN_OR_RETURN(Fd file,
                          OpenFile(made->File(), O_WRONLY | O_CREAT | O_EXCL, /*mode=*/0644));
    KILN_RETURN_IF_ERROR(Annotate(WriteAll(file.get(), definition), made->File()));
    return made;
  }
  ~MetadataFolder() {
    unlink(File().c_str());  // may not have been made
    if (rmdir(path_.c_str()) != 0 && errno != ENOENT)
      spdlog::warn("remove folder {}: errno {}", path_, errno);
  }
  const std::string& path() const { return path_; }

 private:
  explicit MetadataFolder(std::string path) : path_(std::move(path)) {}
  std::string File() const { return absl::StrCat(path_, "/", kMetadataFile); }
  const std::string path_;
};

std::string RootContainer(const std::string& ref, const FrontendImage& image) {
  pbf::NewContainerRequest request;
  request.set_containerid("frontend");
  pb::Mount* root = request.add_mounts();
  root->set_dest("/");
  root->set_resultid(ref);
  const auto label = image.labels.find(kNetworkLabel);
  if (label != image.labels.end() && label->second == "true") request.set_network(pb::NONE);
  return request.SerializeAsString();
}

std::string Program(const FrontendImage& image, const std::vector<std::string>& env) {
  pbf::InitMessage init;
  pb::Meta& meta = *init.mutable_meta();
  for (const std::string& arg : image.entrypoint) meta.add_args(arg);
  for (const std::string& one : env) meta.add_env(one);
  meta.set_cwd(image.cwd);
  return init.SerializeAsString();
}

// Old frontends are a file there.
bool MayMountBelowRun(FrontendClient& client, const std::string& ref) {
  const auto run = client.StatFile(ref, "/run");
  return !run.ok() || fsutil::IsDir(run->mode);
}

// Why there is no result, with the last words of the frontend.
absl::Status Failure(const absl::StatusOr<ExitInfo>& exit, const FrontendImage& image,
                     absl::string_view last_words) {
  if (!exit.ok()) return Annotate(exit.status(), FailureText(image.entrypoint));
  const absl::string_view words = absl::StripAsciiWhitespace(last_words);
  std::string text = exit->code == 0
                         ? "no result for incomplete build"
                         : absl::StrCat(FailureText(image.entrypoint), ": exit code: ", exit->code);
  if (exit->oom_killed) absl::StrAppend(&text, ": cannot allocate memory");
  if (!exit->start_failure.empty()) absl::StrAppend(&text, ": ", exit->start_failure);
  if (!words.empty()) absl::StrAppend(&text, ": ", words);
  absl::Status status = absl::UnknownError(text);
  if (exit->code != 0) AddExitDetail(static_cast<uint32_t>(exit->code), &status);
  return status;
}

}  // namespace

absl::StatusOr<BridgeResult> GatewayFrontend::Run(FrontendClient& client) {
  // Its calls come over gRPC and need the bridge itself.
  auto* const bridge_client = dynamic_cast<BridgeClient*>(&client);
  if (bridge_client == nullptr)
    return absl::InternalError("gateway.v0 runs only over a bridge of this daemon");
  const std::shared_ptr<Bridge>& bridge = bridge_client->bridge();
  const std::string source = Option(client, "source");
  if (!Option(client, "gateway-devel").empty())
    return absl::InvalidArgumentError("development gateway is no longer supported");
  if (source.empty()) return absl::InvalidArgumentError("no source specified for gateway");
  KILN_RETURN_IF_ERROR(deps_.allowed.Check(source));
  if (deps_.parts->containers == nullptr)
    return absl::UnimplementedError(
        absl::StrCat("running the frontend ", source, ": this daemon has no OCI runtime for it"));
  const ContainerParts& containers = *deps_.parts->containers;

  KILN_ASSIGN_OR_RETURN(const FrontendImage image, FindFrontendImage(client, source));
  KILN_RETURN_IF_ERROR(CheckFrontendCaps(client, image));
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> env,
                        Environment(client, image, deps_.parts->worker()));
  FrontendClient::Solve solve;
  solve.definition = image.definition;
  KILN_ASSIGN_OR_RETURN(const BridgeResult root, client.SolveGraph(solve));
  KILN_ASSIGN_OR_RETURN(const auto metadata,
                        MetadataFolder::Make(containers.exec.runtime_dir, image.definition));
  std::vector<ContainerMount> more;
  if (MayMountBelowRun(client, root.ref))
    more.push_back({kMetadataFolder, metadata->path(), "bind", {"ro"}});
  KILN_ASSIGN_OR_RETURN(const auto container,
                        BuildContainer::Create(containers, bridge, RootContainer(root.ref, image),
                                               client.cancel(), more));
  const auto service = MakeBridgeService({nullptr, bridge, deps_.pool, deps_.parts});
  absl::StatusOr<ExitInfo> exit = absl::InternalError("not started");
  std::string last_words;
  {
    KILN_ASSIGN_OR_RETURN(
        const auto process,
        FrontendProcess::Start(*container, Program(image, env), service.get(), client.cancel()));
    exit = process->Wait(*bridge->options().job, absl::StrCat("[frontend] ", source),
                         containers.exec.log_limits, client.cancel());
    last_words = process->last_words();
  }
  KILN_RETURN_IF_ERROR(client.cancel().status());
  const auto answer = bridge->Answer();
  if (answer.has_value() && !answer->ok()) return answer->status();
  if (answer.has_value() && exit.ok() && exit->code == 0) return *answer;
  return Failure(exit, image, last_words);
}

}  // namespace kiln::daemon
