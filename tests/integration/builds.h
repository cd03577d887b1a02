#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/connection.h"
#include "client/llb/exec.h"
#include "client/llb/source.h"
#include "client/llb/state.h"
#include "client/progress/progress.h"
#include "client/solve/solve.h"
#include "store/base/cancel.h"
#include "store/base/mutex.h"
#include "store/base/steady_cond_var.h"
#include "tests/integration/kilnd_process.h"

namespace kiln::integration {

// A folder under /tmp, removed at the end.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }
  // Writes a file, making its parents.
  void Write(const std::string& name, absl::string_view data, int mode = 0644) const;

 private:
  std::string path_;
};

// What a build's status stream said of one step, by step name.
struct StepSeen {
  bool started = false, completed = false, cached = false;
  absl::Time started_at, completed_at;
  std::string error, log;
  std::map<std::string, int64_t> transferred;  // status text → bytes
};

// The bytes of a file; "" when it cannot be read.
std::string Slurp(const std::string& path);

// Keeps what a build's progress says. Thread-safe.
class SeenProgress : public client::ProgressSink {
 public:
  void OnUpdate(const client::ProgressUpdate& update) override;
  std::map<std::string, StepSeen> steps() const;
  StepSeen step(const std::string& name) const { return steps()[name]; }
  // Blocks until the step's log holds `text`; false after a minute.
  bool WaitForLog(const std::string& name, absl::string_view text) const;

 private:
  mutable Mutex mu_;
  mutable SteadyCondVar changed_;
  std::map<std::string, std::string> names_ ABSL_GUARDED_BY(mu_);  // digest → name
  std::map<std::string, StepSeen> steps_ ABSL_GUARDED_BY(mu_);
};

// A base tree with a static busybox as /bin/sh and friends, offered as local directory "base".
class BusyboxBase {
 public:
  BusyboxBase();
  const std::string& path() const { return dir_.path(); }
  client::llb::State state() const;

 private:
  TempDir dir_;
};

// One step: `sh -c script` named `name`.
client::llb::RunInfo Step(const std::string& name, absl::string_view script);

struct BuildRun {
  absl::Status status;
  SeenProgress* progress = nullptr;
};

// Builds `state` on the daemon; `locals` beside "base". There is one secret, "path".
absl::Status Build(const std::string& address, const BusyboxBase& base,
                   const client::llb::State& state, SeenProgress* progress,
                   const std::string& output_dir = "", const CancelToken& cancel = {},
                   std::map<std::string, std::string> locals = {});

}  // namespace kiln::integration
