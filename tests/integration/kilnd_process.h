#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/base/process.h"

namespace kiln::integration {

// What a daemon holds at one moment; equal before and after a build when nothing leaks.
struct Holdings {
  int processes = 0;                   // descendants
  int descriptors = 0;                 // open files of the daemon itself
  std::vector<std::string> mounts;     // under its root
  std::vector<std::string> cgroups;    // of steps
  std::vector<std::string> temporary;  // what lies in the folders for steps and transfers

  std::string ToString() const;
};

// A real kilnd with its own root folder and socket. Stopped and removed by the destructor.
class KilndProcess {
 public:
  struct Options {
    std::string root;  // "": a new folder, removed at the end
    std::vector<std::string> extra_args;
    std::string config;  // more of its kilnd.toml
  };
  // Starts the binary and waits until its socket accepts.
  static absl::StatusOr<std::unique_ptr<KilndProcess>> Start(const Options& options);
  ~KilndProcess();
  KilndProcess(const KilndProcess&) = delete;
  KilndProcess& operator=(const KilndProcess&) = delete;

  const std::string& root() const { return root_; }
  std::string address() const { return "unix://" + socket_; }
  pid_t pid() const { return process_.pid(); }
  // Everything the daemon wrote to its log so far.
  std::string Log() const;

  // SIGTERM and wait. Its exit status.
  absl::StatusOr<ExitStatus> Stop();
  // SIGKILL and wait; the root stays.
  void Kill();
  // Starts it again on the same root and socket.
  absl::Status Restart();

  Holdings Count() const;
  // Waits until Count() holds no more than `before`, for `limit` at most; false when it never does.
  bool SettlesTo(const Holdings& before, absl::Duration limit = absl::Seconds(30)) const;

 private:
  KilndProcess() = default;
  absl::Status Launch();
  // Of this daemon's steps, one in each hierarchy.
  std::vector<std::string> OwnCgroups() const;

  std::string folder_;  // holds socket and log; and the root when it is ours
  std::string root_, socket_, log_, cgroup_parent_;
  std::vector<std::string> extra_args_;
  Process process_;
};

}  // namespace kiln::integration
