#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace kiln::client::llb {

// The variables that commands see, in the order of their last setting. A value; copies share what
// they hold, and only a shared one is copied by a change: setting n variables one after the other
// costs what their names take to compare. A graph is built by one thread, and so is this.
class Environment {
 public:
  using Variables = std::vector<std::pair<std::string, std::string>>;

  void Set(absl::string_view key, absl::string_view value);
  bool Has(absl::string_view key) const;
  const Variables& variables() const;
  // All of them as elements of pb.Meta.env: written once for all commands that share them.
  absl::string_view wire() const;

 private:
  struct Shared {
    Variables variables;
    std::string wire;  // "": not written yet, or nothing to write
  };
  std::shared_ptr<Shared> shared_;  // null: no variables
};

}  // namespace kiln::client::llb
