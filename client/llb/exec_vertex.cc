#include "client/llb/exec_vertex.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/buildkit/ops.pb.h"
#include "store/base/status_macros.h"

namespace kiln::client::llb {
namespace {

constexpr int64_t kNoInput = -1;
constexpr int64_t kNoOutput = -1;

bool HasOutput(const MountInfo& mount) {
  return !mount.no_output && !mount.readonly && mount.cache_id.empty() && !mount.tmpfs;
}

void FillMountKind(const MountInfo& mount, pb::Mount* out) {
  if (!mount.cache_id.empty()) {
    out->set_mounttype(pb::CACHE);
    out->mutable_cacheopt()->set_id(mount.cache_id);
    out->mutable_cacheopt()->set_sharing(
        static_cast<pb::CacheSharingOpt>(static_cast<int>(mount.cache_sharing)));
  }
  out->set_contentcache(static_cast<pb::MountContentCache>(static_cast<int>(mount.content_cache)));
  if (mount.tmpfs) {
    out->set_mounttype(pb::TMPFS);
    out->mutable_tmpfsopt()->set_size(mount.tmpfs_size_bytes);
  }
}

std::string SshTarget(const SshInfo& ssh, size_t index) {
  return ssh.target.empty() ? absl::StrCat("/run/buildkit/ssh_agent.", index) : ssh.target;
}

}  // namespace

ExecVertex::ExecVertex(State base, RunInfo info) : base_(std::move(base)), info_(std::move(info)) {
  MountInfo root;
  root.target = "/";
  root.source = base_;
  root.readonly = info_.readonly_root;
  info_.mounts.insert(info_.mounts.begin(), std::move(root));
  if (!info_.constraints.platform) info_.constraints.platform = base_.settings().platform;
}

ExecVertex::~ExecVertex() {
  std::vector<Output> inputs = {std::move(base_.output_)};
  for (MountInfo& mount : info_.mounts) inputs.push_back(std::move(mount.source.output_));
  Release(std::move(inputs));
}

Output ExecVertex::RootOutput(const std::shared_ptr<ExecVertex>& self) {
  if (self->info_.readonly_root) return self->base_.output();
  return {self, 0, self->info_.constraints.platform};
}

int ExecVertex::AddMount(MountInfo mount) {
  info_.mounts.push_back(std::move(mount));
  return static_cast<int>(info_.mounts.size()) - 1;
}

State ExecVertex::MountState(const std::shared_ptr<ExecVertex>& self, int slot) {
  const MountInfo& mount = self->info_.mounts[slot];
  if (mount.readonly) return mount.source;
  return mount.source.WithOutput({self, slot, self->info_.constraints.platform});
}

std::vector<int> ExecVertex::SlotsByTarget() const {
  std::vector<int> slots(info_.mounts.size());
  std::iota(slots.begin(), slots.end(), 0);
  std::stable_sort(slots.begin(), slots.end(),
                   [&](int a, int b) { return info_.mounts[a].target < info_.mounts[b].target; });
  return slots;
}

std::vector<Output> ExecVertex::Inputs() const {
  std::vector<Output> inputs;
  for (int slot : SlotsByTarget()) {
    const Output& source = info_.mounts[slot].source.output();
    if (source) inputs.push_back(source);
  }
  return inputs;
}

absl::StatusOr<int64_t> ExecVertex::OutputIndex(int slot) const {
  int64_t index = 0;
  for (int other : SlotsByTarget()) {
    if (other == slot && !HasOutput(info_.mounts[other])) break;
    if (other == slot) return index;
    if (HasOutput(info_.mounts[other])) ++index;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "mount ", info_.mounts[slot].target, " of [", absl::StrJoin(info_.args, " "),
      "] is read-only, a cache, a tmpfs or without output and can't be used as a parent"));
}

absl::Status ExecVertex::Validate() const {
  KILN_RETURN_IF_ERROR(info_.error);
  if (info_.args.empty()) {
    return absl::InvalidArgumentError("arguments are required");
  }
  for (const MountInfo& mount : info_.mounts) {
    if (mount.target.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("mount of [", absl::StrJoin(info_.args, " "), "] has no target"));
    }
    if (mount.tmpfs && !mount.source.scratch()) {
      return absl::InvalidArgumentError(
          absl::StrCat("tmpfs mount ", mount.target, " must use scratch"));
    }
  }
  return absl::OkStatus();
}

void ExecVertex::FillMeta(pb::Meta* meta, std::set<std::string>* caps) const {
  const State::Settings& settings = base_.settings();
  for (const std::string& arg : info_.args) meta->add_args(arg);
  bool has_ssh_variable = false;
  for (const auto& [key, value] : settings.env) {
    meta->add_env(absl::StrCat(key, "=", value));
    has_ssh_variable |= key == "SSH_AUTH_SOCK";
  }
  if (!info_.ssh.empty() && !has_ssh_variable) {
    meta->add_env(absl::StrCat("SSH_AUTH_SOCK=", SshTarget(info_.ssh[0], 0)));
  }
  meta->set_cwd(settings.dir);
  meta->set_user(settings.user);
  meta->set_hostname(settings.hostname);
  meta->set_cgroupparent(settings.cgroup_parent);
  meta->set_removemountstubsrecursive(true);
  for (int32_t code : info_.valid_exit_codes) meta->add_validexitcodes(code);
  for (const HostIp& host : settings.extra_hosts) {
    pb::HostIP* out = meta->add_extrahosts();
    out->set_host(host.host);
    out->set_ip(host.ip);
  }
  for (const Ulimit& limit : settings.ulimits) {
    pb::Ulimit* out = meta->add_ulimit();
    out->set_name(limit.name);
    out->set_soft(limit.soft);
    out->set_hard(limit.hard);
  }
  if (!settings.ulimits.empty()) caps->insert("exec.meta.ulimit");
  if (info_.proxy_env) {
    pb::ProxyEnv* out = meta->mutable_proxy_env();
    out->set_http_proxy(info_.proxy_env->http_proxy);
    out->set_https_proxy(info_.proxy_env->https_proxy);
    out->set_ftp_proxy(info_.proxy_env->ftp_proxy);
    out->set_no_proxy(info_.proxy_env->no_proxy);
    out->set_all_proxy(info_.proxy_env->all_proxy);
  }
}

std::set<std::string> ExecVertex::Caps() const {
  std::set<std::string> caps = {"exec.meta.base"};
  if (info_.daemon_sets_path) caps.insert("exec.meta.setsdefaultpath");
  if (!info_.valid_exit_codes.empty()) caps.insert("exec.validexitcode");
  if (base_.settings().network != NetMode::kSandbox) caps.insert("exec.meta.network");
  if (base_.settings().security != SecurityMode::kSandbox) caps.insert("exec.meta.security");
  if (info_.proxy_env) caps.insert("exec.meta.proxyenv");
  if (info_.constraints.metadata.linux_resources) caps.insert("exec.meta.linux.resources");
  for (const MountInfo& mount : info_.mounts) {
    if (!mount.selector.empty()) caps.insert("exec.mount.selector");
    if (!mount.cache_id.empty()) {
      caps.insert({"exec.mount.cache", "exec.mount.cache.sharing"});
    } else if (mount.tmpfs) {
      caps.insert("exec.mount.tmpfs");
      if (mount.tmpfs_size_bytes > 0) caps.insert("exec.mount.tmpfs.size");
    } else if (!mount.source.scratch()) {
      caps.insert("exec.mount.bind");
    }
    if (mount.content_cache != ContentCache::kDefault) caps.insert("exec.mount.cache.content");
  }
  if (!info_.secrets.empty()) caps.insert("exec.mount.secret");
  for (const SecretInfo& secret : info_.secrets) {
    if (secret.env) caps.insert("exec.secretenv");
  }
  if (!info_.ssh.empty()) caps.insert("exec.mount.ssh");
  if (!info_.cdi_devices.empty()) caps.insert("exec.meta.cdi");
  return caps;
}

absl::Status ExecVertex::FillMounts(const MarshalContext& context, pb::Op* op,
                                    pb::ExecOp* exec) const {
  int64_t next_output = 0;
  for (int slot : SlotsByTarget()) {
    const MountInfo& mount = info_.mounts[slot];
    int64_t input = kNoInput;
    if (!mount.source.scratch()) {
      KILN_ASSIGN_OR_RETURN(input, context.AddInput(mount.source.output(), op));
    }
    pb::Mount* out = exec->add_mounts();
    out->set_input(input);
    out->set_dest(mount.target);
    out->set_readonly(mount.readonly);
    out->set_output(HasOutput(mount) ? next_output++ : kNoOutput);
    out->set_selector(mount.selector);
    FillMountKind(mount, out);
  }
  return absl::OkStatus();
}

// Secrets and SSH sockets follow the mounts; their output stays 0 as the Go client leaves it.
void ExecVertex::FillSecrets(pb::ExecOp* exec) const {
  for (const SecretInfo& secret : info_.secrets) {
    if (secret.env) {
      pb::SecretEnv* out = exec->add_secretenv();
      out->set_id(secret.id);
      out->set_name(*secret.env);
      out->set_optional(secret.optional);
    }
    if (!secret.target) continue;
    pb::Mount* mount = exec->add_mounts();
    mount->set_input(kNoInput);
    mount->set_dest(*secret.target);
    mount->set_mounttype(pb::SECRET);
    pb::SecretOpt* out = mount->mutable_secretopt();
    out->set_id(secret.id);
    out->set_uid(secret.uid);
    out->set_gid(secret.gid);
    out->set_optional(secret.optional);
    out->set_mode(secret.mode);
  }
  for (size_t i = 0; i < info_.ssh.size(); ++i) {
    const SshInfo& ssh = info_.ssh[i];
    pb::Mount* mount = exec->add_mounts();
    mount->set_input(kNoInput);
    mount->set_dest(SshTarget(ssh, i));
    mount->set_mounttype(pb::SSH);
    pb::SSHOpt* out = mount->mutable_sshopt();
    out->set_id(ssh.id);
    out->set_uid(ssh.uid);
    out->set_gid(ssh.gid);
    out->set_mode(ssh.mode);
    out->set_optional(ssh.optional);
  }
}

absl::StatusOr<MarshalledOp> ExecVertex::Marshal(const MarshalContext& context) const {
  KILN_RETURN_IF_ERROR(Validate());
  Constraints constraints = info_.constraints;
  constraints.metadata.caps.merge(Caps());
  pb::Op op;
  pb::ExecOp* exec = op.mutable_exec();
  FillMeta(exec->mutable_meta(), &constraints.metadata.caps);
  exec->set_network(static_cast<pb::NetMode>(static_cast<int>(base_.settings().network)));
  exec->set_security(static_cast<pb::SecurityMode>(static_cast<int>(base_.settings().security)));
  for (const CdiDevice& device : info_.cdi_devices) {
    pb::CDIDevice* out = exec->add_cdidevices();
    out->set_name(device.name);
    out->set_optional(device.optional);
  }
  OpMetadata metadata = FillConstraints(context, std::move(constraints), &op);
  KILN_RETURN_IF_ERROR(FillMounts(context, &op, exec));
  FillSecrets(exec);
  return FinishOp(std::move(op), std::move(metadata));
}

}  // namespace kiln::client::llb
