#include "daemon/gateway/build_container.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/buildkit/gateway.pb.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

namespace pbf = moby::buildkit::v1::frontend;

absl::StatusOr<pbf::NewContainerRequest> Parse(absl::string_view bytes) {
  pbf::NewContainerRequest request;
  if (!request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return absl::InvalidArgumentError("malformed NewContainerRequest");
  if (request.containerid().empty()) return absl::InvalidArgumentError("container without an id");
  return request;
}

// The request as the exec op that would mount the same, its inputs in `refs`.
pb::Op ToOp(const pbf::NewContainerRequest& request, std::vector<std::string>* refs) {
  pb::Op op;
  if (request.has_platform()) *op.mutable_platform() = request.platform();
  pb::ExecOp& exec = *op.mutable_exec();
  exec.mutable_meta()->add_args("unknown yet");
  exec.mutable_meta()->set_cwd("/");
  exec.mutable_meta()->set_hostname(request.hostname());
  *exec.mutable_meta()->mutable_extrahosts() = request.extrahosts();
  exec.set_network(request.network());
  std::map<std::string, int> known;
  for (const pb::Mount& wanted : request.mounts()) {
    pb::Mount& mount = *exec.add_mounts();
    mount = wanted;
    mount.clear_resultid();
    mount.set_input(-1);
    mount.set_output(-1);
    if (mount.mounttype() == pb::CACHE && mount.cacheopt().sharing() == pb::LOCKED)
      mount.mutable_cacheopt()->set_sharing(pb::PRIVATE);
    if (wanted.resultid().empty()) continue;
    const auto [slot, added] = known.emplace(wanted.resultid(), refs->size());
    if (added) {
      refs->push_back(wanted.resultid());
      op.add_inputs();
    }
    mount.set_input(slot->second);
  }
  return op;
}

// For the error: the destination of the first mount of that ref.
std::string MountOf(const pbf::NewContainerRequest& request, const std::string& ref) {
  for (const pb::Mount& mount : request.mounts())
    if (mount.resultid() == ref) return mount.dest();
  return "";
}

}  // namespace

absl::StatusOr<std::string> BuildContainer::IdOf(absl::string_view request) {
  KILN_ASSIGN_OR_RETURN(const pbf::NewContainerRequest parsed, Parse(request));
  return parsed.containerid();
}

BuildContainer::BuildContainer(const ContainerParts& parts, std::shared_ptr<Bridge> bridge)
    : parts_(parts), bridge_(std::move(bridge)), context_(*bridge_, released_.token()) {}

BuildContainer::~BuildContainer() { Release(); }

absl::StatusOr<std::shared_ptr<BuildContainer>> BuildContainer::Create(
    const ContainerParts& parts, const std::shared_ptr<Bridge>& bridge, absl::string_view bytes,
    const CancelToken& cancel, const std::vector<ContainerMount>& more) {
  KILN_ASSIGN_OR_RETURN(const pbf::NewContainerRequest request, Parse(bytes));
  std::vector<std::string> refs;
  const pb::Op op = ToOp(request, &refs);
  std::shared_ptr<BuildContainer> made(new BuildContainer(parts, bridge));
  made->op_ = op.SerializeAsString();
  KILN_ASSIGN_OR_RETURN(made->plan_, MakeExecPlan(op));
  KILN_RETURN_IF_ERROR(made->CheckAllowed(made->plan_));
  std::vector<store::RefPtr> trees;
  for (const std::string& ref : refs) {
    const std::string doing =
        absl::StrCat("failed to find ref ", ref, " for \"", MountOf(request, ref), "\" mount");
    KILN_ASSIGN_OR_RETURN(store::RefPtr tree, Annotate(bridge->TreeToMount(ref, cancel), doing));
    trees.push_back(std::move(tree));
  }
  ProcessSpec spec;
  spec.id = NewStepId();
  KILN_ASSIGN_OR_RETURN(
      made->mounts_, ExecMounts::Prepare(parts.exec, made->plan_, spec.id, made->context_, trees));
  spec.rootfs = made->mounts_->rootfs();
  spec.rootfs_readonly = made->mounts_->rootfs_readonly();
  spec.mounts = made->mounts_->mounts();
  spec.mounts.insert(spec.mounts.end(), more.begin(), more.end());
  spec.hostname = made->plan_.hostname;
  spec.extra_hosts = made->plan_.extra_hosts;
  spec.network = made->plan_.network;
  made->container_ = parts.executor->NewContainer(std::move(spec));
  return made;
}

absl::Status BuildContainer::CheckAllowed(const ExecPlan& plan) const {
  const auto& granted = bridge_->options().entitlements;
  const auto check = [&](bool wanted, const char* name) -> absl::Status {
    if (!wanted || std::find(granted.begin(), granted.end(), name) != granted.end())
      return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(name, " is not allowed"));
  };
  KILN_RETURN_IF_ERROR(check(plan.network == NetworkMode::kHost, "network.host"));
  return check(plan.security == SecurityMode::kInsecure, "security.insecure");
}

absl::StatusOr<std::unique_ptr<ContainerProcess>> BuildContainer::Start(absl::string_view bytes,
                                                                        const Stdio& stdio,
                                                                        const CancelToken& cancel) {
  pbf::InitMessage init;
  pb::Op op;
  if (!init.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) ||
      !op.ParseFromString(op_))
    return absl::InvalidArgumentError("malformed InitMessage");
  pb::ExecOp& exec = *op.mutable_exec();
  *exec.mutable_meta() = init.meta();
  if (exec.meta().cwd().empty()) exec.mutable_meta()->set_cwd("/");
  exec.set_security(init.security());
  *exec.mutable_secretenv() = init.secretenv();
  KILN_ASSIGN_OR_RETURN(const ExecPlan plan, MakeExecPlan(op));
  KILN_RETURN_IF_ERROR(CheckAllowed(plan));
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> secrets,
                        SecretEnvironment(parts_.exec, plan, context_));
  ProcessRequest request;
  request.args = plan.args;
  if (!plan.emulator.empty()) request.args.insert(request.args.begin(), kEmulatorPath);
  request.env = plan.env;
  request.env.insert(request.env.end(), secrets.begin(), secrets.end());
  request.terminal = init.tty();
  const bool has_term = std::any_of(request.env.begin(), request.env.end(),
                                    [](const auto& one) { return absl::StartsWith(one, "TERM="); });
  if (request.terminal && !has_term) request.env.push_back("TERM=xterm");
  request.cwd = plan.cwd;
  request.user = plan.user;
  request.security = plan.security;
  request.stdin_fd = stdio.in;
  request.stdout_fd = stdio.out;
  request.stderr_fd = stdio.err;
  return container_->Start(request, cancel);
}

absl::StatusOr<store::Layers> BuildContainer::Files(size_t mount) const {
  KILN_ASSIGN_OR_RETURN(std::string path, mounts_->HostPath(mount));
  return store::Layers{std::move(path)};
}

absl::StatusOr<std::unique_ptr<BuildContainer::Use>> BuildContainer::Use::Of(
    std::shared_ptr<BuildContainer> container) {
  MutexLock lock(&container->mu_);
  if (container->released_.token().Cancelled())
    return absl::NotFoundError("the container was released");
  ++container->users_;
  return std::unique_ptr<Use>(new Use(container));
}

BuildContainer::Use::~Use() {
  MutexLock lock(&container_->mu_);
  --container_->users_;
  container_->changed_.SignalAll();
}

absl::Status BuildContainer::Turn::Post(std::shared_ptr<BuildContainer> container, ThreadPool* pool,
                                        absl::AnyInvocable<void(std::unique_ptr<Turn>)> work) {
  KILN_ASSIGN_OR_RETURN(auto use, Use::Of(container));
  MutexLock lock(&container->mu_);  // turns are posted in their order
  const uint64_t number = container->next_turn_++;
  container->turns_.insert(number);
  std::unique_ptr<Turn> turn(new Turn(std::move(use), number));
  pool->Post([turn = std::move(turn), work = std::move(work)]() mutable { work(std::move(turn)); });
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ContainerProcess>> BuildContainer::Turn::Start(
    absl::string_view init, const Stdio& stdio, const CancelToken& cancel) {
  {
    MutexLock lock(&container().mu_);
    while (*container().turns_.begin() != number_) container().changed_.Wait(&container().mu_);
  }
  auto process = container().Start(init, stdio, cancel);
  End();
  return process;
}

void BuildContainer::Turn::End() {
  MutexLock lock(&container().mu_);
  container().turns_.erase(number_);
  container().changed_.SignalAll();
}

void BuildContainer::Release() {
  released_.Cancel(absl::CancelledError("the container was released"));
  {
    MutexLock lock(&mu_);
    while (users_ > 0) changed_.Wait(&mu_);
    if (std::exchange(gone_, true)) return;
  }
  container_.reset();
  mounts_.reset();
}

}  // namespace kiln::daemon
