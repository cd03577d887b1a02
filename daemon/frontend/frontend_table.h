#pragma once

#include <functional>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/frontend/frontend_client.h"

namespace kiln::daemon {

// The frontends that run in this daemon, by name ("dockerfile.v0"). Filled by the wiring list, then
// constant.
class FrontendTable {
 public:
  // `frontend` outlives the table.
  void Add(std::string name, Frontend* frontend);
  // kInvalidArgument "invalid frontend: X".
  absl::StatusOr<Frontend*> Find(absl::string_view name) const;

 private:
  std::map<std::string, Frontend*, std::less<>> frontends_;
};

}  // namespace kiln::daemon
