#pragma once

#include <gtest/gtest.h>

#include <csignal>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "store/base/fd.h"
#include "store/base/process.h"

namespace kiln::store {

// From when the life of a process counts.
enum class LifeFrom {
  kStart,      // may end before it did anything
  kFirstWord,  // its first byte on standard output: the machine may take long to get there
};

// Runs a program that works for ever, kills it after `life` and returns what it said on standard
// output. One that ends by itself is a failure of the test.
inline std::string RunAndKill(std::vector<std::string> args, absl::Duration life, LifeFrom from) {
  absl::StatusOr<Pipe> out = MakePipe();
  ProcessOptions options;
  options.args = std::move(args);
  options.stdout_fd = out->write.get();
  options.stderr_fd = STDERR_FILENO;
  absl::StatusOr<Process> process = Process::Start(options);
  EXPECT_TRUE(process.ok()) << process.status();
  if (!process.ok()) return "";
  out->write.Reset();
  std::string said;
  if (from == LifeFrom::kFirstWord) {
    char first = 0;
    if (::read(out->read.get(), &first, 1) == 1) said.push_back(first);
  }
  std::thread killer([&] {
    absl::SleepFor(life);
    process->Kill();
  });
  absl::StatusOr<std::string> rest = ReadAll(out->read.get());
  killer.join();
  EXPECT_TRUE(rest.ok()) << rest.status();
  const absl::StatusOr<ExitStatus> status = process->Wait(CancelToken());
  EXPECT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(status->signal, SIGKILL) << "it ended by itself: " << status->ToString();
  return said + rest.value_or("");
}

}  // namespace kiln::store
