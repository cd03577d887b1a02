#include "daemon/executor/seccomp.h"

#include <fcntl.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

using nlohmann::json;

// Names that an architecture lacks are ignored by the runtime.
constexpr char kFiles[] =
    "access cachestat chdir chmod chown chown32 chroot close close_range copy_file_range creat dup "
    "dup2 dup3 faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod "
    "fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr "
    "flock "
    "fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 "
    "futimesat getcwd getdents getdents64 getxattr getxattrat inotify_add_watch inotify_init "
    "inotify_init1 inotify_rm_watch ioctl lchown lchown32 lgetxattr link linkat listmount "
    "listxattr "
    "listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod "
    "mknodat name_to_handle_at newfstatat _newselect open openat openat2 pipe pipe2 pread64 preadv "
    "preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr "
    "removexattrat rename renameat renameat2 rmdir sendfile sendfile64 setxattr setxattrat splice "
    "stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs tee "
    "truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice "
    "write writev";

constexpr char kProcesses[] =
    "arch_prctl capget capset execve execveat exit exit_group fork get_robust_list "
    "get_thread_area getcpu getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups "
    "getgroups32 getpgid getpgrp getpid getppid getpriority getresgid getresgid32 getresuid "
    "getresuid32 getrlimit getrusage getsid gettid getuid getuid32 ioprio_get ioprio_set kill "
    "landlock_add_rule landlock_create_ruleset landlock_restrict_self membarrier modify_ldt nice "
    "pause pidfd_getfd pidfd_open pidfd_send_signal prctl prlimit64 process_mrelease "
    "process_vm_readv process_vm_writev ptrace restart_syscall rseq rt_sigaction rt_sigpending "
    "rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait "
    "rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min "
    "sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval "
    "sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam "
    "sched_setscheduler sched_yield seccomp set_robust_list set_thread_area set_tid_address "
    "setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer "
    "setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid "
    "setreuid32 setrlimit setsid setuid setuid32 sigaction sigaltstack signal sigpending "
    "sigprocmask sigreturn sigsuspend sysinfo tgkill times tkill ugetrlimit uname vfork wait4 "
    "waitid waitpid";

constexpr char kMemoryTimeAndWaiting[] =
    "alarm brk clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep "
    "clock_nanosleep_time64 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait "
    "epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 futex futex_requeue futex_time64 "
    "futex_wait futex_waitv futex_wake get_mempolicy getitimer getrandom gettimeofday io_cancel "
    "io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit "
    "lsm_get_self_attr lsm_list_modules madvise map_shadow_stack mbind memfd_create memfd_secret "
    "mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap mseal msync munlock munlockall "
    "munmap "
    "nanosleep pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 pselect6 "
    "pselect6_time64 remap_file_pages select set_mempolicy set_mempolicy_home_node signalfd "
    "signalfd4 time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 "
    "timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 "
    "timerfd_settime timerfd_settime64 uretprobe";

constexpr char kMessages[] =
    "accept accept4 bind connect getpeername getsockname getsockopt ipc listen mq_getsetattr "
    "mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 "
    "mq_unlink msgctl msgget msgrcv msgsnd recv recvfrom recvmmsg recvmmsg_time64 recvmsg semctl "
    "semget semop semtimedop semtimedop_time64 send sendmmsg sendmsg sendto setsockopt shmat "
    "shmctl shmdt shmget shutdown socketcall socketpair";

void AddNames(const char* text, std::vector<std::string>& names) {
  for (absl::string_view name : absl::StrSplit(text, ' ', absl::SkipEmpty()))
    names.emplace_back(name);
}

json Allow(std::vector<std::string> names) {
  return {{"names", std::move(names)}, {"action", "SCMP_ACT_ALLOW"}};
}

json AllowIf(const std::string& name, json conditions) {
  return {{"names", {name}}, {"action", "SCMP_ACT_ALLOW"}, {"args", std::move(conditions)}};
}

json Condition(int index, const char* op, uint64_t value, uint64_t value_two = 0) {
  return {{"index", index}, {"op", op}, {"value", value}, {"valueTwo", value_two}};
}

json Make() {
  std::vector<std::string> names;
  for (const char* group : {kFiles, kProcesses, kMemoryTimeAndWaiting, kMessages})
    AddNames(group, names);
  json rules = json::array({Allow(std::move(names))});

  // Execution domains that change nothing but the look of uname and the address layout
  // (personality(2)): PER_LINUX, PER_LINUX32, UNAME26, both, and the query.
  for (uint64_t domain : {0x0ull, 0x8ull, 0x20000ull, 0x20008ull, 0xffffffffull})
    rules.push_back(AllowIf("personality", json::array({Condition(0, "SCMP_CMP_EQ", domain)})));

  // No new namespaces: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET clear.
  constexpr uint64_t kNamespaceFlags = 0x7e020000;
  rules.push_back(
      AllowIf("clone", json::array({Condition(0, "SCMP_CMP_MASKED_EQ", kNamespaceFlags, 0)})));
  // A filter cannot read clone3's flags; ENOSYS makes libc fall back to clone.
  rules.push_back({{"names", {"clone3"}}, {"action", "SCMP_ACT_ERRNO"}, {"errnoRet", ENOSYS}});

  // Every address family but AF_ALG (38) and AF_VSOCK (40), which leads out of the sandbox.
  rules.push_back(AllowIf("socket", json::array({Condition(0, "SCMP_CMP_LT", 38)})));
  rules.push_back(AllowIf("socket", json::array({Condition(0, "SCMP_CMP_EQ", 39)})));
  rules.push_back(AllowIf("socket", json::array({Condition(0, "SCMP_CMP_GT", 40)})));

  json profile = {{"defaultAction", "SCMP_ACT_ERRNO"},
                  {"defaultErrnoRet", EPERM},
                  {"syscalls", std::move(rules)}};
#if defined(__x86_64__)
  profile["architectures"] = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"};
#elif defined(__aarch64__)
  profile["architectures"] = {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"};
#endif  // elsewhere the runtime adds the native one
  return profile;
}

struct ReleaseFilter {
  void operator()(scmp_filter_ctx context) const { seccomp_release(context); }
};
using Filter = std::unique_ptr<void, ReleaseFilter>;

absl::Status Failed(int code, absl::string_view doing) {
  return code == 0 ? absl::OkStatus() : ErrnoStatus(-code, absl::StrCat("seccomp: ", doing));
}

uint32_t ArchitectureOf(const std::string& name) {
  if (name == "SCMP_ARCH_X86_64") return SCMP_ARCH_X86_64;
  if (name == "SCMP_ARCH_X86") return SCMP_ARCH_X86;
  if (name == "SCMP_ARCH_X32") return SCMP_ARCH_X32;
  if (name == "SCMP_ARCH_AARCH64") return SCMP_ARCH_AARCH64;
  return SCMP_ARCH_ARM;
}

scmp_compare CompareOf(const std::string& name) {
  if (name == "SCMP_CMP_EQ") return SCMP_CMP_EQ;
  if (name == "SCMP_CMP_LT") return SCMP_CMP_LT;
  if (name == "SCMP_CMP_GT") return SCMP_CMP_GT;
  return SCMP_CMP_MASKED_EQ;
}

absl::Status AddRule(scmp_filter_ctx filter, const json& rule) {
  const uint32_t action = rule["action"] == "SCMP_ACT_ALLOW"
                              ? SCMP_ACT_ALLOW
                              : SCMP_ACT_ERRNO(rule.value("errnoRet", EPERM));
  std::vector<scmp_arg_cmp> conditions;
  if (rule.contains("args"))
    for (const json& one : rule["args"])
      conditions.push_back({one["index"].get<unsigned>(), CompareOf(one["op"]),
                            one["value"].get<uint64_t>(), one["valueTwo"].get<uint64_t>()});
  for (const std::string name : rule["names"]) {
    const int number = seccomp_syscall_resolve_name(name.c_str());
    if (number == __NR_SCMP_ERROR) continue;  // newer than the library: denied
    const int code = seccomp_rule_add_array(
        filter, action, number, static_cast<unsigned>(conditions.size()), conditions.data());
    // EDOM: not in every architecture of the filter, which is fine.
    if (code != -EDOM) KILN_RETURN_IF_ERROR(Failed(code, name));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Compile(const json& profile) {
  const Filter filter(seccomp_init(SCMP_ACT_ERRNO(EPERM)));
  if (filter == nullptr) return absl::ResourceExhaustedError("seccomp: no memory");
  for (const std::string& name : profile.value("architectures", std::vector<std::string>())) {
    const int code = seccomp_arch_add(filter.get(), ArchitectureOf(name));
    if (code != -EEXIST) KILN_RETURN_IF_ERROR(Failed(code, name));
  }
  // A binary tree: a system call passes some ten instructions, not hundreds.
  KILN_RETURN_IF_ERROR(
      Failed(seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2), "optimize"));
  for (const json& rule : profile["syscalls"]) KILN_RETURN_IF_ERROR(AddRule(filter.get(), rule));
  const Fd file(::memfd_create("seccomp", MFD_CLOEXEC));
  if (!file.valid()) return ErrnoStatus(errno, "memfd_create");
  KILN_RETURN_IF_ERROR(Failed(seccomp_export_bpf(filter.get(), file.get()), "export"));
  if (::lseek(file.get(), 0, SEEK_SET) != 0) return ErrnoStatus(errno, "lseek");
  KILN_ASSIGN_OR_RETURN(const std::string program, ReadAll(file.get()));
  return absl::Base64Escape(program);
}

}  // namespace

const absl::StatusOr<std::string>& DefaultSeccompProgram() {
  static const auto* const program =
      new absl::StatusOr<std::string>(Compile(DefaultSeccompProfile()));
  return *program;
}

const json& DefaultSeccompProfile() {
  static const json* const profile = new json(Make());
  return *profile;
}

}  // namespace kiln::daemon
