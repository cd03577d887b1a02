#include "daemon/frontend/frontend_table.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace kiln::daemon {

void FrontendTable::Add(std::string name, Frontend* frontend) {
  frontends_[std::move(name)] = frontend;
}

absl::StatusOr<Frontend*> FrontendTable::Find(absl::string_view name) const {
  const auto found = frontends_.find(std::string(name));
  if (found == frontends_.end())
    return absl::InvalidArgumentError(absl::StrCat("invalid frontend: ", name));
  return found->second;
}

}  // namespace kiln::daemon
