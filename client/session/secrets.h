#pragma once

#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::client {

// Secrets that the daemon may ask for, by id. Read when asked for, never kept. Immutable once the
// session runs.
class SecretStore {
 public:
  static constexpr size_t kMaxBytes = 500 << 10;

  // "id=ID[,src=FILE][,env=VARIABLE][,type=file|env]". Without src and env: the variable ID if it
  // is set, else the file ID. A file is looked at at once, not in mid-build: kNotFound, or
  // kInvalidArgument when it is too large. A variable goes before a file, and that it is not set is
  // no mistake: its secret is empty.
  absl::Status Add(absl::string_view text);
  bool empty() const { return sources_.empty(); }

  // kNotFound for an id that was not added.
  absl::StatusOr<std::string> Get(absl::string_view id) const;

 private:
  struct Source {
    std::string file;
    std::string env;
  };
  absl::flat_hash_map<std::string, Source> sources_;
};

}  // namespace kiln::client
