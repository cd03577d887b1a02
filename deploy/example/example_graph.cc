// kiln-example: writes the LLB of the README's example to standard output.
//
// One base, two stages that need nothing of each other, and a final stage that takes from both:
//
//     base ──┬─> compile  <── src/app  ──┐
//            ├─> bundle   <── src/site ──┼─> assemble ─> check
//            └───────────────────────────┘
//
// The sources are mounted by folder: a change in src/app leaves the key of bundle as it is.
#include <unistd.h>

#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/llb/exec.h"
#include "client/llb/file_action.h"
#include "client/llb/source.h"
#include "client/llb/state.h"
#include "store/base/fd.h"

namespace {

namespace llb = kiln::client::llb;

llb::State Salted(const llb::State& state, const std::string& salt) {
  return salt.empty() ? state : state.AddEnv("EXAMPLE_SALT", salt);
}

// Runs `script` in `base` with a folder of the sources at /src; returns what it left in /out.
llb::State Stage(const llb::State& base, const std::string& name, const llb::State& sources,
                 const std::string& folder, const std::string& salt, const std::string& script) {
  llb::RunInfo run = llb::Shell(
      absl::StrCat("set -e; read begin rest < /proc/uptime; ", script,
                   "; read end rest < /proc/uptime; echo \"stage ", name, " ran $begin $end\""),
      llb::Named(absl::StrCat("[", name, "] ", folder)));
  llb::ExecState done = Salted(base, salt).Run(run);
  done.AddMount({.target = "/src", .source = sources, .selector = folder, .readonly = true});
  return done.AddMount({.target = "/out", .source = llb::State()});
}

// Copies what is in a folder, not the folder.
llb::CopyInfo WholeFolder() {
  llb::CopyInfo info;
  info.create_dest_path = true;
  info.dir_contents_only = true;
  return info;
}

llb::State Graph(const std::string& salt) {
  llb::LocalInfo base_info, source_info;
  base_info.shared_key_hint = "example-base";
  base_info.constraints = llb::Named("[internal] send base");
  source_info.shared_key_hint = "example-src";
  source_info.constraints = llb::Named("[internal] send src");
  // A copy, not the transfer itself, is the root of the stages: its key is what it contains, not
  // which session sent it.
  const llb::State base =
      llb::State()
          .File(llb::Copy(llb::Local("base", base_info), "/", "/", WholeFolder()),
                llb::Named("[base] Debian's busybox, tcc and C library"))
          .AddEnv("PATH", "/usr/bin:/bin");
  const llb::State sources = llb::Local("src", source_info);

  const llb::State compiled =
      Stage(base, "compile", sources, "/app", salt,
            "for f in /src/*.c; do tcc -Wall -c -o /tmp/$(basename $f .c).o $f; done; "
            "tcc -o /out/orbit /tmp/*.o -lm; /out/orbit --self-test");
  const llb::State bundled =
      Stage(base, "bundle", sources, "/site", salt,
            "mkdir -p /out/site; cp -r /src/. /out/site; "
            "tar -C /usr/include -cf - . | gzip -9 > /out/site/headers.tar.gz; "
            "(cd /out/site && find . -type f ! -name SHA256SUMS | sort | xargs sha256sum "
            "> /tmp/sums && mv /tmp/sums SHA256SUMS)");

  llb::MkdirInfo parents;
  parents.make_parents = true;
  const llb::State assembled =
      llb::State().File(llb::Mkdir("/bin", 0755, parents)
                            .Copy(compiled, "/orbit", "/bin/orbit")
                            .Copy(bundled, "/site", "/site", WholeFolder()),
                        llb::Named("[assemble] the program and the site"));

  llb::ExecState check =
      Salted(base, salt)
          .Run(llb::Shell(
              "set -e; cd /app/site; sha256sum -c SHA256SUMS > /tmp/log; /app/bin/orbit 3 | tee "
              "/app/orbit.txt; echo checked $(wc -l < /tmp/log) files",
              llb::Named("[check] run what was built")));
  return check.AddMount({.target = "/app", .source = assembled});
}

}  // namespace

int main(int argc, char** argv) {
  // A salt gives the stages new names for the cache, as if their sources were new.
  if (argc > 2) {
    std::fputs("usage: kiln-example [SALT] > example.llb\n", stderr);
    return 2;
  }
  const auto definition = Graph(argc == 2 ? argv[1] : "").Marshal();
  absl::Status status = definition.status();
  if (status.ok()) status = kiln::WriteAll(STDOUT_FILENO, definition->Serialize());
  if (status.ok()) return 0;
  std::fprintf(stderr, "kiln-example: %s\n", std::string(status.message()).c_str());
  return 1;
}
