#pragma once

#include <map>
#include <memory>
#include <string>

#include "client/progress/progress.h"
#include "store/base/mutex.h"

namespace kiln::client {

// The progress of several builds towards one sink. Steps that builds share are shown once: the
// first that names a step tells about it, and another one when the first ends before the step does.
class SharedProgress {
 public:
  explicit SharedProgress(ProgressSink* sink) : sink_(sink) {}

  // A sink for one build; gone before this. `prefix` goes into the names of steps, as in
  // "[app stage-0 1/2] RUN …"; "" changes none. Builds may call theirs at once.
  std::unique_ptr<ProgressSink> Add(const std::string& prefix);

 private:
  class Build;

  Mutex mu_;
  ProgressSink* const sink_;                                          // called under mu_
  std::map<std::string, const Build*> tellers_ ABSL_GUARDED_BY(mu_);  // by digest of the step
};

// The name of a step of a build: "[web] load" or "[web internal] load …" for "[internal] load …".
std::string PrefixName(const std::string& prefix, const std::string& name);

}  // namespace kiln::client
