#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "daemon/executor/oci_executor.h"
#include "store/base/mutex.h"
#include "tests/daemon/executor/scratch_rootfs.h"

namespace kiln::daemon {

struct Outcome {
  absl::StatusOr<ExitInfo> exit = absl::UnknownError("not run");
  std::string out, err;
};

// Of the names of this process's steps.
inline std::string StepPrefix() { return absl::StrCat("test", ::getpid(), "-"); }

class OciExecutorTest : public testing::Test {
 protected:
  OciExecutorTest() {
    OciExecutorOptions options;
    options.state_dir = scratch_.folder() + "/state";
    auto executor = OciExecutor::Create(options);
    EXPECT_TRUE(executor.ok()) << executor.status();
    if (executor.ok()) executor_ = *std::move(executor);
  }

  ProcessSpec Spec(std::vector<std::string> args) {
    ProcessSpec spec;
    spec.id = absl::StrCat(StepPrefix(), ++next_id_);
    spec.rootfs = scratch_.root();
    spec.args = std::move(args);
    spec.env = {"PATH=/bin"};
    return spec;
  }
  ProcessSpec Shell(const std::string& script) { return Spec({"/bin/sh", "-c", script}); }

  Outcome Run(const ProcessSpec& spec, const CancelToken& cancel = CancelToken()) {
    Outcome outcome;
    Mutex mu;
    outcome.exit = executor_->Run(
        spec,
        [&](int stream, absl::string_view data) {
          MutexLock lock(&mu);
          absl::StrAppend(stream == 1 ? &outcome.out : &outcome.err, data);
        },
        cancel);
    return outcome;
  }

  ScratchRootfs scratch_;
  std::unique_ptr<OciExecutor> executor_;
  int next_id_ = 0;
};

}  // namespace kiln::daemon
