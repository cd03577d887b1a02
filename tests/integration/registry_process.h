#pragma once

#include <string>

#include "absl/status/status.h"
#include "store/base/process.h"
#include "tests/integration/builds.h"

namespace kiln::integration {

// A distribution registry (docker-registry) on a loopback port, with nothing in it. Killed at the
// end.
class RegistryProcess {
 public:
  RegistryProcess();
  // Starts it and waits until it accepts.
  absl::Status Start();
  const std::string& host() const { return host_; }  // "127.0.0.1:PORT"

 private:
  TempDir dir_;
  std::string host_;
  Process process_;
};

}  // namespace kiln::integration
