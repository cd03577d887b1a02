#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/integration/builds.h"
#include "tests/integration/kilnd_process.h"

namespace kiln::integration {

// A step that leaves one line per run in a cache mount: how often steps really ran.
inline client::llb::RunInfo CountedStep(const std::string& name, const std::string& counter,
                                        absl::string_view script) {
  client::llb::RunInfo run =
      Step(name, absl::StrCat("echo ran >> /counter/", counter, "; ", script));
  run.mounts.push_back({.target = "/counter", .cache_id = "counter"});
  return run;
}

// The same of a step that says "started" and goes on, to say "finished", when its gate is opened.
inline client::llb::RunInfo GatedStep(const std::string& name, const std::string& counter) {
  client::llb::RunInfo run =
      CountedStep(name, counter,
                  absl::StrCat("echo started; i=0; until test -e /gate/", counter,
                               "; do i=$((i+1)); test $i -lt 1200 || exit 1; sleep 0.1; done; "
                               "echo finished"));
  run.mounts.push_back({.target = "/gate", .cache_id = "gate"});
  return run;
}

// A daemon of its own for each test.
class BuildTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0u) << "run as root: containers and overlayfs need it";
    auto daemon = KilndProcess::Start({.config = config_});
    ASSERT_TRUE(daemon.ok()) << daemon.status();
    daemon_ = *std::move(daemon);
  }
  void TearDown() override {
    if (HasFailure() && daemon_ != nullptr) std::cerr << daemon_->Log();
  }

  absl::Status Run(const client::llb::State& state, SeenProgress* seen, const std::string& out = "",
                   const CancelToken& cancel = {}) {
    return Build(daemon_->address(), base_, state, seen, out, cancel);
  }

  void OpenGate(const std::string& counter) {
    client::llb::RunInfo run = Step("open the gate", absl::StrCat("touch /gate/", counter));
    run.mounts.push_back({.target = "/gate", .cache_id = "gate"});
    SeenProgress seen;
    const absl::Status status = Run(base_.state().Run(run), &seen);
    EXPECT_TRUE(status.ok()) << status;
  }

  // Lines that CountedStep left under `counter`; `nonce` keeps the reading step out of the cache.
  int Runs(const std::string& counter, const std::string& nonce) {
    client::llb::RunInfo run =
        Step("count", absl::StrCat("wc -l < /counter/", counter, " > /out/n # ", nonce));
    run.mounts.push_back({.target = "/counter", .cache_id = "counter"});
    client::llb::ExecState exec = base_.state().Run(run);
    client::llb::State out = exec.AddMount({.target = "/out"});
    TempDir dir;
    SeenProgress seen;
    const absl::Status status = Run(out, &seen, dir.path());
    EXPECT_TRUE(status.ok()) << status;
    return std::atoi(Slurp(dir.path() + "/n").c_str());
  }

  BusyboxBase base_;
  std::string config_;  // of the daemon, beside the usual; set before SetUp
  std::unique_ptr<KilndProcess> daemon_;
};

}  // namespace kiln::integration
