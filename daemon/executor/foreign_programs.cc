#include "daemon/executor/foreign_programs.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "spdlog/spdlog.h"
#include "store/base/fd.h"
#include "store/base/process.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr absl::Duration kBelieved = absl::Seconds(20);

struct Machine {
  const char* architecture;  // as Go names it
  uint16_t elf_machine;
  uint32_t elf_flags;
  bool wide, big_endian;
  std::vector<uint8_t> code;  // exit(0)
};

// In the order in which workers list them.
const std::vector<Machine>& Machines() {
  static const auto* const kMachines = new std::vector<Machine>{
      {"amd64", 62, 0, true, false, {0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05}},
      // mov x0, 0; mov x8, 93; svc 0
      {"arm64", 183, 0, true, false, {0, 0, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 1, 0, 0, 0xd4}},
      // li a0, 0; li a7, 93; ecall
      {"riscv64", 243, 4, true, false, {0x13, 5, 0, 0, 0x93, 8, 0xd0, 5, 0x73, 0, 0, 0}},
      // li 0, 1; li 3, 0; sc
      {"ppc64le", 21, 2, true, false, {1, 0, 0, 0x38, 0, 0, 0x60, 0x38, 2, 0, 0, 0x44}},
      // lghi %r2, 0; svc 1
      {"s390x", 22, 0, true, true, {0xa7, 0x29, 0, 0, 0x0a, 1}},
      // xor ebx, ebx; mov eax, 1; int 0x80
      {"386", 3, 0, false, false, {0x31, 0xdb, 0xb8, 1, 0, 0, 0, 0xcd, 0x80}},
      // daddiu v0, zero, 5058; move a0, zero; syscall
      {"mips64le",
       8,
       0x80000000,
       true,
       false,
       {0xc2, 0x13, 2, 0x64, 0x25, 0x20, 0, 0, 12, 0, 0, 0}},
      {"mips64", 8, 0x80000000, true, true, {0x64, 2, 0x13, 0xc2, 0, 0, 0x20, 0x25, 0, 0, 0, 12}},
      // li a7, 93; li a0, 0; syscall 0
      {"loong64", 258, 3, true, false, {0x0b, 0x74, 0x81, 3, 4, 0, 0x80, 3, 0, 0, 0x2b, 0}},
      // mov r0, 0; mov r7, 1; svc 0
      {"arm",
       40,
       0x05000000,
       false,
       false,
       {0, 0, 0xa0, 0xe3, 1, 0x70, 0xa0, 0xe3, 0, 0, 0, 0xef}}};
  return *kMachines;
}

// Bytes of an ELF file in the machine's order and width (gABI, chapters 4 and 5).
class ElfBytes {
 public:
  explicit ElfBytes(const Machine& machine) : machine_(machine) {}
  void Add(uint64_t value, int size) {
    for (int i = 0; i < size; ++i) {
      const int shift = 8 * (machine_.big_endian ? size - 1 - i : i);
      out_.push_back(static_cast<char>(value >> shift & 0xff));
    }
  }
  void AddAddress(uint64_t value) { Add(value, machine_.wide ? 8 : 4); }
  std::string& out() { return out_; }

 private:
  const Machine& machine_;
  std::string out_;
};

// A program that does nothing but end well.
std::string Program(const Machine& machine) {
  constexpr uint64_t kLoadAt = 0x10000;  // what every kernel lets a program map
  const uint64_t header = machine.wide ? 64 : 52, segment = machine.wide ? 56 : 32;
  const uint64_t start = header + segment, end = start + machine.code.size();
  ElfBytes elf(machine);
  elf.out() =
      "\x7f"
      "ELF";
  elf.out() += machine.wide ? '\2' : '\1';
  elf.out() += machine.big_endian ? '\2' : '\1';
  elf.out() += '\1';
  elf.out().resize(16, '\0');
  elf.Add(2, 2);  // an executable
  elf.Add(machine.elf_machine, 2);
  elf.Add(1, 4);
  elf.AddAddress(kLoadAt + start);
  elf.AddAddress(header);  // of the segments
  elf.AddAddress(0);       // no sections
  elf.Add(machine.elf_flags, 4);
  elf.Add(header, 2);
  elf.Add(segment, 2);
  elf.Add(1, 2);
  elf.Add(0, 2);
  elf.Add(0, 2);
  elf.Add(0, 2);
  constexpr uint64_t kLoad = 1, kReadAndRun = 5;
  elf.Add(kLoad, 4);
  if (machine.wide) elf.Add(kReadAndRun, 4);
  elf.AddAddress(0);
  elf.AddAddress(kLoadAt);
  elf.AddAddress(kLoadAt);
  elf.AddAddress(end);
  elf.AddAddress(end);
  if (!machine.wide) elf.Add(kReadAndRun, 4);
  elf.AddAddress(0x1000);
  elf.out().append(machine.code.begin(), machine.code.end());
  return std::move(elf.out());
}

bool EndsWell(std::vector<std::string> args) {
  ProcessOptions options;
  options.args = std::move(args);
  absl::StatusOr<Process> process = Process::Start(options);
  if (!process.ok()) return false;
  const absl::StatusOr<ExitStatus> exit = process->Wait(CancelToken());
  return exit.ok() && exit->ok();
}

absl::Status WritePrograms(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return absl::UnavailableError(absl::StrCat("make ", folder, ": ", error.message()));
  for (const Machine& machine : Machines()) {
    const std::string path = absl::StrCat(folder, "/", machine.architecture);
    const std::string program = Program(machine);
    if (ReadFileToString(path).value_or("") == program) continue;
    // Not in place: a file that is open for writing anywhere does not run.
    ::unlink(path.c_str());
    KILN_ASSIGN_OR_RETURN(const Fd fd, OpenFile(path, O_WRONLY | O_CREAT | O_EXCL, 0755));
    KILN_RETURN_IF_ERROR(WriteAll(fd.get(), program));
  }
  return absl::OkStatus();
}

}  // namespace

std::string NativeArchitecture() {
#if defined(__x86_64__)
  return "amd64";
#elif defined(__aarch64__)
  return "arm64";
#elif defined(__riscv) && __riscv_xlen == 64
  return "riscv64";
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
  return "ppc64le";
#elif defined(__s390x__)
  return "s390x";
#else
#error "name this machine's architecture as Go does"
#endif
}

ForeignPrograms::ForeignPrograms(std::string folder) : folder_(std::move(folder)) {
  const absl::Status status = WritePrograms(folder_);
  if (!status.ok()) spdlog::warn("emulated platforms are not found: {}", status.ToString());
}

bool ForeignPrograms::Try(const std::string& architecture) const {
  // Mostly there is none, and the first attempt fails at once.
  return EndsWell({absl::StrCat(folder_, "/", architecture)}) &&
         EndsWell({"chroot", folder_, absl::StrCat("/", architecture)});
}

bool ForeignPrograms::Runs(absl::string_view architecture) {
  for (const Machine& machine : Machines()) {
    if (machine.architecture != architecture) continue;
    const bool runs = Try(machine.architecture);
    MutexLock lock(&mu_);
    if (runs)
      running_.insert(machine.architecture);
    else
      running_.erase(machine.architecture);
    return runs;
  }
  return false;
}

std::vector<std::string> ForeignPrograms::Architectures() {
  bool try_now = false;
  {
    MutexLock lock(&mu_);
    try_now = absl::Now() - tried_at_ > kBelieved;
    if (try_now) tried_at_ = absl::Now();
  }
  std::vector<std::string> out;
  for (const Machine& machine : Machines()) {
    if (machine.architecture == NativeArchitecture()) continue;
    bool runs = false;
    {
      MutexLock lock(&mu_);
      runs = running_.count(machine.architecture) != 0;
    }
    if (runs || (try_now && Runs(machine.architecture))) out.push_back(machine.architecture);
  }
  return out;
}

std::vector<std::string> WorkerPlatforms(ForeignPrograms& foreign) {
  std::vector<std::string> out = {"linux/" + NativeArchitecture()};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("x86-64-v2")) out.push_back("linux/amd64/v2");
  if (__builtin_cpu_supports("x86-64-v3")) out.push_back("linux/amd64/v3");
  if (__builtin_cpu_supports("x86-64-v4")) out.push_back("linux/amd64/v4");
#endif
  for (const std::string& architecture : foreign.Architectures()) {
    if (architecture == "arm") {
      out.insert(out.end(), {"linux/arm/v7", "linux/arm/v6"});
    } else {
      out.push_back(absl::StrCat("linux/", architecture));
    }
  }
  return out;
}

}  // namespace kiln::daemon
