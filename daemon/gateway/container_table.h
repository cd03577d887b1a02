#pragma once

#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/base/cancel.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

class Bridge;
class BuildContainer;
struct ContainerParts;

// The containers of one frontend, by the ids that it chose. Thread-safe; blocking.
class ContainerTable {
 public:
  // BuildContainer::Create. kAlreadyExists for an id in use.
  absl::Status New(const ContainerParts& parts, const std::shared_ptr<Bridge>& bridge,
                   absl::string_view request, const CancelToken& cancel);
  // kNotFound "container details for X not found".
  absl::StatusOr<std::shared_ptr<BuildContainer>> Find(absl::string_view id);
  // Kills what runs in it and waits until it is gone.
  absl::Status Release(absl::string_view id);
  // Releases all; no new ones are made any more.
  void Close();

 private:
  Mutex mu_;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  // Null while it is being made.
  std::map<std::string, std::shared_ptr<BuildContainer>, std::less<>> containers_
      ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::daemon
