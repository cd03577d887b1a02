#pragma once

#include <nlohmann/json_fwd.hpp>

namespace kiln::daemon {

// The system call filter of a sandboxed step, as linux.seccomp of an OCI config: what programs and
// build tools use is allowed; everything else fails with EPERM. Left out on purpose: changing the
// machine (time, modules, kexec, swap, mounts, quotas), other namespaces, and interfaces with a
// record of kernel holes (bpf, io_uring, userfaultfd, keyrings, perf, AF_VSOCK, AF_ALG).
// Thread-safe; made once.
const nlohmann::json& DefaultSeccompProfile();

}  // namespace kiln::daemon
