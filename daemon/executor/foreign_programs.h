#pragma once

#include <set>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

// GOARCH of this machine.
std::string NativeArchitecture();

// Which other machines' programs run here: the kernel hands them to an emulator that binfmt_misc
// names, or runs them itself (32-bit x86). Found out by running one of some 100 bytes for each
// architecture, in a root of its own, as steps have; so an emulator counts only if it is found from
// there (flag F, "fix binary"), and /proc/sys/fs/binfmt_misc need not be mounted.
//
// Thread-safe; calls block while programs run: 0.1 ms each where there is no emulator.
class ForeignPrograms {
 public:
  // `folder` is made; programs must be allowed to run from it.
  explicit ForeignPrograms(std::string folder);
  ForeignPrograms(const ForeignPrograms&) = delete;
  ForeignPrograms& operator=(const ForeignPrograms&) = delete;

  // `architecture` as Go names it; tried now. False for unknown ones.
  bool Runs(absl::string_view architecture);
  // All that run, without this machine's own, in a fixed order. What ran once is believed until
  // Runs finds otherwise, what did not is tried again after 20 s.
  std::vector<std::string> Architectures();

 private:
  bool Try(const std::string& architecture) const;

  const std::string folder_;
  Mutex mu_;
  std::set<std::string> running_ ABSL_GUARDED_BY(mu_);
  absl::Time tried_at_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
};

// "linux/amd64" and what else this processor runs ("linux/amd64/v2"), then what is emulated: the
// platforms of a worker. The first is its own.
std::vector<std::string> WorkerPlatforms(ForeignPrograms& foreign);

}  // namespace kiln::daemon
