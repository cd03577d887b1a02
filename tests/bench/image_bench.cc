// Images over the wire: layers made, pulled and pushed, by any daemons that speak BuildKit's API
// and a registry that both reach by plain http:
//
//   image_bench --registry 127.0.0.1:5000 kilnd=unix:///run/kilnd.sock buildkitd=unix:///run/…
//
// Between rounds the daemons' caches are pruned: use daemons of their own.
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/llb/exec.h"
#include "client/llb/file_action.h"
#include "client/llb/source.h"
#include "client/llb/state.h"
#include "client/random_id.h"
#include "client/solve/solve.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"
#include "tests/bench/against_daemons.h"

namespace kiln::client {
namespace {

constexpr int kLayerMegabytes = 200;
constexpr int kPulledLayers = 5;
constexpr int kPulledLayerMegabytes = 100;

// busybox, as /bin/busybox on this machine, is all that steps run on.
llb::State Base() {
  const auto busybox = ReadFileToString("/bin/busybox");
  if (!busybox.ok()) Die(busybox.status(), "busybox-static is needed");
  return llb::State().File(llb::Mkdir("/bin", 0755).Mkfile("/bin/busybox", 0755, *busybox));
}

// A step that writes that many files of 1 MB of hexadecimal words, new ones each time.
llb::State Grow(const llb::State& state, int megabytes, const std::string& salt,
                const std::string& dir) {
  const std::string script = absl::StrCat(
      "b=/bin/busybox; $b mkdir -p ", dir, " && cd ", dir, " && for i in $($b seq ", megabytes,
      "); do $b head -c 450000 /dev/urandom | $b od -An -v -tx4 | $b head -c 1000000 > $i; done");
  return state.AddEnv("SALT", salt).Run(llb::Args({"/bin/busybox", "sh", "-c", script}));
}

// A number that no run before this one had.
std::string Salt() {
  static int64_t last = absl::ToUnixMillis(absl::Now()) % 1000000000;
  return absl::StrCat(++last);
}

SolveOptions ImageOutput(std::map<std::string, std::string> attrs) {
  ExportRequest image;
  image.type = "image";
  image.attrs = std::move(attrs);
  SolveOptions options;
  options.outputs.push_back(std::move(image));
  return options;
}

std::vector<Scenario> Scenarios(const std::string& registry, const std::string& pulled) {
  const auto layer = [](const std::string& compression) {
    return [compression](const std::string& address) {
      const llb::State state = Grow(Base(), kLayerMegabytes, Salt(), "/data");
      TimeBuild(address, {}, state);
      return TimeBuild(address,
                       ImageOutput({{"name", "bench.invalid/layer:latest"},
                                    {"push", "false"},
                                    {"compression", compression}}),
                       state);
    };
  };
  return {
      {absl::StrCat("image of a ", kLayerMegabytes, " MB layer, gzip"), layer("gzip")},
      {absl::StrCat("image of a ", kLayerMegabytes, " MB layer, zstd"), layer("zstd")},
      {absl::StrCat("pull ", kPulledLayers, " layers of ", kPulledLayerMegabytes, " MB, one step"),
       [pulled](const std::string& address) {
         PruneAll(address);
         return TimeBuild(address, {}, llb::Image(pulled).Run(llb::Args({"/bin/busybox", "true"})));
       }},
      {"push what the registry has, new tag",
       [registry, pulled](const std::string& address) {
         const llb::State state =
             llb::Image(pulled).File(llb::Mkfile(absl::StrCat("/", Salt()), 0644, "new"));
         const auto push = [&](const std::string& tag) {
           return TimeBuild(address,
                            ImageOutput({{"name", absl::StrCat(registry, "/bench/image:", tag)},
                                         {"push", "true"}}),
                            state);
         };
         push("first");
         return push(absl::StrCat("again", Salt()));
       }},
  };
}

int Main(int argc, char** argv) {
  setenv("GRPC_VERBOSITY", "NONE", 0);
  const Arguments arguments = ParseArguments(argc, argv, {"--registry"});
  if (arguments.flags.empty())
    Die(absl::InvalidArgumentError("a registry is needed"), "--registry HOST:PORT");
  const std::string registry = arguments.flags[0].second;
  // What is pulled is pushed by the first daemon.
  const std::string pulled = absl::StrCat(registry, "/bench/image:pulled");
  llb::State state = Base();
  for (int i = 0; i < kPulledLayers; ++i)
    state = Grow(state, kPulledLayerMegabytes, Salt(), absl::StrCat("/layer", i));
  TimeBuild(arguments.daemons[0].second, ImageOutput({{"name", pulled}, {"push", "true"}}), state);
  RunAndPrint(arguments, Scenarios(registry, pulled));
  return 0;
}

}  // namespace
}  // namespace kiln::client

int main(int argc, char** argv) { return kiln::client::Main(argc, argv); }
