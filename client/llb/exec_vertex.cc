#include "client/llb/exec_vertex.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "store/base/status_macros.h"

namespace kiln::client::llb {
namespace {

constexpr int64_t kNoInput = -1;
constexpr int64_t kNoOutput = -1;
// pb.MountType.
constexpr int64_t kSecretMount = 1, kSshMount = 2, kCacheMount = 3, kTmpfsMount = 4;

bool HasOutput(const MountInfo& mount) {
  return !mount.no_output && !mount.readonly && mount.cache_id.empty() && !mount.tmpfs;
}

std::string SshTarget(const SshInfo& ssh, size_t index) {
  return ssh.target.empty() ? absl::StrCat("/run/buildkit/ssh_agent.", index) : ssh.target;
}

}  // namespace

ExecVertex::ExecVertex(State base, RunInfo&& info)
    : command_(static_cast<CommandInfo&&>(info)), traits_(std::move(info.constraints)) {
  if (traits_.platform == nullptr) traits_.platform = base.settings().platform;
  MountInfo root;
  root.target = "/";
  root.source = std::move(base);
  root.readonly = command_.readonly_root;
  mounts_.reserve(1 + info.mounts.size());
  mounts_.push_back(std::move(root));
  for (MountInfo& mount : info.mounts) mounts_.push_back(std::move(mount));
}

ExecVertex::~ExecVertex() {
  for (MountInfo& mount : mounts_) Release(std::move(mount.source.output_));
}

Output ExecVertex::RootOutput(const std::shared_ptr<ExecVertex>& self) {
  if (self->command_.readonly_root) return self->base().output();
  return {self, 0, self->traits_.platform};
}

int ExecVertex::AddMount(MountInfo mount) {
  mounts_.push_back(std::move(mount));
  return static_cast<int>(mounts_.size()) - 1;
}

State ExecVertex::MountState(const std::shared_ptr<ExecVertex>& self, int slot) {
  const MountInfo& mount = self->mounts_[slot];
  if (mount.readonly) return mount.source;
  return mount.source.WithOutput({self, slot, self->traits_.platform});
}

ExecVertex::Slots ExecVertex::SlotsByTarget() const {
  Slots slots(mounts_.size());
  std::iota(slots.begin(), slots.end(), 0);
  std::sort(slots.begin(), slots.end(), [&](int a, int b) { return Before(a, b); });
  return slots;
}

bool ExecVertex::Before(int a, int b) const {
  const int order = mounts_[a].target.compare(mounts_[b].target);
  return order != 0 ? order < 0 : a < b;
}

Vertex::Inputs ExecVertex::inputs() const {
  Inputs inputs;
  for (const int slot : SlotsByTarget()) {
    const Output& source = mounts_[slot].source.output();
    if (source) inputs.push_back(source.vertex.get());
  }
  return inputs;
}

absl::StatusOr<int64_t> ExecVertex::OutputIndex(int slot) const {
  if (!HasOutput(mounts_[slot])) {
    return absl::InvalidArgumentError(absl::StrCat(
        "mount ", mounts_[slot].target, " of [", absl::StrJoin(command_.args, " "),
        "] is read-only, a cache, a tmpfs or without output and can't be used as a parent"));
  }
  int64_t index = 0;
  for (int other = 0; other < static_cast<int>(mounts_.size()); ++other)
    index += Before(other, slot) && HasOutput(mounts_[other]) ? 1 : 0;
  return index;
}

absl::Status ExecVertex::Validate() const {
  KILN_RETURN_IF_ERROR(command_.error);
  if (command_.args.empty()) {
    return absl::InvalidArgumentError("arguments are required");
  }
  for (const MountInfo& mount : mounts_) {
    if (mount.target.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("mount of [", absl::StrJoin(command_.args, " "), "] has no target"));
    }
    if (mount.tmpfs && !mount.source.scratch()) {
      return absl::InvalidArgumentError(
          absl::StrCat("tmpfs mount ", mount.target, " must use scratch"));
    }
  }
  return absl::OkStatus();
}

void ExecVertex::WriteMeta(WireWriter& meta) const {
  const State::Settings& settings = base().settings();
  for (const std::string& arg : command_.args) meta.Item(1, arg);
  meta.Append(settings.env.wire());
  if (!command_.ssh.empty() && !settings.env.Has("SSH_AUTH_SOCK"))
    meta.Item(2, {"SSH_AUTH_SOCK=", SshTarget(command_.ssh[0], 0)});
  meta.Text(3, settings.dir).Text(4, settings.user);
  if (command_.proxy_env) {
    const ProxyEnv& proxy = *command_.proxy_env;
    meta.Message(5, [&] {
      meta.Text(1, proxy.http_proxy).Text(2, proxy.https_proxy).Text(3, proxy.ftp_proxy);
      meta.Text(4, proxy.no_proxy).Text(5, proxy.all_proxy);
    });
  }
  for (const HostIp& host : settings.extra_hosts)
    meta.Message(6, [&] { meta.Text(1, host.host).Text(2, host.ip); });
  meta.Text(7, settings.hostname);
  for (const Ulimit& limit : settings.ulimits)
    meta.Message(9, [&] { meta.Text(1, limit.name).Number(2, limit.soft).Number(3, limit.hard); });
  meta.Text(10, settings.cgroup_parent).Number(11, 1);  // removeMountStubsRecursive
  if (command_.valid_exit_codes.empty()) return;
  meta.Message(12, [&] {  // packed
    for (const int32_t code : command_.valid_exit_codes)
      meta.Varint(static_cast<uint64_t>(static_cast<int64_t>(code)));
  });
}

CapSet ExecVertex::Caps() const {
  CapSet caps = {"exec.meta.base"};
  if (command_.daemon_sets_path) caps.Add("exec.meta.setsdefaultpath");
  if (!command_.valid_exit_codes.empty()) caps.Add("exec.validexitcode");
  if (base().settings().network != NetMode::kSandbox) caps.Add("exec.meta.network");
  if (base().settings().security != SecurityMode::kSandbox) caps.Add("exec.meta.security");
  if (command_.proxy_env) caps.Add("exec.meta.proxyenv");
  if (traits_.metadata->linux_resources) caps.Add("exec.meta.linux.resources");
  for (const MountInfo& mount : mounts_) {
    if (!mount.selector.empty()) caps.Add("exec.mount.selector");
    if (!mount.cache_id.empty()) {
      caps.AddAll({"exec.mount.cache", "exec.mount.cache.sharing"});
    } else if (mount.tmpfs) {
      caps.Add("exec.mount.tmpfs");
      if (mount.tmpfs_size_bytes > 0) caps.Add("exec.mount.tmpfs.size");
    } else if (!mount.source.scratch()) {
      caps.Add("exec.mount.bind");
    }
    if (mount.content_cache != ContentCache::kDefault) caps.Add("exec.mount.cache.content");
  }
  if (!command_.secrets.empty()) caps.Add("exec.mount.secret");
  for (const SecretInfo& secret : command_.secrets) {
    if (secret.env) caps.Add("exec.secretenv");
  }
  if (!command_.ssh.empty()) caps.Add("exec.mount.ssh");
  if (!command_.cdi_devices.empty()) caps.Add("exec.meta.cdi");
  if (!base().settings().ulimits.empty()) caps.Add("exec.meta.ulimit");
  return caps;
}

void ExecVertex::WriteMount(const MountInfo& mount, int64_t input, int64_t output,
                            WireWriter& exec) const {
  exec.Message(2, [&] {
    exec.Number(1, input).Text(2, mount.selector).Text(3, mount.target).Number(4, output);
    exec.Number(5, mount.readonly);
    if (mount.tmpfs) {
      exec.Number(6, kTmpfsMount);
    } else if (!mount.cache_id.empty()) {
      exec.Number(6, kCacheMount);
    }
    if (mount.tmpfs) exec.Message(19, [&] { exec.Number(1, mount.tmpfs_size_bytes); });
    if (!mount.cache_id.empty()) {
      exec.Message(20, [&] {
        exec.Text(1, mount.cache_id).Number(2, static_cast<int>(mount.cache_sharing));
      });
    }
    exec.Number(24, static_cast<int>(mount.content_cache));
  });
}

// Secrets and SSH sockets follow the mounts; their output stays 0 as the Go client leaves it.
void ExecVertex::WriteSecretMounts(WireWriter& exec) const {
  for (const SecretInfo& secret : command_.secrets) {
    if (!secret.target) continue;
    exec.Message(2, [&] {
      exec.Number(1, kNoInput).Text(3, *secret.target).Number(6, kSecretMount);
      exec.Message(21, [&] {
        exec.Text(1, secret.id).Number(2, secret.uid).Number(3, secret.gid);
        exec.Number(4, secret.mode).Number(5, secret.optional);
      });
    });
  }
  for (size_t i = 0; i < command_.ssh.size(); ++i) {
    const SshInfo& ssh = command_.ssh[i];
    exec.Message(2, [&] {
      exec.Number(1, kNoInput).Text(3, SshTarget(ssh, i)).Number(6, kSshMount);
      exec.Message(22, [&] {
        exec.Text(1, ssh.id).Number(2, ssh.uid).Number(3, ssh.gid);
        exec.Number(4, ssh.mode).Number(5, ssh.optional);
      });
    });
  }
}

absl::StatusOr<Digest> ExecVertex::Write(GraphWriter& graph) const {
  KILN_RETURN_IF_ERROR(Validate());
  OpDraft op(graph);
  const Slots slots = SlotsByTarget();
  absl::InlinedVector<int64_t, 4> inputs;
  inputs.reserve(slots.size());
  for (const int slot : slots) {
    const State& source = mounts_[slot].source;
    inputs.push_back(kNoInput);
    if (!source.scratch()) {
      KILN_ASSIGN_OR_RETURN(inputs.back(), op.AddInput(source.output()));
    }
  }
  return op.Finish(OpKind::kExec, OnPlatform::kYes, traits_, Caps(), [&](WireWriter& exec) {
    exec.LargeMessage(1, [&] { WriteMeta(exec); });
    int64_t next_output = 0;
    for (size_t i = 0; i < slots.size(); ++i) {
      const MountInfo& mount = mounts_[slots[i]];
      WriteMount(mount, inputs[i], HasOutput(mount) ? next_output++ : kNoOutput, exec);
    }
    WriteSecretMounts(exec);
    exec.Number(3, static_cast<int>(base().settings().network));
    exec.Number(4, static_cast<int>(base().settings().security));
    for (const SecretInfo& secret : command_.secrets) {
      if (!secret.env) continue;
      exec.Message(
          5, [&] { exec.Text(1, secret.id).Text(2, *secret.env).Number(3, secret.optional); });
    }
    for (const CdiDevice& device : command_.cdi_devices)
      exec.Message(6, [&] { exec.Text(1, device.name).Number(2, device.optional); });
  });
}

}  // namespace kiln::client::llb
