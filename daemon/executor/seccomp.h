#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "absl/status/statusor.h"

namespace kiln::daemon {

// The system call filter of a sandboxed step, as linux.seccomp of an OCI config: what programs and
// build tools use is allowed; everything else fails with EPERM. Left out on purpose: changing the
// machine (time, modules, kexec, swap, mounts, quotas), other namespaces, and interfaces with a
// record of kernel holes (bpf, io_uring, userfaultfd, keyrings, perf, AF_VSOCK, AF_ALG).
// Thread-safe; made once.
const nlohmann::json& DefaultSeccompProfile();

// The same as a compiled classic BPF program, base64. Compiling takes some 15 ms, which a runtime
// that is given the profile spends for each step; crun takes the program instead (annotation
// run.oci.seccomp_bpf_data). Thread-safe; made once.
const absl::StatusOr<std::string>& DefaultSeccompProgram();

}  // namespace kiln::daemon
