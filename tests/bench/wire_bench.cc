// Runs the same builds, of LLB and of Dockerfiles, against any daemons that speak BuildKit's API,
// in turn (A B A B), and prints each one's median and the ratio to the first:
//
//   wire_bench --rounds 3 kilnd=unix:///run/kilnd.sock buildkitd=unix:///run/buildkitd.sock
//
// A time is that of a whole client: connect, session, build, end of progress. The base is a busybox
// sent as a local directory; no registry is used.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/llb/exec.h"
#include "client/llb/file_action.h"
#include "client/llb/source.h"
#include "client/llb/state.h"
#include "client/random_id.h"
#include "store/base/fd.h"
#include "tests/bench/against_daemons.h"

namespace kiln::client {
namespace {

constexpr int kStages = 400;
constexpr int kExecs = 20;
constexpr int kFiles = 20000;
constexpr int kFilesPerDir = 100;
constexpr int kSameClients = 20;
constexpr int kOwnClients = 40;
constexpr int kCachedSteps = 30;
constexpr int kRuns = 40;
constexpr int kRunStages = 60;

// The folders that builds read.
class Folders {
 public:
  Folders() {
    std::string pattern = "/var/tmp/wire-bench.XXXXXX";
    root_ = mkdtemp(pattern.data());
    MakeBase();
    MakeContext();
    mkdir((root_ + "/dockerfile").c_str(), 0755);
  }
  ~Folders() { std::system(("rm -rf " + root_).c_str()); }

  std::map<std::string, std::string> dirs() const {
    return {{"base", root_ + "/base"}, {"context", root_ + "/context"}};
  }

  // A build of this Dockerfile with the base as its context. The file stays until the next call.
  SolveOptions DockerfileBuild(const std::string& dockerfile) {
    Write(root_ + "/dockerfile/Dockerfile", dockerfile);
    SolveOptions options;
    options.frontend = "dockerfile.v0";
    options.frontend_attrs["filename"] = "Dockerfile";
    options.local_dirs = {{"context", root_ + "/base"}, {"dockerfile", root_ + "/dockerfile"}};
    return options;
  }

  void ChangeOneFile() { Write(root_ + "/context/d7/f7", absl::StrCat("changed ", NewId(), "\n")); }

 private:
  static void Write(const std::string& path, absl::string_view data) {
    const absl::Status status = WriteFileAtomic(path, data, 0644);
    if (!status.ok()) Die(status, path);
  }
  void MakeBase() {
    const auto busybox = ReadFileToString("/bin/busybox");
    if (!busybox.ok()) Die(busybox.status(), "busybox-static is needed");
    mkdir((root_ + "/base").c_str(), 0755);
    mkdir((root_ + "/base/bin").c_str(), 0755);
    const std::string path = root_ + "/base/bin/busybox";
    Write(path, *busybox);
    chmod(path.c_str(), 0755);
    for (const char* applet : {"sh", "true", "sleep"}) {
      (void)!symlink("busybox", (root_ + "/base/bin/" + applet).c_str());
    }
  }
  void MakeContext() {
    mkdir((root_ + "/context").c_str(), 0755);
    for (int i = 0; i < kFiles; ++i) {
      const std::string dir = absl::StrCat(root_, "/context/d", i / kFilesPerDir);
      if (i % kFilesPerDir == 0) mkdir(dir.c_str(), 0755);
      const auto fd = OpenFile(absl::StrCat(dir, "/f", i % kFilesPerDir), O_WRONLY | O_CREAT, 0644);
      if (!fd.ok()) Die(fd.status(), dir);
      (void)WriteAll(fd->get(), absl::StrCat("file ", i, "\n", std::string(100, 'x'), "\n"));
    }
  }

  std::string root_;
};

llb::CopyInfo Contents() {
  llb::CopyInfo info;
  info.create_dest_path = info.dir_contents_only = true;
  return info;
}

llb::State Base() {
  llb::LocalInfo info;
  info.shared_key_hint = "wire-bench-base";
  return llb::State().File(llb::Copy(llb::Local("base", info), "/", "/", Contents()));
}

absl::Duration Build(const std::string& address, const Folders& folders, const llb::State& state) {
  SolveOptions options;
  options.local_dirs = folders.dirs();
  return TimeBuild(address, options, state);
}

// `count` clients at once; returns when the last is done.
absl::Duration BuildMany(const std::string& address, const Folders& folders,
                         const std::vector<llb::State>& states) {
  const absl::Time begin = absl::Now();
  std::vector<std::thread> clients;
  for (const llb::State& state : states) {
    clients.emplace_back([&address, &folders, &state] { Build(address, folders, state); });
  }
  for (std::thread& client : clients) client.join();
  return absl::Now() - begin;
}

llb::State FileStages(const std::string& salt) {
  llb::State previous = llb::State().File(llb::Mkfile("/f", 0644, salt));
  for (int i = 1; i < kStages; ++i) {
    previous = llb::State().File(
        llb::Mkfile(absl::StrCat("/own", i), 0644, salt).Copy(previous, "/f", "/f"));
  }
  return previous;
}

llb::State Execs(const std::string& salt, int count) {
  llb::State state = Base().AddEnv("SALT", salt);
  for (int i = 0; i < count; ++i) {
    state = state.AddEnv("STEP", absl::StrCat(i)).Run(llb::Args({"/bin/true"}));
  }
  return state;
}

llb::State Mixed(const std::string& salt) {
  llb::State state = Base().AddEnv("SALT", salt);
  for (int i = 0; i < kCachedSteps; ++i) {
    const std::string path = absl::StrCat("/file", i);
    state = i % 2 == 0 ? llb::State(state.Run(llb::Args({"/bin/sh", "-c", "echo > " + path})))
                       : state.File(llb::Mkfile(path, 0644, salt));
  }
  return state;
}

llb::State Context(const std::string& hint) {
  llb::LocalInfo info;
  info.shared_key_hint = hint;
  return llb::State().File(llb::Copy(llb::Local("context", info), "/", "/", Contents()));
}

// From the context and not from a registry, so that any two daemons can be compared.
constexpr char kDockerfileBase[] = "FROM scratch AS base\nCOPY . /\nFROM base AS main\n";

std::string ThirtySteps(const std::string& salt) {
  std::string file = absl::StrCat(kDockerfileBase, "ENV SALT=", salt, "\n");
  for (int i = 0; i < kCachedSteps; i += 3) {
    absl::StrAppend(&file, "RUN echo ", i, " > /file", i, "\nWORKDIR /dir", i, "\nCOPY <<E /own", i,
                    "\n$SALT\nE\n");
  }
  return file;
}

std::string SequentialRuns(const std::string& salt) {
  std::string file = absl::StrCat(kDockerfileBase, "ENV SALT=", salt, "\n");
  for (int i = 0; i < kRuns; ++i) absl::StrAppend(&file, "RUN : ", i, "\n");
  return file;
}

std::string IndependentRuns(const std::string& salt) {
  std::string file = absl::StrCat(kDockerfileBase, "ENV SALT=", salt, "\n");
  std::string last = "FROM scratch\n";
  for (int i = 0; i < kRunStages; ++i) {
    absl::StrAppend(&file, "FROM main AS s", i, "\nRUN echo > /f", i, "\n");
    absl::StrAppend(&last, "COPY --from=s", i, " /f", i, " /\n");
  }
  return file + last;
}

std::string GatheredStages(const std::string& salt) {
  std::string file, last = "FROM scratch\n";
  for (int i = 0; i < kStages; ++i) {
    absl::StrAppend(&file, "FROM scratch AS s", i, "\nCOPY <<E /f", i, "\n", salt, "\nE\n");
    absl::StrAppend(&last, "COPY --from=s", i, " /f", i, " /\n");
  }
  return file + last;
}

// Whole builds of Dockerfiles; `make` gives the file for a salt.
std::vector<Scenario> DockerfileScenarios(Folders& folders) {
  const auto cold = [&folders](auto make) {
    return [make, &folders](const std::string& address) {
      return TimeBuild(address, folders.DockerfileBuild(make(NewId())));
    };
  };
  const auto again = [&folders](auto make) {
    return [make, &folders](const std::string& address) {
      const SolveOptions options = folders.DockerfileBuild(make(NewId()));
      TimeBuild(address, options);
      return TimeBuild(address, options);
    };
  };
  return {
      {"Dockerfile of 30 steps, everything cached", again(ThirtySteps)},
      {"Dockerfile of 40 sequential RUN, cold", cold(SequentialRuns)},
      {"Dockerfile of 60 independent stages, cold", cold(IndependentRuns)},
      {"Dockerfile of 400 gathered stages, cold", cold(GatheredStages)},
      {"Dockerfile of 400 gathered stages, cached", again(GatheredStages)},
  };
}

std::vector<Scenario> Scenarios(Folders& folders) {
  const auto again = [&folders](auto make) {
    return [make, &folders](const std::string& address) {
      const llb::State state = make(NewId());
      Build(address, folders, state);
      return Build(address, folders, state);
    };
  };
  const auto cold = [&folders](auto make) {
    return [make, &folders](const std::string& address) {
      return Build(address, folders, make(NewId()));
    };
  };
  const auto execs = [](const std::string& salt) { return Execs(salt, kExecs); };
  return {
      {"400 stages of file ops, cold", cold(FileStages)},
      {"400 stages of file ops, cached", again(FileStages)},
      {"20 sequential execs of true, cold", cold(execs)},
      {"context of 20,000 files, first", cold(Context)},
      {"context of 20,000 files, one changed",
       [&folders](const std::string& address) {
         const llb::State state = Context(NewId());
         Build(address, folders, state);
         folders.ChangeOneFile();
         return Build(address, folders, state);
       }},
      {"20 clients, same new step of 1 s",
       [&folders](const std::string& address) {
         const llb::State state =
             Base().AddEnv("SALT", NewId()).Run(llb::Args({"/bin/sleep", "1"}));
         return BuildMany(address, folders, std::vector<llb::State>(kSameClients, state));
       }},
      {"40 clients, a step of its own each",
       [&folders](const std::string& address) {
         std::vector<llb::State> states;
         for (int i = 0; i < kOwnClients; ++i) states.push_back(Execs(NewId(), 1));
         return BuildMany(address, folders, states);
       }},
      {"30 steps, everything cached", again(Mixed)},
  };
}

int Main(int argc, char** argv) {
  setenv("GRPC_VERBOSITY", "NONE", 0);
  const Arguments arguments = ParseArguments(argc, argv, {});
  Folders folders;
  for (const auto& [name, address] : arguments.daemons)
    Build(address, folders, Execs("warm-up", 1));
  std::vector<Scenario> scenarios = Scenarios(folders);
  for (Scenario& scenario : DockerfileScenarios(folders)) scenarios.push_back(std::move(scenario));
  RunAndPrint(arguments, scenarios);
  return 0;
}

}  // namespace
}  // namespace kiln::client

int main(int argc, char** argv) { return kiln::client::Main(argc, argv); }
