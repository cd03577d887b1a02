#include "daemon/ops/exec_plan.h"

#include <unistd.h>

#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "daemon/executor/foreign_programs.h"
#include "daemon/executor/rootfs.h"
#include "daemon/ops/exec_key.h"
#include "proto/buildkit/ops.pb.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr char kDefaultPath[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr int kMaxMounts = 10000;

absl::Status CheckShape(const pb::Op& op) {
  if (!op.has_exec()) return absl::InvalidArgumentError("invalid nil exec op");
  const pb::ExecOp& exec = op.exec();
  if (!exec.has_meta()) return absl::InvalidArgumentError("invalid exec op with no meta");
  if (exec.meta().args().empty()) return absl::InvalidArgumentError("invalid exec op with no args");
  if (exec.mounts().empty()) return absl::InvalidArgumentError("invalid exec op with no mounts");
  if (exec.mounts_size() > kMaxMounts)
    return absl::InvalidArgumentError(
        absl::StrCat("invalid exec op with ", exec.mounts_size(), " mounts"));
  for (const pb::Mount& mount : exec.mounts())
    if (mount.dest() == "/") return absl::OkStatus();
  return absl::InvalidArgumentError("invalid exec op with no rootfs");
}

absl::StatusOr<ExecPlan::MountType> TypeOf(const pb::Mount& mount) {
  switch (mount.mounttype()) {
    case pb::BIND:
      return ExecPlan::MountType::kBind;
    case pb::SECRET:
      return ExecPlan::MountType::kSecret;
    case pb::SSH:
      return ExecPlan::MountType::kSsh;
    case pb::CACHE:
      return ExecPlan::MountType::kCache;
    case pb::TMPFS:
      return ExecPlan::MountType::kTmpfs;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("mount type ", static_cast<int>(mount.mounttype()), " not implemented"));
  }
}

absl::Status TakeCacheOptions(const pb::Mount& in, ExecPlan::Mount& out) {
  if (!in.has_cacheopt()) return absl::InvalidArgumentError("missing cache mount options");
  out.cache_id = in.cacheopt().id().empty() ? in.dest() : in.cacheopt().id();
  switch (in.cacheopt().sharing()) {
    case pb::SHARED:
      out.sharing = ExecPlan::Sharing::kShared;
      return absl::OkStatus();
    case pb::PRIVATE:
      out.sharing = ExecPlan::Sharing::kPrivate;
      return absl::OkStatus();
    case pb::LOCKED:
      out.sharing = ExecPlan::Sharing::kLocked;
      return absl::OkStatus();
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("invalid cache sharing option ", static_cast<int>(in.cacheopt().sharing())));
  }
}

absl::Status TakeSecretOptions(const pb::Mount& in, ExecPlan::Mount& out) {
  if (!in.has_secretopt()) return absl::InvalidArgumentError("invalid secret mount options");
  const pb::SecretOpt& secret = in.secretopt();
  if (secret.id().empty())
    return absl::InvalidArgumentError("secret ID missing from mount options");
  out.secret = {secret.id(), secret.uid(), secret.gid(), secret.mode() & 0777, secret.optional()};
  return absl::OkStatus();
}

absl::StatusOr<ExecPlan::Mount> TakeMount(const pb::Mount& in, const std::string& cwd,
                                          int num_inputs) {
  ExecPlan::Mount out;
  KILN_ASSIGN_OR_RETURN(out.type, TypeOf(in));
  if (in.input() < -1 || in.input() >= num_inputs)
    return absl::InvalidArgumentError(absl::StrCat("invalid mountinput ", in.input(), " of mount ",
                                                   in.dest(), ", ", num_inputs, " inputs"));
  out.input = static_cast<int>(in.input());
  out.has_output = in.output() != -1;
  out.readonly = in.readonly();
  out.selector = CleanAbsolute(in.selector());
  out.is_root = in.dest() == "/";
  out.dest = CleanAbsolute(absl::StartsWith(in.dest(), "/") ? in.dest()
                                                            : absl::StrCat(cwd, "/", in.dest()));
  if (out.dest == "/" && !out.is_root)
    return absl::InvalidArgumentError(absl::StrCat("invalid mount destination ", in.dest()));
  if (out.is_root && out.type != ExecPlan::MountType::kBind)
    return absl::InvalidArgumentError(absl::StrCat(
        "invalid mount type ", pb::MountType_Name(in.mounttype()), " for ", in.dest()));
  if (out.type == ExecPlan::MountType::kCache) KILN_RETURN_IF_ERROR(TakeCacheOptions(in, out));
  if (out.type == ExecPlan::MountType::kSecret) KILN_RETURN_IF_ERROR(TakeSecretOptions(in, out));
  if (out.type == ExecPlan::MountType::kSsh) {
    if (!in.has_sshopt()) return absl::InvalidArgumentError("invalid ssh mount options");
    const pb::SSHOpt& ssh = in.sshopt();
    out.secret = {ssh.id(), ssh.uid(), ssh.gid(), ssh.mode() & 0777, ssh.optional()};
  }
  out.tmpfs_size = in.tmpfsopt().size();
  return out;
}

void AddProxyVariables(const pb::ProxyEnv& proxy, std::vector<std::string>& env) {
  const auto add = [&](absl::string_view upper, absl::string_view lower, absl::string_view value) {
    if (value.empty()) return;
    env.push_back(absl::StrCat(upper, "=", value));
    env.push_back(absl::StrCat(lower, "=", value));
  };
  add("HTTP_PROXY", "http_proxy", proxy.http_proxy());
  add("HTTPS_PROXY", "https_proxy", proxy.https_proxy());
  add("FTP_PROXY", "ftp_proxy", proxy.ftp_proxy());
  add("NO_PROXY", "no_proxy", proxy.no_proxy());
  add("ALL_PROXY", "all_proxy", proxy.all_proxy());
}

std::vector<std::string> Environment(const pb::Meta& meta) {
  std::vector<std::string> env(meta.env().begin(), meta.env().end());
  if (meta.has_proxy_env()) AddProxyVariables(meta.proxy_env(), env);
  for (const std::string& one : env)
    if (absl::StartsWith(one, "PATH=")) return env;
  env.push_back(kDefaultPath);
  return env;
}

absl::Status TakeMeta(const pb::Meta& meta, ExecPlan& plan) {
  plan.args.assign(meta.args().begin(), meta.args().end());
  plan.env = Environment(meta);
  plan.cwd = CleanAbsolute(meta.cwd());
  plan.user = meta.user();
  plan.hostname = meta.hostname();
  plan.cgroup_parent = meta.cgroupparent();
  for (const pb::HostIP& host : meta.extrahosts())
    plan.extra_hosts.emplace_back(host.host(), host.ip());
  for (const pb::Ulimit& one : meta.ulimit())
    plan.ulimits.push_back({one.name(), one.soft(), one.hard()});
  plan.remove_stubs_recursive = meta.removemountstubsrecursive();
  plan.valid_exit_codes.insert(meta.validexitcodes().begin(), meta.validexitcodes().end());
  if (plan.valid_exit_codes.empty()) plan.valid_exit_codes = {0};
  return absl::OkStatus();
}

absl::Status TakeModes(const pb::ExecOp& exec, ExecPlan& plan) {
  switch (exec.network()) {
    case pb::UNSET:
      break;
    case pb::HOST:
      plan.network = NetworkMode::kHost;
      break;
    case pb::NONE:
      plan.network = NetworkMode::kNone;
      break;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("unknown network mode ", static_cast<int>(exec.network())));
  }
  switch (exec.security()) {
    case pb::SANDBOX:
      break;
    case pb::INSECURE:
      plan.security = SecurityMode::kInsecure;
      break;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("invalid security mode ", static_cast<int>(exec.security())));
  }
  for (const pb::CDIDevice& device : exec.cdidevices())
    plan.devices.push_back({device.name(), device.optional()});
  return absl::OkStatus();
}

// buildkit-qemu-<name> on PATH, for a platform that the machine does not run itself.
std::string FindEmulator(const std::string& architecture) {
  static constexpr std::pair<const char*, const char*> kNames[] = {
      {"amd64", "x86_64"},      {"arm64", "aarch64"},      {"arm", "arm"},     {"386", "i386"},
      {"riscv64", "riscv64"},   {"ppc64le", "ppc64le"},    {"s390x", "s390x"}, {"mips64", "mips64"},
      {"mips64le", "mips64el"}, {"loong64", "loongarch64"}};
  std::string name;
  for (const auto& [go, qemu] : kNames)
    if (architecture == go) name = qemu;
  const char* path = std::getenv("PATH");
  if (name.empty() || path == nullptr) return "";
  for (absl::string_view dir : absl::StrSplit(path, ':', absl::SkipEmpty())) {
    std::string candidate = absl::StrCat(dir, "/buildkit-qemu-", name);
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return "";
}

}  // namespace

absl::StatusOr<ExecPlan> MakeExecPlan(const pb::Op& op) {
  KILN_RETURN_IF_ERROR(CheckShape(op));
  const pb::ExecOp& exec = op.exec();
  ExecPlan plan;
  KILN_RETURN_IF_ERROR(TakeMeta(exec.meta(), plan));
  KILN_RETURN_IF_ERROR(TakeModes(exec, plan));
  for (const pb::SecretEnv& one : exec.secretenv())
    plan.secret_env.push_back({one.id(), one.name(), one.optional()});
  for (const pb::Mount& mount : exec.mounts()) {
    KILN_ASSIGN_OR_RETURN(ExecPlan::Mount taken, TakeMount(mount, plan.cwd, op.inputs_size()));
    plan.mounts.push_back(std::move(taken));
  }
  const ExecPlatform platform = PlatformOf(op);
  const std::string native = NativeArchitecture();
  // 32-bit x86 programs run on an amd64 machine.
  if (platform.architecture != native && !(native == "amd64" && platform.architecture == "386")) {
    plan.foreign_architecture = platform.architecture;
    plan.emulator = FindEmulator(platform.architecture);
  }
  return plan;
}

std::string FailureText(const std::vector<std::string>& args) {
  std::string quoted;
  for (char c : absl::StrJoin(args, " ")) {
    switch (c) {
      case '"':
      case '\\':
        quoted.push_back('\\');
        quoted.push_back(c);
        break;
      case '\n':
        quoted += "\\n";
        break;
      case '\t':
        quoted += "\\t";
        break;
      case '\r':
        quoted += "\\r";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
          absl::StrAppendFormat(&quoted, "\\x%02x", static_cast<unsigned char>(c));
        else
          quoted.push_back(c);
    }
  }
  return absl::StrCat("process \"", quoted, "\" did not complete successfully");
}

}  // namespace kiln::daemon
