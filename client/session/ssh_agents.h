#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/base/fd.h"

namespace kiln::client {

class KeyAgent;

// SSH agent sockets that steps of a build may use, by id. Immutable once the session runs.
class SshAgents {
 public:
  // "ID" (the agent of $SSH_AUTH_SOCK), "ID=SOCKET", or "ID=KEYFILE[,KEYFILE…]", whose keys get an
  // agent of their own (KeyAgent). The last of an ID holds. kInvalidArgument when there is no such
  // agent or key. Blocks.
  absl::Status Add(absl::string_view text);
  bool empty() const { return sockets_.empty(); }

  // "" is "default". kNotFound "unset ssh forward key ID" as BuildKit words it.
  absl::Status Check(absl::string_view id) const;
  absl::StatusOr<Fd> Connect(absl::string_view id) const;

 private:
  absl::flat_hash_map<std::string, std::string> sockets_;  // id → path
  std::vector<std::shared_ptr<KeyAgent>> key_agents_;      // kept alive: the owners of some sockets
};

}  // namespace kiln::client
