#include "daemon/executor/oci_spec.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/executor/rootfs.h"
#include "daemon/executor/seccomp.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

using nlohmann::json;

const std::vector<std::string>& SandboxCapabilities() {
  static const auto* const names = new std::vector<std::string>{
      "CAP_CHOWN",   "CAP_DAC_OVERRIDE", "CAP_FSETID",           "CAP_FOWNER",
      "CAP_MKNOD",   "CAP_NET_RAW",      "CAP_SETGID",           "CAP_SETUID",
      "CAP_SETFCAP", "CAP_SETPCAP",      "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT",
      "CAP_KILL",    "CAP_AUDIT_WRITE"};
  return *names;
}

// Capability numbers in order (linux/capability.h).
constexpr const char* kCapabilityNames[] = {"CAP_CHOWN",
                                            "CAP_DAC_OVERRIDE",
                                            "CAP_DAC_READ_SEARCH",
                                            "CAP_FOWNER",
                                            "CAP_FSETID",
                                            "CAP_KILL",
                                            "CAP_SETGID",
                                            "CAP_SETUID",
                                            "CAP_SETPCAP",
                                            "CAP_LINUX_IMMUTABLE",
                                            "CAP_NET_BIND_SERVICE",
                                            "CAP_NET_BROADCAST",
                                            "CAP_NET_ADMIN",
                                            "CAP_NET_RAW",
                                            "CAP_IPC_LOCK",
                                            "CAP_IPC_OWNER",
                                            "CAP_SYS_MODULE",
                                            "CAP_SYS_RAWIO",
                                            "CAP_SYS_CHROOT",
                                            "CAP_SYS_PTRACE",
                                            "CAP_SYS_PACCT",
                                            "CAP_SYS_ADMIN",
                                            "CAP_SYS_BOOT",
                                            "CAP_SYS_NICE",
                                            "CAP_SYS_RESOURCE",
                                            "CAP_SYS_TIME",
                                            "CAP_SYS_TTY_CONFIG",
                                            "CAP_MKNOD",
                                            "CAP_LEASE",
                                            "CAP_AUDIT_WRITE",
                                            "CAP_AUDIT_CONTROL",
                                            "CAP_SETFCAP",
                                            "CAP_MAC_OVERRIDE",
                                            "CAP_MAC_ADMIN",
                                            "CAP_SYSLOG",
                                            "CAP_WAKE_ALARM",
                                            "CAP_BLOCK_SUSPEND",
                                            "CAP_AUDIT_READ",
                                            "CAP_PERFMON",
                                            "CAP_BPF",
                                            "CAP_CHECKPOINT_RESTORE"};

// What this process itself may: nobody can give more.
std::vector<std::string> OwnCapabilities() {
  uint64_t bits = 0;
  const std::string status = ReadFileToString("/proc/self/status").value_or("");
  for (absl::string_view line : absl::StrSplit(status, '\n')) {
    if (!absl::ConsumePrefix(&line, "CapEff:")) continue;
    bits = std::strtoull(std::string(absl::StripAsciiWhitespace(line)).c_str(), nullptr, 16);
  }
  std::vector<std::string> names;
  for (size_t i = 0; i < std::size(kCapabilityNames); ++i)
    if ((bits >> i) & 1) names.emplace_back(kCapabilityNames[i]);
  return names;
}

json Mount(const char* destination, const char* type, const std::string& source, json options) {
  return {{"destination", destination},
          {"type", type},
          {"source", source},
          {"options", std::move(options)}};
}

json BaseMounts(const ProcessSpec& spec, const OciParameters& p) {
  const bool insecure = spec.security == SecurityMode::kInsecure;
  const char* const access = insecure ? "rw" : "ro";
  json mounts = json::array();
  mounts.push_back(Mount("/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}));
  mounts.push_back(
      Mount("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}));
  mounts.push_back(
      Mount("/dev/pts", "devpts", "devpts",
            {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}));
  mounts.push_back(
      Mount("/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}));
  mounts.push_back(Mount("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}));
  mounts.push_back(Mount("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", access}));
  mounts.push_back(
      Mount("/sys/fs/cgroup", "cgroup", "cgroup", {access, "nosuid", "noexec", "nodev"}));
  const json file_options = {"nosuid", "noexec", "nodev", "rbind", "ro"};
  mounts.push_back(Mount("/etc/resolv.conf", "bind", p.resolv_conf_file, file_options));
  mounts.push_back(Mount("/etc/hosts", "bind", p.hosts_file, file_options));
  return mounts;
}

// A step's mount takes the place of a default one with the same destination; else it comes after.
void AddStepMounts(const ProcessSpec& spec, json& mounts) {
  std::map<std::string, size_t> position;
  for (size_t i = 0; i < mounts.size(); ++i) position[mounts[i]["destination"]] = i;
  for (const ContainerMount& one : spec.mounts) {
    json mount = Mount(one.dest.c_str(), one.type.c_str(),
                       one.type == "tmpfs" ? "tmpfs" : one.source, one.options);
    if (one.type == "bind") mount["options"].push_back("rbind");
    auto [it, added] = position.emplace(one.dest, mounts.size());
    if (added)
      mounts.push_back(std::move(mount));
    else
      mounts[it->second] = std::move(mount);
  }
}

json Device(const char* type, int64_t major, int64_t minor, const char* access) {
  json rule = {{"allow", true}, {"type", type}, {"access", access}};
  if (major >= 0) rule["major"] = major;
  if (minor >= 0) rule["minor"] = minor;
  return rule;
}

json DeviceRules(bool insecure) {
  if (insecure) return json::array({{{"allow", true}, {"access", "rwm"}}});
  json rules = json::array({{{"allow", false}, {"access", "rwm"}}});
  // Nodes may be made, not opened: package managers unpack them.
  rules.push_back(Device("c", -1, -1, "m"));
  rules.push_back(Device("b", -1, -1, "m"));
  // null, zero, full, random, urandom, tty, console, ptmx, pts
  for (auto [major, minor] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}, {136, -1}})
    rules.push_back(Device("c", major, minor, "rwm"));
  return rules;
}

// Devices that tools run with SecurityMode::kInsecure commonly want, where the machine has them.
json InsecureDevices() {
  std::vector<std::string> paths = {"/dev/kmsg", "/dev/cuse",    "/dev/fuse",
                                    "/dev/kvm",  "/dev/net/tun", "/dev/loop-control"};
  for (int i = 0; i < 8; ++i) paths.push_back(absl::StrCat("/dev/loop", i));
  json devices = json::array();
  for (const std::string& path : paths) {
    struct stat st;
    if (::stat(path.c_str(), &st) != 0 || !(S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))) continue;
    devices.push_back({{"path", path},
                       {"type", S_ISCHR(st.st_mode) ? "c" : "b"},
                       {"major", major(st.st_rdev)},
                       {"minor", minor(st.st_rdev)},
                       {"fileMode", st.st_mode & 07777},
                       {"uid", st.st_uid},
                       {"gid", st.st_gid}});
  }
  return devices;
}

// The nodes that the step was given, and the rules that let it open them.
absl::Status AddDevices(const ProcessSpec& spec, const OciParameters& p, json& linux_part) {
  for (const DeviceNode& node : spec.devices) {
    std::string type = node.type;
    int64_t major_number = node.major, minor_number = node.minor;
    json device = {{"path", node.path}};
    if (type.empty() || (major_number == 0 && type != "p")) {
      const std::string& host = node.host_path.empty() ? node.path : node.host_path;
      struct stat st;
      if (::stat(host.c_str(), &st) != 0) return ErrnoStatus(errno, absl::StrCat("device ", host));
      const std::string found = S_ISCHR(st.st_mode)    ? "c"
                                : S_ISBLK(st.st_mode)  ? "b"
                                : S_ISFIFO(st.st_mode) ? "p"
                                                       : "";
      if (found.empty() || (!type.empty() && (type == "u" ? "c" : type) != found))
        return absl::InvalidArgumentError(absl::StrCat("device ", host, " is no device node",
                                                       type.empty() ? "" : " of type ", type));
      if (type.empty()) type = found;
      major_number = major(st.st_rdev);
      minor_number = minor(st.st_rdev);
      device["fileMode"] = st.st_mode & 07777;
    }
    device["type"] = type;
    if (type != "p") {
      device["major"] = major_number;
      device["minor"] = minor_number;
    }
    if (node.mode.has_value()) device["fileMode"] = *node.mode & 07777;
    // A step's user owns its devices, as with other tools of the Container Device Interface.
    if (const uint32_t uid = node.uid.value_or(p.user.uid); node.uid || uid != 0)
      device["uid"] = uid;
    if (const uint32_t gid = node.gid.value_or(p.user.gid); node.gid || gid != 0)
      device["gid"] = gid;
    json& devices = linux_part["devices"];
    if (devices.is_null()) devices = json::array();
    devices.erase(std::remove_if(devices.begin(), devices.end(),
                                 [&](const json& one) { return one["path"] == node.path; }),
                  devices.end());
    devices.push_back(std::move(device));
    if (type == "b" || type == "c" || type == "u")
      linux_part["resources"]["devices"].push_back(
          Device(type == "b" ? "b" : "c", major_number, minor_number, node.access.c_str()));
  }
  return absl::OkStatus();
}

json Hooks(const std::vector<RuntimeHook>& hooks) {
  json out = json::object();
  for (const RuntimeHook& hook : hooks) {
    json one = {{"path", hook.path}};
    if (!hook.args.empty()) one["args"] = hook.args;
    if (!hook.env.empty()) one["env"] = hook.env;
    if (hook.timeout_seconds.has_value()) one["timeout"] = *hook.timeout_seconds;
    out[hook.point].push_back(std::move(one));
  }
  return out;
}

json Resources(const ProcessSpec& spec, const OciParameters& p) {
  json resources = {{"devices", DeviceRules(spec.security == SecurityMode::kInsecure)}};
  if (!spec.resources.has_value()) return resources;
  const LinuxResources& r = *spec.resources;
  if (!p.memory_limit_outside) {
    if (r.memory_bytes != 0) resources["memory"]["limit"] = r.memory_bytes;
    if (r.memory_swap_bytes != 0) resources["memory"]["swap"] = r.memory_swap_bytes;
  }
  if (r.cpu_shares != 0) resources["cpu"]["shares"] = r.cpu_shares;
  if (r.cpu_quota_us != 0) resources["cpu"]["quota"] = r.cpu_quota_us;
  if (r.cpu_period_us != 0) resources["cpu"]["period"] = r.cpu_period_us;
  if (!r.cpuset_cpus.empty()) resources["cpu"]["cpus"] = r.cpuset_cpus;
  if (!r.cpuset_mems.empty()) resources["cpu"]["mems"] = r.cpuset_mems;
  return resources;
}

json Namespaces(const OciParameters& p) {
  json namespaces =
      json::array({{{"type", "pid"}}, {{"type", "ipc"}}, {{"type", "uts"}}, {{"type", "mount"}}});
  if (p.cgroup_namespace) namespaces.push_back({{"type", "cgroup"}});
  if (!p.network_namespace.empty())
    namespaces.push_back({{"type", "network"}, {"path", p.network_namespace}});
  else if (p.own_network)
    namespaces.push_back({{"type", "network"}});
  return namespaces;
}

json Linux(const ProcessSpec& spec, const OciParameters& p) {
  json linux_part = {{"namespaces", Namespaces(p)},
                     {"resources", Resources(spec, p)},
                     {"cgroupsPath", p.cgroup_path}};
  if (spec.security == SecurityMode::kInsecure) {
    linux_part["devices"] = InsecureDevices();
    return linux_part;
  }
  linux_part["maskedPaths"] = {
      "/proc/acpi",       "/proc/asound",      "/proc/interrupts",
      "/proc/kcore",      "/proc/keys",        "/proc/latency_stats",
      "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
      "/proc/scsi",       "/sys/firmware",     "/sys/devices/virtual/powercap"};
  linux_part["readonlyPaths"] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                 "/proc/sysrq-trigger"};
  if (!p.compiled_seccomp) linux_part["seccomp"] = DefaultSeccompProfile();
  return linux_part;
}

json Capabilities(SecurityMode mode) {
  const std::vector<std::string> names =
      mode == SecurityMode::kInsecure ? OwnCapabilities() : SandboxCapabilities();
  return {{"bounding", names}, {"effective", names}, {"permitted", names}};
}

// exec(2) gives a program each variable it is told, but shells and libc disagree on which of two
// equal names counts: the last one is kept, in the first one's place.
//
// HOME is filled in here: left to the runtime, it would open the root's /etc/passwd, and hang where
// that is a fifo.
std::vector<std::string> Environment(std::vector<std::string> env, const std::string& home) {
  bool has_home = false;
  for (const std::string& one : env) has_home = has_home || absl::StartsWith(one, "HOME=");
  if (!has_home) env.push_back(absl::StrCat("HOME=", home));
  std::vector<std::string> out;
  std::map<std::string, size_t, std::less<>> position;
  for (const std::string& one : env) {
    const size_t equals = one.find('=');
    if (equals == std::string::npos) continue;
    auto [it, added] = position.emplace(one.substr(0, equals), out.size());
    if (added)
      out.push_back(one);
    else
      out[it->second] = one;
  }
  return out;
}

absl::StatusOr<json> Limits(const std::vector<Ulimit>& ulimits) {
  static const auto* const known = new std::set<std::string>{
      "AS",   "CORE",   "CPU",   "DATA", "FSIZE",  "LOCKS",  "MEMLOCK",    "MSGQUEUE",
      "NICE", "NOFILE", "NPROC", "RSS",  "RTPRIO", "RTTIME", "SIGPENDING", "STACK"};
  json limits = json::array();
  std::set<std::string> seen;
  for (const Ulimit& one : ulimits) {
    const std::string name = absl::AsciiStrToUpper(one.name);
    if (!known->contains(name))
      return absl::InvalidArgumentError(absl::StrCat("invalid ulimit name ", one.name));
    if (!seen.insert(name).second)
      return absl::InvalidArgumentError(absl::StrCat("ulimit ", one.name, " is given twice"));
    limits.push_back({{"type", absl::StrCat("RLIMIT_", name)},
                      {"soft", static_cast<uint64_t>(one.soft)},  // -1: no limit
                      {"hard", static_cast<uint64_t>(one.hard)}});
  }
  return limits;
}

absl::Status CheckText(const std::vector<std::string>& texts, absl::string_view what) {
  for (size_t i = 0; i < texts.size(); ++i)
    if (texts[i].find('\0') != std::string::npos)
      return absl::InvalidArgumentError(absl::StrCat(what, " ", i, " contains a NUL byte"));
  return absl::OkStatus();
}

absl::StatusOr<json> ProcessPart(const ProcessSpec& spec, const OciParameters& p) {
  if (spec.args.empty() || spec.args[0].empty())
    return absl::InvalidArgumentError("no program to run");
  KILN_RETURN_IF_ERROR(CheckText(spec.args, "argument"));
  KILN_RETURN_IF_ERROR(CheckText(spec.env, "environment variable"));
  KILN_ASSIGN_OR_RETURN(json limits, Limits(spec.ulimits));
  std::vector<uint32_t> groups(p.user.groups.begin(), p.user.groups.end());
  for (uint32_t group : spec.groups)
    if (std::find(groups.begin(), groups.end(), group) == groups.end()) groups.push_back(group);
  json process = {
      {"terminal", p.terminal},
      {"user",
       {{"uid", p.user.uid}, {"gid", p.user.gid}, {"additionalGids", groups}, {"umask", 022}}},
      {"args", spec.args},
      {"env", Environment(spec.env, p.user.home)},
      {"cwd", p.cwd},
      {"capabilities", Capabilities(spec.security)},
      {"noNewPrivileges", false}};
  if (!limits.empty()) process["rlimits"] = std::move(limits);
  return process;
}

absl::StatusOr<std::string> ToText(const json& value) {
  try {
    return value.dump();
  } catch (const json::exception&) {
    return absl::InvalidArgumentError(
        "an argument, environment variable or path of the step is not valid UTF-8");
  }
}

}  // namespace

absl::StatusOr<std::string> MakeOciProcess(const ProcessSpec& spec, const OciParameters& p) {
  KILN_ASSIGN_OR_RETURN(const json process, ProcessPart(spec, p));
  return ToText(process);
}

absl::StatusOr<std::string> MakeOciConfig(const ProcessSpec& spec, const OciParameters& p) {
  KILN_ASSIGN_OR_RETURN(json process, ProcessPart(spec, p));
  json mounts = BaseMounts(spec, p);
  AddStepMounts(spec, mounts);
  json config = {{"ociVersion", "1.0.2"},
                 {"process", std::move(process)},
                 {"root", {{"path", spec.rootfs}, {"readonly", spec.rootfs_readonly}}},
                 {"hostname", spec.hostname.empty() ? "buildkitsandbox" : spec.hostname},
                 {"mounts", std::move(mounts)},
                 {"linux", Linux(spec, p)}};
  KILN_RETURN_IF_ERROR(AddDevices(spec, p, config["linux"]));
  if (!spec.hooks.empty()) config["hooks"] = Hooks(spec.hooks);
  if (p.compiled_seccomp && spec.security == SecurityMode::kSandbox) {
    KILN_ASSIGN_OR_RETURN(const std::string program, DefaultSeccompProgram());
    config["annotations"] = {{"run.oci.seccomp_bpf_data", program}};
    config["linux"]["seccomp"] = {{"defaultAction", "SCMP_ACT_ERRNO"}};
  }
  return ToText(config);
}

}  // namespace kiln::daemon
