#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::daemon {

// A mode as chmod(1) takes it: "u+rwX,go-w", "g=u", "0755". No umask applies.
class SymbolicMode {
 public:
  // kInvalidArgument `invalid mode "x"`.
  static absl::StatusOr<SymbolicMode> Parse(absl::string_view text);

  // The permission bits (07777) that `mode` becomes.
  uint32_t Apply(uint32_t mode, bool is_dir) const;

 private:
  // One change. `from`: 0 = the bits themselves, 'u', 'g', 'o' = that class's permissions are
  // copied to the classes in `who`, 'X' = only for directories and what is executable already.
  struct Change {
    char op;  // '+', '-', '='
    char from;
    uint32_t who;
    uint32_t bits;
  };
  static bool ParseClause(absl::string_view clause, std::vector<Change>* out);

  std::vector<Change> changes_;
};

}  // namespace kiln::daemon
