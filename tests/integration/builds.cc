#include "tests/integration/builds.h"

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/llb/file_action.h"
#include "store/base/check.h"
#include "store/base/deadline.h"
#include "store/base/status_macros.h"

namespace kiln::integration {

namespace fs = std::filesystem;
namespace llb = client::llb;

std::string Slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

TempDir::TempDir() : path_("/tmp/kiln-test-XXXXXX") {
  KILN_CHECK(::mkdtemp(path_.data()) != nullptr);
  ::chmod(path_.c_str(), 0755);
}

TempDir::~TempDir() {
  std::error_code error;  // best effort
  fs::remove_all(path_, error);
}

void TempDir::Write(const std::string& name, absl::string_view data, int mode) const {
  const fs::path path = fs::path(path_) / name;
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(data.data(), static_cast<std::streamsize>(data.size()));
  ::chmod(path.c_str(), static_cast<mode_t>(mode));
}

void SeenProgress::OnUpdate(const client::ProgressUpdate& update) {
  MutexLock lock(&mu_);
  for (const client::VertexEvent& vertex : update.vertices) {
    names_[vertex.digest] = vertex.name;
    StepSeen& step = steps_[vertex.name];
    step.cached |= vertex.cached;
    if (vertex.started) {
      step.started = true;
      step.started_at = *vertex.started;
    }
    if (vertex.completed) {
      step.completed = true;
      step.completed_at = *vertex.completed;
    }
    if (!vertex.error.empty()) step.error = vertex.error;
  }
  for (const client::StatusEvent& status : update.statuses)
    steps_[names_[status.vertex]].transferred[status.id] = status.current;
  for (const client::LogEvent& log : update.logs) steps_[names_[log.vertex]].log += log.data;
  changed_.SignalAll();
}

std::map<std::string, StepSeen> SeenProgress::steps() const {
  MutexLock lock(&mu_);
  return steps_;
}

bool SeenProgress::WaitForLog(const std::string& name, absl::string_view text) const {
  const Deadline end(absl::Minutes(1));
  MutexLock lock(&mu_);
  for (;;) {
    auto it = steps_.find(name);
    if (it != steps_.end() && absl::StrContains(it->second.log, text)) return true;
    if (end.Passed()) return false;
    changed_.WaitUntil(&mu_, end);
  }
}

BusyboxBase::BusyboxBase() {
  fs::create_directories(dir_.path() + "/bin");
  fs::copy_file("/bin/busybox", dir_.path() + "/bin/busybox");
  for (const char* applet : {"sh", "cat", "echo", "sleep", "true", "ls", "mkdir", "touch", "dd",
                             "wc", "head", "tail", "grep", "id", "test", "kill", "yes", "cp"})
    fs::create_symlink("busybox", dir_.path() + "/bin/" + applet);
  dir_.Write("etc/passwd", "root:x:0:0:root:/:/bin/sh\nbuilder:x:1000:1000::/:/bin/sh\n");
  dir_.Write("etc/group", "root:x:0:\nbuilder:x:1000:\n");
}

llb::State BusyboxBase::state() const {
  // Through a copy, whose key is the content: a local directory's own key is its session's, and a
  // writable root has no content key (BuildKit solver.md, cache keys).
  return llb::State()
      .File(llb::Copy(llb::Local("base", {.shared_key_hint = "base"}), "/", "/",
                      {.dir_contents_only = true}),
            llb::Named("base"))
      .AddEnv("PATH", "/bin");
}

llb::RunInfo Step(const std::string& name, absl::string_view script) {
  return llb::Args({"/bin/sh", "-c", std::string(script)}, llb::Named(name));
}

absl::Status Build(const std::string& address, const BusyboxBase& base, const llb::State& state,
                   SeenProgress* progress, const std::string& output_dir, const CancelToken& cancel,
                   std::map<std::string, std::string> locals) {
  KILN_ASSIGN_OR_RETURN(llb::Definition definition, state.Marshal());
  client::ConnectOptions connect;
  connect.address = address;
  KILN_ASSIGN_OR_RETURN(auto connection, client::Connection::Open(connect));
  client::SolveOptions options;
  options.definition = definition.Serialize();
  options.local_dirs = std::move(locals);
  options.local_dirs["base"] = base.path();
  options.cancel = cancel;
  KILN_RETURN_IF_ERROR(options.secrets.Add("id=path,env=PATH"));
  if (!output_dir.empty()) {
    client::ExportRequest output;
    output.type = "local";
    output.target = {.kind = client::ExportTarget::Kind::kDirectory, .path = output_dir};
    options.outputs.push_back(output);
  }
  return client::Solve(*connection, options, progress).status();
}

}  // namespace kiln::integration
