#pragma once

#include <map>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "client/solve/solve.h"
#include "store/base/cancel.h"
#include "store/base/mutex.h"

namespace kiln::client::bake {

// Where builds that run at once hand over results: a target that others build on publishes its
// frontend's result, and goes on only when those have theirs, so that the daemon knows all of the
// shared graph before any part of it ends. Thread-safe.
class Links {
 public:
  // context → target, for every target that has such contexts.
  explicit Links(std::map<std::string, std::map<std::string, std::string>> contexts)
      : contexts_(std::move(contexts)) {}

  // Waits for the results that `target` builds on and adds them as inputs.
  absl::Status Resolve(const std::string& target, const CancelToken& cancel, FrontendCall* call);
  // Publishes what the frontend made of `target`, and waits for all that build on it.
  absl::Status Publish(const std::string& target, const FrontendResult& result,
                       const CancelToken& cancel);
  // To be called when the build of `target` has ended, however it did.
  void End(const std::string& target);

 private:
  template <typename Condition>
  absl::Status Wait(const CancelToken& cancel, Condition condition);

  const std::map<std::string, std::map<std::string, std::string>> contexts_;
  Mutex mu_;
  CondVar changed_;
  std::map<std::string, FrontendResult> results_ ABSL_GUARDED_BY(mu_);
  std::set<std::string> ended_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::client::bake
