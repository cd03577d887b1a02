// Graphs built here must have the ops, byte for byte, that BuildKit's clients make: the files under
// tests/testdata/conformance/llb were written by its Go example programs and Dockerfile frontend.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/llb/exec.h"
#include "client/llb/file_action.h"
#include "client/llb/source.h"
#include "client/llb/state.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"
#include "store/base/fd.h"

namespace kiln::client::llb {
namespace {

constexpr char kPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

Constraints Amd64() {
  Constraints constraints;
  constraints.platform = Platform{"linux", "amd64", "", "", {}};
  return constraints;
}

pb::Definition ReadDefinition(const std::string& name) {
  const auto bytes =
      ReadFileToString(absl::StrCat(KILN_TESTDATA, "/conformance/llb/", name, "/llb.pb"));
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  pb::Definition definition;
  EXPECT_TRUE(bytes.ok() && definition.ParseFromString(*bytes));
  return definition;
}

// digest → op, readable.
std::map<std::string, std::string> Ops(const pb::Definition& definition) {
  std::map<std::string, std::string> ops;
  for (const std::string& bytes : definition.def()) {
    pb::Op op;
    EXPECT_TRUE(op.ParseFromString(bytes));
    ops[Digest::Of(bytes).ToString()] = op.ShortDebugString();
  }
  return ops;
}

std::map<std::string, std::vector<std::string>> Caps(const pb::Definition& definition) {
  std::map<std::string, std::vector<std::string>> caps;
  for (const auto& [digest, metadata] : definition.metadata()) {
    for (const auto& [cap, on] : metadata.caps()) caps[digest].push_back(cap);
    std::sort(caps[digest].begin(), caps[digest].end());
  }
  return caps;
}

void ExpectEqualTo(const std::string& name, const State& state,
                   const Constraints& defaults = Amd64()) {
  const auto definition = state.Marshal(defaults);
  ASSERT_TRUE(definition.ok()) << definition.status();
  pb::Definition got;
  ASSERT_TRUE(got.ParseFromString(definition->Serialize()));
  const pb::Definition want = ReadDefinition(name);
  EXPECT_EQ(Ops(got), Ops(want));
  EXPECT_EQ(Caps(got), Caps(want));
  EXPECT_EQ(got.def(got.def_size() - 1), want.def(want.def_size() - 1));
}

// The five example programs, in the shape that they have upstream.

State GoBase(bool two_steps) {
  const State image = Image("docker.io/library/golang:1.23-alpine")
                          .AddEnv("PATH", absl::StrCat("/usr/local/go/bin:", kPath))
                          .AddEnv("GOPATH", "/go");
  if (!two_steps)
    return image.Run(Shlex("apk add --no-cache g++ linux-headers libseccomp-dev make"));
  return image.Run(Shlex("apk add --no-cache g++ linux-headers"))
      .Run(Shlex("apk add --no-cache git libseccomp-dev make"));
}

State CopyByCommand(const State& src, const std::string& from, const State& dest,
                    const std::string& to) {
  ExecState cp = Image("docker.io/library/alpine:latest")
                     .Run(Shlex(absl::StrCat("cp -a /src", from, " /dest", to)));
  cp.AddMount({.target = "/src", .source = src});
  return cp.AddMount({.target = "/dest", .source = dest});
}

State Clone(const State& base, const std::string& repo) {
  return base.Run(Shlex(absl::StrCat("git clone https://", repo, ".git /go/src/", repo)))
      .Dir(absl::StrCat("/go/src/", repo));
}

TEST(LlbConformance, Buildkit0) {
  const State src = Clone(GoBase(true), "github.com/moby/buildkit");
  const State buildkitd = src.Run(Shlex("go build -o /bin/buildkitd ./cmd/buildkitd"));
  const State buildctl = src.Run(Shlex("go build -o /bin/buildctl ./cmd/buildctl"));
  const State runc = Clone(GoBase(true), "github.com/opencontainers/runc")
                         .Run(Shlex("git checkout -q v1.1.7"))
                         .Run(Shlex("go build -o /usr/bin/runc ./"));
  const State containerd = Clone(GoBase(true).Run(Shlex("apk add --no-cache btrfs-progs-dev")),
                                 "github.com/containerd/containerd")
                               .Run(Shlex("git checkout -q v1.7.2"))
                               .Run(Shlex("make bin/containerd"));
  State result = Image("docker.io/library/alpine:latest");
  result = CopyByCommand(buildctl, "/bin/buildctl", result, "/bin/");
  result = CopyByCommand(runc, "/usr/bin/runc", result, "/bin/");
  result = CopyByCommand(buildkitd, "/bin/buildkitd", result, "/bin/");
  result = CopyByCommand(containerd, "/go/src/github.com/containerd/containerd/bin/containerd",
                         result, "/bin/");
  ExpectEqualTo("example-buildkit0", result.Run(Shlex("ls -l /bin")));
}

State FromGit(const State& base, const std::string& repo, const std::string& tag) {
  const State src =
      Clone(Image("docker.io/library/alpine:latest").Run(Shlex("apk add --no-cache git")), repo)
          .Run(Shlex(absl::StrCat("git checkout -q ", tag)));
  return base.WithOutput(CopyByCommand(src, "/go", base, "/").output()).Dir(src.dir());
}

TEST(LlbConformance, Buildkit1) {
  const State src = FromGit(GoBase(true), "github.com/moby/buildkit", "master");
  const State buildkitd = src.Run(Shlex("go build -o /bin/buildkitd ./cmd/buildkitd"));
  const State buildctl = src.Run(Shlex("go build -o /bin/buildctl ./cmd/buildctl"));
  const State runc = FromGit(GoBase(true), "github.com/opencontainers/runc", "v1.1.7")
                         .Run(Shlex("go build -o /usr/bin/runc ./"));
  const State containerd = FromGit(GoBase(true).Run(Shlex("apk add --no-cache btrfs-progs-dev")),
                                   "github.com/containerd/containerd/v2/client", "v1.7.2")
                               .Run(Shlex("make bin/containerd"));
  State result = Image("docker.io/library/alpine:latest");
  result = CopyByCommand(buildctl, "/bin/buildctl", result, "/bin/");
  result = CopyByCommand(buildkitd, "/bin/buildkitd", result, "/bin/");
  result = CopyByCommand(runc, "/usr/bin/runc", result, "/bin/");
  result = CopyByCommand(containerd, "/go/src/github.com/containerd/containerd/bin/containerd",
                         result, "/bin/");
  ExpectEqualTo("example-buildkit1", result.Run(Shlex("ls -l /bin")));
}

GitInfo AtRef(const std::string& ref, bool keep_git_dir = false) {
  GitInfo info;
  info.ref = ref;
  info.keep_git_dir = keep_git_dir;
  return info;
}

TEST(LlbConformance, Buildkit2) {
  const auto build = [](const State& base, const std::string& repo, GitInfo git,
                        const std::string& command) {
    const std::string dir = absl::StrCat("/go/src/", repo);
    ExecState run = base.Dir(dir).Run(Shlex(command));
    run.AddMount({.target = dir, .source = Git(repo, std::move(git))});
    return run.AddMount({.target = absl::StrCat(dir, "/bin"), .source = State()});
  };
  const std::string repo = "github.com/moby/buildkit";
  const State base = GoBase(false);
  const State buildkitd =
      build(base, repo, AtRef("master"), "go build -o ./bin/buildkitd ./cmd/buildkitd");
  const State buildctl =
      build(base, repo, AtRef("master"), "go build -o ./bin/buildctl ./cmd/buildctl");
  const State runc =
      build(base, "github.com/opencontainers/runc", AtRef("v1.1.7"), "go build -o ./bin/runc ./");
  const State containerd = build(base.Run(Shlex("apk add --no-cache btrfs-progs-dev")),
                                 "github.com/containerd/containerd/v2/client",
                                 AtRef("v1.7.2", true), "make bin/containerd");
  State result = Image("docker.io/library/alpine:latest");
  for (const State& part : {buildctl, buildkitd, runc, containerd}) {
    result = CopyByCommand(part, "/.", result, "/bin");
  }
  ExpectEqualTo("example-buildkit2", result.Run(Shlex("ls -l /bin")));
}

State GoRepo(const State& base, const std::string& repo, GitInfo git, const std::string& command) {
  const std::string dir = absl::StrCat("/go/src/", repo);
  ExecState run = base.Dir(dir).Run(Shlex(command));
  run.AddMount({.target = dir, .source = Git(repo, std::move(git)), .readonly = true});
  return run.AddMount({.target = "/out", .source = State()});
}

struct Parts {
  State buildkitd, buildctl, runc, containerd;
};

Parts GoParts() {
  const State base = GoBase(false);
  const std::string repo = "github.com/moby/buildkit";
  return {
      GoRepo(base, repo, AtRef("master"), "go build -o /out/buildkitd ./cmd/buildkitd"),
      GoRepo(base, repo, AtRef("master"), "go build -o /out/buildctl ./cmd/buildctl"),
      GoRepo(base, "github.com/opencontainers/runc", AtRef("v1.1.7"), "go build -o /out/runc ./"),
      GoRepo(base.Run(Shlex("apk add --no-cache btrfs-progs-dev")),
             "github.com/containerd/containerd/v2/client", AtRef("v1.7.2", true),
             "go build -o /out/containerd ./cmd/containerd")};
}

TEST(LlbConformance, Buildkit3) {
  const Parts parts = GoParts();
  CopyInfo info;
  info.allow_wildcard = info.attempt_unpack = info.create_dest_path = true;
  State result;
  for (const State& part : {parts.buildctl, parts.buildkitd, parts.runc, parts.containerd}) {
    result = result.File(Copy(part, "/.", "/", info));
  }
  ExpectEqualTo("example-buildkit3", result);
}

TEST(LlbConformance, Buildkit4) {
  const Parts parts = GoParts();
  const auto prefixed = [](const State& state) {
    CopyInfo info;
    info.create_dest_path = true;
    return State().File(Copy(state, "/", "/usr/local/bin", info));
  };
  ExpectEqualTo("example-buildkit4",
                Merge({prefixed(parts.buildctl), prefixed(parts.buildkitd), prefixed(parts.runc),
                       prefixed(parts.containerd), prefixed(parts.buildkitd)}));
}

// Two of the Dockerfile frontend's graphs, for what the examples do not use.

RunInfo RunStep(const std::string& line, const std::string& description) {
  RunInfo info = Shell(line);
  info.daemon_sets_path = true;
  info.constraints.metadata.description.Set("com.docker.dockerfile.v1.command", description);
  return info;
}

constexpr char kBusybox[] =
    "docker.io/library/busybox:latest@sha256:"
    "2200fb4119b4dda551cf087f2c4083a2c5b1a24920e9b4372436cdd00d31bdec";
constexpr char kAlpine[] =
    "docker.io/library/alpine:latest@sha256:"
    "9ada326cae8980629902b16ffa3f267d300c331a46c6cde72d17150fa73029be";

State Context(std::vector<std::string> follow_paths) {
  LocalInfo info;
  info.session_id = "conformance";
  info.shared_key_hint = "context";
  info.follow_paths = std::move(follow_paths);
  return Local("context", std::move(info));
}

TEST(LlbConformance, RunMounts) {
  const auto run = [](const State& on, const std::string& line, std::vector<MountInfo> mounts) {
    RunInfo info = RunStep(line, line);
    info.mounts = std::move(mounts);
    return on.Run(std::move(info));
  };
  const State alpine = Image(kAlpine).AddEnv("PATH", kPath);
  const State tool = alpine.Run(RunStep("echo tool > /tool", "tool"));
  State s = Image(kBusybox).AddEnv("PATH", kPath);
  s = run(s, "echo x > /cache/x", {{.target = "/cache", .no_output = true, .cache_id = "//cache"}});
  MkdirInfo owned;
  owned.owner = ParseChown("10:20");
  s = run(s, "true",
          {{.target = "/c1",
            .source = State().File(Mkdir("/cache", 0700, owned)),
            .selector = "/cache",
            .cache_id = "/shared",
            .cache_sharing = CacheSharing::kLocked},
           {.target = "/c2", .cache_id = "//c2", .cache_sharing = CacheSharing::kPrivate}});
  s = run(s, "true",
          {{.target = "/c3",
            .source = tool,
            .selector = "/etc",
            .readonly = true,
            .cache_id = "//c3"}});
  s = run(s, "ls /src", {{.target = "/src", .source = Context({}), .readonly = true}});
  s = run(s, "touch /src/x",
          {{.target = "/src", .source = Context({}), .selector = "/sub", .no_output = true}});
  s = run(s, "cat /tool",
          {{.target = "/tool", .source = tool, .selector = "/tool", .readonly = true}});
  s = run(s, "true", {{.target = "/alp", .source = alpine, .readonly = true}});
  s = run(s, "df",
          {{.target = "/tmp/t", .tmpfs = true},
           {.target = "/sized", .tmpfs = true, .tmpfs_size_bytes = 1048576}});
  RunInfo secret = RunStep("cat /run/secrets/tok || true", "secret");
  secret.secrets = {{.id = "tok", .target = "/run/secrets/tok", .optional = true}};
  s = s.Run(secret);
  secret = RunStep("cat /etc/tok", "secret");
  secret.secrets = {{.id = "tok2", .target = "/etc/tok", .uid = 1, .gid = 2, .mode = 0440}};
  s = s.Run(secret);
  secret = RunStep("env", "secret");
  secret.secrets = {{.id = "tok3", .env = "TOK", .optional = true}};
  s = s.Run(secret);
  RunInfo ssh = RunStep("true", "ssh");
  ssh.ssh = {{.optional = true}};
  s = s.Run(ssh);
  ssh.ssh = {{.id = "key", .target = "/sock", .uid = 5, .gid = 6}};
  ExpectEqualTo("run-mounts", s.Run(ssh));
}

TEST(LlbConformance, CopyVariants) {
  const State busybox = Image(kBusybox).AddEnv("PATH", kPath);
  const State src =
      busybox.Run(RunStep("mkdir -p /d/sub && touch /d/a /d/b /d/sub/c", "RUN mkdir"));
  const State context = Context({"*.txt", "a", "b", "dir", "with space"});
  CopyInfo plain;
  plain.follow_symlinks = plain.dir_contents_only = plain.create_dest_path = true;
  plain.allow_wildcard = plain.allow_empty_wildcard = true;
  const auto owned = [&](absl::string_view owner) {
    CopyInfo info = plain;
    info.owner = ParseChown(owner);
    return info;
  };
  const auto mode = [&](int bits, CopyInfo info) {
    info.mode = bits;
    return info;
  };
  const Constraints named = Named("step");
  State s = busybox;
  s = s.File(Copy(context, "/a", "/two/", plain).Copy(context, "/b", "/two/", plain), named);
  s = s.File(Copy(context, "/*.txt", "/glob/", plain));
  s = s.File(Copy(context, "/dir/", "/dir/", plain));
  s = s.File(Copy(context, "dir", "/dirname", plain));
  s = s.File(Copy(context, "/with space", "/with space/", plain));
  s = s.File(Copy(context, "/a", "/chown-num", owned("1000:1000")));
  s = s.File(Copy(context, "/a", "/chown-name", owned("daemon:daemon")));
  s = s.File(Copy(context, "/a", "/chown-user", owned("nobody")));
  s = s.File(Copy(context, "/a", "/chmod", mode(0755, plain)));
  s = s.File(Copy(context, "/dir", "/both", mode(0644, owned("1:1"))));
  s = s.File(Copy(src, "/d/a", "/from/", plain).Copy(src, "/d/sub/c", "/from/", plain));
  s = s.File(Copy(src, "/d", "/byindex", plain));
  s = s.File(Copy(Image(kAlpine), "/etc/os-release", "/from-image", plain));
  s = Merge({s, State().File(Copy(context, "/a", "/link/a", plain))});
  s = Merge({s, State().File(Copy(src, "/d", "/link/d", plain))});
  MkdirInfo parents;
  parents.make_parents = true;
  s = s.File(Mkdir("/rel", 0755, parents)).Dir("/rel");
  s = s.File(Copy(context, "/a", "./", plain));
  s = s.File(Copy(context, "/a", "./x/y", plain));
  ExpectEqualTo("copy-variants", s);
}

}  // namespace
}  // namespace kiln::client::llb
