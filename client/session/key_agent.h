#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "store/base/fd.h"
#include "store/base/process.h"

namespace kiln::client {

// An ssh-agent of our own that holds private keys from files for as long as it lives: OpenSSH reads
// every kind of key and does the signing. Its socket is in a folder that only this user may enter.
class KeyAgent {
 public:
  // Blocks until the keys are loaded. kNotFound without OpenSSH; an error of ssh-add names the
  // file. A key with a passphrase is asked for on the terminal, if there is one.
  static absl::StatusOr<std::shared_ptr<KeyAgent>> Start(const std::vector<std::string>& key_files);
  ~KeyAgent();
  KeyAgent(const KeyAgent&) = delete;
  KeyAgent& operator=(const KeyAgent&) = delete;

  std::string socket() const { return folder_ + "/agent"; }

 private:
  KeyAgent() = default;
  std::string folder_;
  Fd life_;  // closed by whatever ends this process, which ends the agent
  Process agent_;
};

}  // namespace kiln::client
