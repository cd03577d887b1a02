#include "daemon/gateway/container_table.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/gateway/build_container.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

absl::Status Unknown(absl::string_view id) {
  return absl::NotFoundError(absl::StrCat("container details for ", id, " not found"));
}

}  // namespace

absl::Status ContainerTable::New(const ContainerParts& parts, const std::shared_ptr<Bridge>& bridge,
                                 absl::string_view request, const CancelToken& cancel) {
  KILN_ASSIGN_OR_RETURN(const std::string id, BuildContainer::IdOf(request));
  {
    MutexLock lock(&mu_);
    if (closed_) return absl::CancelledError("the frontend has ended");
    if (!containers_.emplace(id, nullptr).second)
      return absl::AlreadyExistsError(absl::StrCat("container ", id, " already exists"));
  }
  auto made = BuildContainer::Create(parts, bridge, request, cancel);
  std::shared_ptr<BuildContainer> unwanted;  // dropped after the lock is gone
  MutexLock lock(&mu_);
  if (!made.ok()) {
    containers_.erase(id);
    return made.status();
  }
  const auto slot = containers_.find(id);
  if (slot == containers_.end()) {  // closed meanwhile
    unwanted = *std::move(made);
    return absl::CancelledError("the frontend has ended");
  }
  slot->second = *std::move(made);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<BuildContainer>> ContainerTable::Find(absl::string_view id) {
  MutexLock lock(&mu_);
  const auto found = containers_.find(std::string(id));
  if (found == containers_.end() || found->second == nullptr) return Unknown(id);
  return found->second;
}

absl::Status ContainerTable::Release(absl::string_view id) {
  std::shared_ptr<BuildContainer> released;
  {
    MutexLock lock(&mu_);
    const auto found = containers_.find(std::string(id));
    if (found == containers_.end() || found->second == nullptr) return Unknown(id);
    released = std::move(found->second);
    containers_.erase(found);
  }
  released->Release();
  return absl::OkStatus();
}

void ContainerTable::Close() {
  decltype(containers_) all;
  {
    MutexLock lock(&mu_);
    closed_ = true;
    all.swap(containers_);
  }
  for (auto& [id, container] : all)
    if (container != nullptr) container->Release();
}

}  // namespace kiln::daemon
