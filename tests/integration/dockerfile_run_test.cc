// Mounts, network, limits and users of RUN (dockerfile.md 9, by number).

#include <unistd.h>

#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "store/base/process.h"
#include "tests/integration/dockerfile_fixture.h"

namespace kiln::integration {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

using DockerfileRunTest = DockerfileTest;

TEST_F(DockerfileRunTest, S83And84Binds) {
  context_.Write("testfile", "seen");
  context_.Write("other", "o1");
  const auto run = Make(R"D(FROM busybox AS source
RUN mkdir /sel && echo 1 > /sel/f
FROM busybox AS base
RUN --mount=target=/context cat /context/testfile > /seen; touch /context/x || echo refused >> /seen
RUN --mount=from=source,target=/m,rw echo new > /m/new && cat /m/new > /rw
RUN --mount=from=source,target=/m test ! -e /m/new
FROM scratch
COPY --from=base /seen /rw /
)D");
  EXPECT_EQ(run->File("seen"), "seenrefused\n") << "S83";
  EXPECT_EQ(run->File("rw"), "new\n") << "S84";
  // S84: only the selected path counts.
  const auto keyed = [this](const std::string& inside, const std::string& outside) {
    return Make(absl::StrCat("FROM busybox AS source\nRUN mkdir /sel && echo ", inside,
                             " > /sel/f; echo ", outside, R"D( > /outside
FROM busybox AS base
RUN --mount=from=source,source=sel,target=/m,rw head -c 16 /dev/urandom | md5sum > /unique
FROM scratch
COPY --from=base /unique /
)D"))
        ->File("unique");
  };
  const std::string first = keyed("1", "1");
  EXPECT_EQ(keyed("1", "2"), first);
  EXPECT_NE(keyed("3", "2"), first);
}

TEST_F(DockerfileRunTest, S85And86And88And127CacheMounts) {
  const auto run = Make(R"D(FROM busybox AS base
ARG arg_id=the-id
ENV env_target=/from-env kind=cache
RUN mkdir /out
RUN --mount=type=cache,target=/shared --mount=type=cache,target=/alone echo mine > /shared/f
RUN --mount=type=cache,target=/shared cat /shared/f > /out/shared
RUN --mount=type=cache,target=/alone ls /alone > /out/alone
RUN --mount=type=cache,id=$arg_id,target=$env_target echo expanded > /from-env/f
RUN --mount=type=$kind,id=the-id,target=/x cat /x/f > /out/expanded
RUN --mount=type=cache,target=/perm,uid=1001,gid=1002,mode=0751 stat -c "%u:%g %a" /perm > /out/perm
FROM base AS child
RUN --mount=type=cache,id=the-id,target=$env_target cat /from-env/f > /out/inherited
FROM scratch
COPY --from=child /out /
)D");
  EXPECT_EQ(run->File("shared"), "mine\n") << "S85";
  EXPECT_EQ(run->File("alone"), "") << "S85";
  EXPECT_EQ(run->File("expanded"), "expanded\n") << "S86";
  EXPECT_EQ(run->File("inherited"), "expanded\n") << "S86";
  EXPECT_EQ(run->File("perm"), "1001:1002 751\n") << "S88";

  const char counted[] = R"D(FROM busybox AS s1
RUN --mount=type=cache,target=/count echo x >> /count/f; cat /count/f > /n
FROM scratch
COPY --from=s1 /n /
)D";
  EXPECT_EQ(Make(counted)->File("n"), "x\n");
  Input input;
  input.attrs["no-cache"] = "";
  EXPECT_EQ(Make(counted, input)->File("n"), "x\n") << "S127: the mount starts empty";
}

TEST_F(DockerfileRunTest, S89ACacheNeverLeadsOut) {
  const auto part = [](const std::string& source, const std::string& command) {
    return absl::StrCat(R"D(FROM busybox AS base
RUN --mount=type=cache,id=esc,target=/c mkdir /c/d && echo part > /c/d/f && ln -s d /c/in && ln -s /etc /c/out && ln -s ../../../../../../../.. /c/up
RUN --mount=type=cache,id=esc,source=)D",
                        source, ",target=/c ", command,
                        " > /result\nFROM scratch\nCOPY --from=base /result /\n");
  };
  EXPECT_EQ(Make(part("in", "cat /c/f"))->File("result"), "part\n");
  EXPECT_EQ(Make(part("up", "ls /c"))->File("result"), "d\nin\nout\nup\n") << "its own top";
  const auto out = Try(part("out", "cat /c/hostname"));
  EXPECT_THAT(std::string(out->status.message()),
              HasSubstr("mount /c: /out: no such file or directory"));
  EXPECT_THAT(out->StepLike("cat /c/hostname").error, HasSubstr("/out: no such file"));
  EXPECT_EQ(out->StepLike("cat /c/hostname").log, "") << "the command does not run";
}

TEST_F(DockerfileRunTest, S90And95And94SizesLimitsAndNetworks) {
  const char file[] = R"D(FROM busybox AS base
RUN mkdir /out
RUN --mount=type=tmpfs,target=/t,size=128m df -k /t | tail -1 | awk '{print $2}' > /out/size
RUN df -k /dev/shm | tail -1 | awk '{print $2}' > /out/shm
RUN ulimit -n > /out/nofile; hostname > /out/hostname; cat /etc/hosts > /out/hosts
RUN cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.stat > /out/memory; head -c 16 /dev/urandom | md5sum > /out/unique
RUN --network=none ip link | grep -c ': ' > /out/none
RUN ip link | grep -c ': ' > /out/host
FROM scratch
COPY --from=base /out /
)D";
  Input input;
  input.attrs = {{"shm-size", "134217728"},     {"ulimit", "nofile=1062:1062"},
                 {"hostname", "testhost"},      {"memory", "268435456"},
                 {"add-hosts", "some=1.2.3.4"}, {"force-network-mode", "host"}};
  input.entitlements = {"network.host"};
  const auto run = Make(file, input);
  EXPECT_EQ(run->File("size"), "131072\n") << "S90";
  EXPECT_EQ(run->File("shm"), "131072\n") << "S95";
  EXPECT_EQ(run->File("nofile"), "1062\n") << "S95";
  EXPECT_EQ(run->File("hostname"), "testhost\n") << "S95";
  EXPECT_THAT(run->File("hosts"), HasSubstr("1.2.3.4\tsome")) << "S95";
  EXPECT_EQ(run->File("none"), "1\n") << "S94";
  const std::string here = Output({"sh", "-c", "ip link | grep -c '^[0-9]*: '"});
  EXPECT_EQ(run->File("host"), here) << "S94";
  EXPECT_THAT(run->File("memory"), HasSubstr("268435456")) << "S95";
  input.attrs["memory"] = "536870912";
  EXPECT_EQ(Make(file, input)->File("unique"), run->File("unique")) << "S95";
}

// A cgroup namespace hides the parent on v2: there the folder that it left tells.
TEST_F(DockerfileRunTest, S95CgroupParent) {
  const char file[] = R"D(FROM busybox AS base
RUN cat /proc/self/cgroup > /cgroup
FROM scratch
COPY --from=base /cgroup /
)D";
  const std::string parent = absl::StrCat("kiln-parent-", ::getpid(), "/inner");
  Input input;
  input.attrs = {{"cgroup-parent", absl::StrCat("/", parent)}};
  const auto run = Make(file, input);
  std::vector<std::string> left;
  for (const fs::directory_entry& each : fs::directory_iterator("/sys/fs/cgroup"))
    if (fs::exists(each.path() / parent / "buildkit")) left.push_back(each.path());
  if (fs::exists(fs::path("/sys/fs/cgroup") / parent / "buildkit"))
    left.push_back("/sys/fs/cgroup");
  EXPECT_FALSE(left.empty());
  if (!fs::exists("/sys/fs/cgroup/cgroup.controllers")) {
    EXPECT_THAT(run->File("cgroup"), HasSubstr(absl::StrCat(":/", parent, "/buildkit/")));
  }
  for (const std::string& hierarchy : left) {
    EXPECT_TRUE(fs::is_directory(hierarchy + "/" + parent));
    for (const char* child : {"/buildkit", "", "/.."})
      (void)::rmdir(fs::weakly_canonical(hierarchy + "/" + parent + child).c_str());
  }
  // Part of the step's identity: another parent is another step.
  EXPECT_TRUE(Make(file, input)->StepLike("cat /proc").cached);
  EXPECT_FALSE(Make(file)->StepLike("cat /proc").cached);

  for (const char* slice : {"system.slice:kiln:", "system.slice:kiln:name", "user.slice:"}) {
    input.attrs["cgroup-parent"] = slice;
    EXPECT_THAT(std::string(Try(file, input)->status.message()),
                HasSubstr(absl::StrCat("cgroup parent ", slice,
                                       ": systemd slices are not supported, give a cgroup path")));
  }
}

TEST_F(DockerfileRunTest, S91And92Secrets) {
  TempDir dir;
  dir.Write("s", "pw");
  Input input;
  ASSERT_TRUE(input.secrets.Add(absl::StrCat("id=mysecret,src=", dir.path(), "/s")).ok());
  const auto run = Make(R"D(FROM busybox AS base
RUN mkdir /out
RUN --mount=type=secret,id=mysecret,target=/path/file,mode=0741,uid=100,gid=101 \
  stat -c "%u:%g %a" /path/file > /out/a && cat /path/file >> /out/a
RUN --mount=type=secret,id=mysecret stat -c "%u:%g %a" /run/secrets/mysecret > /out/b
RUN --mount=type=secret,id=nosecret test ! -e /run/secrets/nosecret
RUN --mount=type=secret,id=mysecret,env=SECRET_ENV,target=/path/file \
  echo "$SECRET_ENV $(cat /path/file)" > /out/c
RUN --mount=type=secret,id=mysecret,env=SECRET_ENV test ! -e /run/secrets/mysecret \
  && echo "$SECRET_ENV" > /out/d
FROM scratch
COPY --from=base /out /
)D",
                        input);
  EXPECT_EQ(run->File("a"), "100:101 741\npw") << "S91";
  EXPECT_EQ(run->File("b"), "0:0 400\n") << "S91";
  EXPECT_EQ(run->File("c"), "pw pw\n") << "S92";
  EXPECT_EQ(run->File("d"), "pw\n") << "S92";
  const auto failed =
      Try("FROM busybox\nRUN --mount=type=secret,required=true,id=nosuch true\n", input);
  EXPECT_THAT(std::string(failed->status.message()), HasSubstr("secret nosuch: not found"))
      << "S91";
}

TEST_F(DockerfileRunTest, S93AgentSockets) {
  TempDir dir;
  const std::string socket = dir.path() + "/agent";
  // In the foreground: one that forks may be killed with its leader's group before it leaves that.
  ProcessOptions options;
  options.args = {"ssh-agent", "-D", "-a", socket};
  const auto agent = Process::Start(options);
  ASSERT_TRUE(agent.ok()) << agent.status();
  Output({"sh", "-c",
          absl::StrCat("ssh-keygen -q -t ed25519 -N '' -f ", dir.path(),
                       "/key && for i in $(seq 600); do SSH_AUTH_SOCK=", socket, " ssh-add -q ",
                       dir.path(), "/key && exit 0; sleep 0.1; done; exit 1")});
  Input input;
  ASSERT_TRUE(input.ssh.Add(absl::StrCat("default=", socket)).ok());
  const auto run = Make(R"D(FROM busybox AS base
RUN mkdir /out
RUN --mount=type=ssh,mode=0741,uid=100,gid=102 echo "$SSH_AUTH_SOCK" > /out/path; \
  stat -c "%F %u:%g %a" $SSH_AUTH_SOCK > /out/mode
RUN test -z "$SSH_AUTH_SOCK"
FROM scratch
COPY --from=base /out /
)D",
                        input);
  EXPECT_EQ(run->File("path"), "/run/buildkit/ssh_agent.0\n");
  EXPECT_EQ(run->File("mode"), "socket 100:102 741\n");
  const auto failed = Try("FROM busybox\nRUN --mount=type=ssh,required=true,id=nosuch true\n");
  EXPECT_FALSE(failed->status.ok());
}

TEST_F(DockerfileRunTest, S100Users) {
  struct Case {
    const char* user;
    const char* want;  // uid:gid and all groups
  };
  const Case cases[] = {{"user", "1001:1002 1002 1003"},
                        {"user:nobody", "1001:65534 65534"},
                        {"user:1", "1001:1 1"},
                        {"1001", "1001:1002 1002 1003"},
                        {"1001:1", "1001:1 1"},
                        {"1001:nobody", "1001:65534 65534"},
                        {"4321", "4321:0 0"},
                        {"4321:8765", "4321:8765 8765"},
                        {"root", "0:0 0"}};
  std::string file = "FROM busybox AS base\nRUN mkdir -m 0777 /out\n";
  for (const Case& each : cases)
    absl::StrAppend(&file, "USER ", each.user, "\nRUN echo \"$(id -u):$(id -g) $(id -G)\" > /out/",
                    each.user, "\n");
  const auto run = Make(file + "FROM scratch\nCOPY --from=base /out /\n");
  for (const Case& each : cases)
    EXPECT_EQ(run->File(each.user), absl::StrCat(each.want, "\n")) << each.user;
  const auto failed = Try("FROM busybox\nUSER nosuch\nRUN true\n");
  EXPECT_THAT(std::string(failed->status.message()), HasSubstr("nosuch"));
}

TEST_F(DockerfileRunTest, S126NoCacheByStage) {
  const char file[] = R"D(FROM busybox AS s0
RUN head -c 16 /dev/urandom | md5sum > /u0
FROM busybox AS s1
RUN head -c 16 /dev/urandom | md5sum > /u1
FROM scratch
COPY --from=s0 /u0 /
COPY --from=s1 /u1 /
)D";
  const auto first = Make(file);
  Input input;
  input.attrs["no-cache"] = "s1";
  const auto second = Make(file, input);
  EXPECT_EQ(second->File("u0"), first->File("u0"));
  EXPECT_NE(second->File("u1"), first->File("u1"));
  input.attrs["no-cache"] = "";
  const auto third = Make(file, input);
  EXPECT_NE(third->File("u0"), second->File("u0"));
  EXPECT_NE(third->File("u1"), second->File("u1"));
}

}  // namespace
}  // namespace kiln::integration
