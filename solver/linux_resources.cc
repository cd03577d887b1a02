#include "solver/linux_resources.h"

#include <algorithm>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/buildkit/ops.pb.h"

namespace kiln::solver {
namespace {

constexpr int kMaxCpu = 1 << 16;

// Inserts the members of a cpuset list such as "0-3,8". False when it is malformed.
bool ReadCpuset(absl::string_view list, std::set<int>* members) {
  for (absl::string_view part : absl::StrSplit(list, ',', absl::SkipWhitespace())) {
    const std::pair<absl::string_view, absl::string_view> ends =
        absl::StrSplit(part, absl::MaxSplits('-', 1));
    int first = 0;
    if (!absl::SimpleAtoi(ends.first, &first)) return false;
    int last = first;
    if (!ends.second.empty() && !absl::SimpleAtoi(ends.second, &last)) return false;
    if (first < 0 || last >= kMaxCpu || first > last) return false;
    for (int cpu = first; cpu <= last; ++cpu) members->insert(cpu);
  }
  return true;
}

// Empty means "all" and wins; a list that cannot be read is kept as it is for the kernel to refuse.
std::string MergeCpusets(const std::string& a, const std::string& b) {
  if (a.empty() || b.empty()) return "";
  if (a == b) return a;
  std::set<int> members;
  if (!ReadCpuset(a, &members)) return a;
  if (!ReadCpuset(b, &members)) return b;
  std::string out;
  for (auto it = members.begin(); it != members.end();) {
    const int first = *it;
    int last = first;
    while (++it != members.end() && *it == last + 1) last = *it;
    absl::StrAppend(&out, out.empty() ? "" : ",", first);
    if (last != first) absl::StrAppend(&out, "-", last);
  }
  return out;
}

int64_t MergeMemory(int64_t a, int64_t b) { return a == 0 || b == 0 ? 0 : std::max(a, b); }

int64_t MergeSwap(int64_t a, int64_t b) {
  if (a == -1 || b == -1) return -1;
  return std::max(a, b);  // 0 is unset: the other one counts
}

double CpuShare(const pb::LinuxResources& r) {
  const uint64_t period = r.cpuperiod() == 0 ? 100'000 : r.cpuperiod();
  return static_cast<double>(r.cpuquota()) / static_cast<double>(period);
}

void MergeInto(const pb::LinuxResources& b, pb::LinuxResources* a) {
  a->set_memory(MergeMemory(a->memory(), b.memory()));
  a->set_memoryswap(MergeSwap(a->memoryswap(), b.memoryswap()));
  a->set_cpushares(std::max(a->cpushares(), b.cpushares()));
  if (a->cpuquota() <= 0 || b.cpuquota() <= 0) {
    if (a->cpuquota() > 0) a->set_cpuperiod(b.cpuperiod());
    a->set_cpuquota(0);
  } else if (CpuShare(b) > CpuShare(*a)) {
    a->set_cpuquota(b.cpuquota());
    a->set_cpuperiod(b.cpuperiod());
  }
  a->set_cpusetcpus(MergeCpusets(a->cpusetcpus(), b.cpusetcpus()));
  a->set_cpusetmems(MergeCpusets(a->cpusetmems(), b.cpusetmems()));
}

}  // namespace

std::string MergeLinuxResources(absl::Span<const std::string> each) {
  pb::LinuxResources merged;
  bool any = false;
  for (const std::string& bytes : each) {
    pb::LinuxResources next;
    if (bytes.empty() || !next.ParseFromString(bytes)) continue;
    if (any) {
      MergeInto(next, &merged);
    } else {
      merged = std::move(next);
      any = true;
    }
  }
  return any ? merged.SerializeAsString() : "";
}

}  // namespace kiln::solver
