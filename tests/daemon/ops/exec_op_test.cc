#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/device/device_registry.h"
#include "daemon/executor/oci_executor.h"
#include "daemon/ops/cache_mounts.h"
#include "daemon/ops/exec.h"
#include "daemon/ops/ref_result.h"
#include "daemon/ops/runtime_folder.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/status_details.h"
#include "tests/daemon/session/fake_client.h"
#include "tests/daemon/session/fake_session.h"
#include "tests/daemon/source/fake_op_context.h"
#include "tests/store/ref/store_fixture.h"

namespace kiln::daemon {
namespace {

using store::Must;
using store::RefPtr;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

class Context : public FakeOpContext {
 public:
  const solver::VertexInfo& vertex() const override { return info; }
  void Log(solver::LogChunk chunk) override {
    MutexLock lock(&mu_);
    absl::StrAppend(chunk.stream == 1 ? &out : &err, chunk.data);
  }
  solver::VertexInfo info;
  std::string out, err;

 private:
  Mutex mu_;
};

class OpBuilder {
 public:
  explicit OpBuilder(const std::string& script, int inputs = 1) {
    for (int i = 0; i < inputs; ++i) op_.add_inputs();
    for (const std::string& arg : {std::string("/bin/sh"), std::string("-c"), script})
      meta().add_args(arg);
    meta().add_env("PATH=/bin");
    meta().set_cwd("/");
  }
  pb::Meta& meta() { return *op_.mutable_exec()->mutable_meta(); }
  pb::ExecOp& exec() { return *op_.mutable_exec(); }
  pb::Mount& Mount(const std::string& dest, int input, int output, bool readonly = false) {
    pb::Mount* mount = exec().add_mounts();
    mount->set_dest(dest);
    mount->set_input(input);
    mount->set_output(output);
    mount->set_readonly(readonly);
    return *mount;
  }
  pb::Mount& Cache(const std::string& dest, const std::string& id,
                   pb::CacheSharingOpt sharing = pb::SHARED) {
    pb::Mount& mount = Mount(dest, -1, -1);
    mount.set_mounttype(pb::CACHE);
    mount.mutable_cacheopt()->set_id(id);
    mount.mutable_cacheopt()->set_sharing(sharing);
    return mount;
  }
  pb::Mount& Secret(const std::string& dest, const std::string& id, bool optional = false) {
    pb::Mount& mount = Mount(dest, -1, -1);
    mount.set_mounttype(pb::SECRET);
    mount.mutable_secretopt()->set_id(id);
    mount.mutable_secretopt()->set_mode(0400);
    mount.mutable_secretopt()->set_optional(optional);
    return mount;
  }
  std::string bytes() const { return op_.SerializeAsString(); }

 private:
  pb::Op op_;
};

class ExecOpTest : public store::RefStoreTest {
 protected:
  void SetUp() override {
    RefStoreTest::SetUp();
    OciExecutorOptions options;
    options.state_dir = dir_ + "/executor";
    executor_ = Must(OciExecutor::Create(options));
    runtime_ = Must(RuntimeFolder::Create(dir_ + "/run"));
    caches_ = std::make_unique<CacheMounts>(store_.get());
    deps_ = {store_.get(), executor_.get(), &sessions_, caches_.get(), runtime_->path(), {}};
    base_ = MakeBase();
  }
  void TearDown() override {
    EXPECT_TRUE(fs::is_empty(runtime_->path())) << "a step left files";
    base_.reset();
    caches_.reset();
    runtime_.reset();
    executor_.reset();
    RefStoreTest::TearDown();
  }

  RefPtr MakeBase() {
    auto tree = Must(store_->New(nullptr, {}));
    {
      auto mount = Must(store_->Mount(*tree));
      for (const char* dir : {"/bin", "/etc", "/proc", "/dev", "/sys", "/tmp", "/root"})
        fs::create_directories(mount->path() + dir);
      fs::copy_file("/bin/busybox", mount->path() + "/bin/busybox");
      for (const char* applet :
           {"sh", "cat", "ls", "sleep", "stat", "tail", "touch", "id", "nc", "head", "wc"})
        fs::create_symlink("busybox", mount->path() + "/bin/" + applet);
      for (const char* file : {"/etc/hosts", "/etc/resolv.conf"})
        std::ofstream(mount->path() + file) << "of the image\n";
      Must(mount->Close());
    }
    return Must(tree->Commit());
  }

  absl::StatusOr<std::vector<RefPtr>> Run(const OpBuilder& builder, std::vector<RefPtr> inputs,
                                          Context& context) {
    auto op = MakeExecOp(deps_, builder.bytes(), context.info);
    if (!op.ok()) return op.status();
    std::vector<solver::ResultPtr> results;
    for (RefPtr& input : inputs) results.push_back(MakeResult(std::move(input)));
    auto executed = (*op)->Execute(context, results);
    if (!executed.ok()) return executed.status();
    std::vector<RefPtr> out;
    for (const solver::ResultPtr& result : executed->outputs) out.push_back(RefOf(result));
    return out;
  }
  std::string Read(const RefPtr& ref, const std::string& path) {
    auto mount = Must(store_->Mount(ref));
    return ReadFileToString(mount->path() + path).value_or("<absent>");
  }

  FakeSessions sessions_;
  std::unique_ptr<OciExecutor> executor_;
  std::unique_ptr<RuntimeFolder> runtime_;
  std::unique_ptr<CacheMounts> caches_;
  ExecOpDeps deps_;
  RefPtr base_;
  Context context_;
};

TEST_F(ExecOpTest, RootOutputHasTheChanges) {
  OpBuilder op("echo new >/made; echo said; echo wrong >&2");
  op.Mount("/", 0, 0);
  auto out = Run(op, {base_}, context_);
  ASSERT_TRUE(out.ok()) << out.status();
  ASSERT_EQ(out->size(), 1u);
  EXPECT_EQ(Read((*out)[0], "/made"), "new\n");
  EXPECT_EQ(Read(base_, "/made"), "<absent>");
  EXPECT_EQ(context_.out, "said\n");
  EXPECT_EQ(context_.err, "wrong\n");
}

TEST_F(ExecOpTest, Llb6_84_TrueMakesAnEmptyLayer) {
  OpBuilder op("true");
  op.Mount("/", 0, 0);
  op.Cache("/root/cache/deep", "c");
  op.Mount("/tmp/t", -1, -1).set_mounttype(pb::TMPFS);
  auto out = Run(op, {base_}, context_);
  ASSERT_TRUE(out.ok()) << out.status();
  const std::string want = Show(base_) + "root/cache/ ";
  EXPECT_EQ(Show((*out)[0]).size(), want.size());
  EXPECT_EQ(Read((*out)[0], "/etc/hosts"), "of the image\n");
}

// A device of the Container Device Interface: its node can be opened by the step's user, its
// variables, files, groups and hooks are there, and none of it is in the result.
TEST_F(ExecOpTest, DevicesAreThereForTheStepOnly) {
  fs::create_directories(dir_ + "/cdi");
  std::ofstream(dir_ + "/lib") << "of the host\n";
  std::ofstream(dir_ + "/cdi/fuse.yaml")
      << absl::StrCat(R"(
cdiVersion: 0.7.0
kind: test.kiln/zero
containerEdits:
  env: [ "ZERO_SPEC=1" ]
devices:
- name: a
  containerEdits:
    env: [ "ZERO_DEVICE=a" ]
    deviceNodes:
    - { path: /dev/mem-zero, hostPath: /dev/zero, permissions: r }
    mounts:
    - { hostPath: )",
                      dir_, R"(/lib, containerPath: /opt/lib/zero, options: [ ro ] }
    hooks:
    - { hookName: prestart, path: /bin/touch, args: [ touch, )",
                      dir_, R"(/hook-ran ] }
    additionalGids: [ 1234 ]
)");
  const DeviceRegistry registry({dir_ + "/cdi"}, {});
  deps_.devices = &registry;
  OpBuilder op(
      "set -e; echo $ZERO_SPEC $ZERO_DEVICE; cat /opt/lib/zero; stat -c '%F %u' /dev/mem-zero; "
      "head -c 3 /dev/mem-zero | wc -c; id -G");
  op.meta().set_user("7:8");
  op.meta().set_removemountstubsrecursive(true);
  op.Mount("/", 0, 0);
  op.exec().add_cdidevices()->set_name("test.kiln/zero=a");
  auto* optional = op.exec().add_cdidevices();
  optional->set_name("test.kiln/none");
  optional->set_optional(true);
  auto out = Run(op, {base_}, context_);
  ASSERT_TRUE(out.ok()) << out.status() << context_.err;
  EXPECT_EQ(context_.out, "1 a\nof the host\ncharacter special file 7\n3\n8 1234\n");
  EXPECT_EQ(Show((*out)[0]).size(), Show(base_).size()) << "stubs of the mount are left";
  EXPECT_TRUE(fs::exists(dir_ + "/hook-ran"));

  OpBuilder missing("true");
  missing.Mount("/", 0, 0);
  missing.exec().add_cdidevices()->set_name("test.kiln/none");
  out = Run(missing, {base_}, context_);
  EXPECT_EQ(out.status().message(), "required device \"test.kiln/none\" is not registered");
}

// Every row of the table in llb.md 2.2.1 that has an output, and their numbering.
TEST_F(ExecOpTest, OutputsInMountOrder) {
  const RefPtr data = Make(nullptr, "/d/file", "data");
  OpBuilder op("echo w >/rw/d/w; echo s >/scratch/s; cat /ro/d/file; ! touch /ro/x", 2);
  op.Mount("/ro", 1, 7, /*readonly=*/true);
  op.Mount("/rw", 1, 3);
  op.Mount("/", 0, 5);
  op.Mount("/scratch", -1, 0);
  op.Mount("/discarded", 1, -1);
  auto out = Run(op, {base_, data}, context_);
  ASSERT_TRUE(out.ok()) << out.status() << context_.err;
  ASSERT_EQ(out->size(), 4u);
  EXPECT_EQ((*out)[0]->id(), data->id());
  EXPECT_EQ(Show((*out)[1]), "d/ d/file=data d/w=w\n ");
  EXPECT_EQ(Read((*out)[2], "/etc/hosts"), "of the image\n");
  EXPECT_EQ(Show((*out)[3]), "s=s\n ");
  EXPECT_EQ(context_.out, "data");
  EXPECT_EQ(Show(data), "d/ d/file=data ");
}

TEST_F(ExecOpTest, ReadonlyRootWithoutOutput) {
  OpBuilder op("touch /x || echo refused; touch /m/y && echo mounted");
  op.Mount("/", 0, -1, /*readonly=*/true);
  op.Mount("/m", -1, -1);
  auto out = Run(op, {base_}, context_);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_TRUE(out->empty());
  EXPECT_EQ(context_.out, "refused\nmounted\n");
}

TEST_F(ExecOpTest, WritableRootWithoutOutputAndRelativeMount) {
  OpBuilder op("echo x >/x; cat /x; cat rel/f; pwd", 2);
  op.meta().set_cwd("/work/dir");
  op.Mount("/", 0, -1);
  op.Mount("rel", 1, -1, true);
  auto out = Run(op, {base_, Make(nullptr, "/f", "rel\n")}, context_);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ(context_.out, "x\nrel\n/work/dir\n");
}

TEST_F(ExecOpTest, SelectorsStayInTheInput) {
  auto tree = Must(store_->New(nullptr, {}));
  Must(tree->writer().MakeDir("/sub", {}));
  Must(tree->writer().WriteFile("/sub/f", "selected\n", {}));
  Must(tree->writer().MakeSymlink("/abs", "/sub", {}));
  Must(tree->writer().MakeSymlink("/out", "../../../../etc", {}));
  const RefPtr input = Must(tree->Commit());
  for (const char* selector : {"/sub", "abs", "/sub/../abs"}) {
    OpBuilder op("cat /m/f", 2);
    op.Mount("/", 0, -1);
    op.Mount("/m", 1, -1, true).set_selector(selector);
    Context context;
    ASSERT_TRUE(Run(op, {base_, input}, context).ok()) << selector;
    EXPECT_EQ(context.out, "selected\n") << selector;
  }
  for (const char* selector : {"/missing", "/out"}) {
    OpBuilder op("true", 2);
    op.Mount("/", 0, -1);
    op.Mount("/m", 1, -1, true).set_selector(selector);
    auto out = Run(op, {base_, input}, context_);
    EXPECT_TRUE(absl::IsNotFound(out.status())) << selector << ": " << out.status();
    EXPECT_THAT(std::string(out.status().message()), HasSubstr(selector));
  }
}

TEST_F(ExecOpTest, FailureTellsProcessAndCode) {
  OpBuilder op("echo \"why\" >&2; exit 42");
  op.Mount("/", 0, 0);
  auto out = Run(op, {base_}, context_);
  EXPECT_EQ(out.status().message(),
            "process \"/bin/sh -c echo \\\"why\\\" >&2; exit 42\" did not complete successfully: "
            "exit code: 42");
  ASSERT_TRUE(out.status().GetPayload(kExitDetail).has_value());
  EXPECT_EQ(std::string(*out.status().GetPayload(kExitDetail)), "{\"Code\":42}");
}

TEST_F(ExecOpTest, Llb6_85_ValidExitCodes) {
  OpBuilder three("echo kept >/kept; exit 3");
  three.Mount("/", 0, 0);
  three.meta().add_validexitcodes(0);
  three.meta().add_validexitcodes(3);
  auto out = Run(three, {base_}, context_);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ(Read((*out)[0], "/kept"), "kept\n");
  OpBuilder zero("exit 0");
  zero.Mount("/", 0, 0);
  zero.meta().add_validexitcodes(3);
  EXPECT_THAT(std::string(Run(zero, {base_}, context_).status().message()),
              EndsWith("did not complete successfully: exit code: 0"));
}

TEST_F(ExecOpTest, Llb6_83_CacheStaysOutOfTheOutput) {
  OpBuilder write("echo cached >/c/f; echo $(stat -c %a:%u /c)");
  write.Mount("/", 0, 0);
  write.Cache("/c", "id");
  auto out = Run(write, {base_}, context_);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ(context_.out, "755:0\n");
  EXPECT_EQ(Read((*out)[0], "/c/f"), "<absent>");
  OpBuilder read("cat /other/f");
  read.Mount("/", 0, 0);
  read.Cache("/other", "id").set_readonly(true);
  Context context;
  ASSERT_TRUE(Run(read, {base_}, context).ok());
  EXPECT_EQ(context.out, "cached\n");
}

TEST_F(ExecOpTest, CacheOutlivesTheDaemon) {
  OpBuilder op("cat /c/f; echo again >/c/f");
  op.Mount("/", 0, -1);
  op.Cache("/c", "id");
  (void)Run(op, {base_}, context_);
  base_.reset();
  caches_.reset();
  Restart();
  caches_ = std::make_unique<CacheMounts>(store_.get());
  deps_.refs = store_.get();
  deps_.cache_mounts = caches_.get();
  base_ = MakeBase();
  Context context;
  ASSERT_TRUE(Run(op, {base_}, context).ok());
  EXPECT_EQ(context.out, "again\n");
}

TEST_F(ExecOpTest, CacheStartsFromItsInput) {
  const RefPtr first = Make(nullptr, "/seed/a", "one"), second = Make(nullptr, "/seed/a", "two");
  for (const RefPtr& seed : {first, second, first}) {
    OpBuilder op("cat /c/a; echo + >>/c/a", 2);
    op.Mount("/", 0, -1);
    pb::Mount& cache = op.Cache("/c", "id");
    cache.set_input(1);
    cache.set_selector("/seed");
    cache.set_output(0);
    auto out = Run(op, {base_, seed}, context_);
    ASSERT_TRUE(out.ok()) << out.status();
    ASSERT_EQ(out->size(), 1u);
    EXPECT_EQ((*out)[0]->id(), seed->id());
  }
  EXPECT_EQ(context_.out, "onetwoone+\n");
}

TEST_F(ExecOpTest, PartOfACacheThatStartsEmpty) {
  OpBuilder fill("mkdir /c/sub; echo part >/c/sub/f; ln -s sub /c/in; ln -s /etc /c/out");
  fill.Mount("/", 0, -1);
  fill.Cache("/c", "id");
  ASSERT_TRUE(Run(fill, {base_}, context_).ok());
  for (const char* selector : {"/sub", "/in"}) {
    OpBuilder op("cat /c/f");
    op.Mount("/", 0, -1);
    op.Cache("/c", "id").set_selector(selector);
    Context context;
    ASSERT_TRUE(Run(op, {base_}, context).ok()) << selector;
    EXPECT_EQ(context.out, "part\n") << selector;
  }
  for (const char* selector : {"/missing", "/out"}) {
    OpBuilder op("true");
    op.Mount("/", 0, -1);
    op.Cache("/c", "id").set_selector(selector);
    const auto out = Run(op, {base_}, context_);
    EXPECT_TRUE(absl::IsNotFound(out.status())) << selector << ": " << out.status();
    EXPECT_THAT(std::string(out.status().message()), HasSubstr(selector));
  }
}

TEST_F(ExecOpTest, Llb6_82_SameCacheTwiceInOneStep) {
  for (pb::CacheSharingOpt sharing : {pb::LOCKED, pb::SHARED, pb::PRIVATE}) {
    OpBuilder op("echo x >/a/x; cat /b/x");
    op.Mount("/", 0, -1);
    op.Cache("/a", absl::StrCat("twice", sharing), sharing);
    op.Cache("/b", absl::StrCat("twice", sharing), sharing);
    Context context;
    ASSERT_TRUE(Run(op, {base_}, context).ok());
    EXPECT_EQ(context.out, "x\n") << sharing;
  }
}

TEST_F(ExecOpTest, Llb6_81_LockedCachesAreResources) {
  const auto resources = [&](std::vector<std::pair<std::string, pb::CacheSharingOpt>> caches) {
    OpBuilder op("true");
    op.Mount("/", 0, -1);
    for (size_t i = 0; i < caches.size(); ++i)
      op.Cache(absl::StrCat("/c", i), caches[i].first, caches[i].second);
    std::string out;
    for (const auto& one : Must(MakeExecOp(deps_, op.bytes(), {}))->Resources())
      absl::StrAppend(&out, one.name, one.exclusive ? "! " : " ");
    return out;
  };
  EXPECT_EQ(resources({{"a", pb::LOCKED}, {"b", pb::LOCKED}}), "cache-dir:a! cache-dir:b! ");
  EXPECT_EQ(resources({{"b", pb::LOCKED}, {"a", pb::LOCKED}}), "cache-dir:a! cache-dir:b! ");
  EXPECT_EQ(resources({{"a", pb::SHARED}, {"p", pb::PRIVATE}}), "cache-dir:a ");
  EXPECT_EQ(resources({{"a", pb::SHARED}, {"a", pb::LOCKED}}), "cache-dir:a! ");
}

TEST_F(ExecOpTest, Llb6_79_PrivateCaches) {
  CacheMounts::Request request{
      .id = "p", .parent = nullptr, .exclusive_directory = true, .description = "private"};
  std::string first_path;
  {
    auto first = Must(caches_->Acquire(request));
    auto second = Must(caches_->Acquire(request));
    EXPECT_NE(first->path(), second->path());
    std::ofstream(first->path() + "/f") << "1";
    EXPECT_FALSE(fs::exists(second->path() + "/f"));
    std::ofstream(second->path() + "/f") << "2";
  }
  auto again = Must(caches_->Acquire(request));
  EXPECT_TRUE(fs::exists(again->path() + "/f"));
  EXPECT_EQ(Must(store_->Search("cache-dir:p")).size(), 2u);
}

TEST_F(ExecOpTest, Llb6_80_SharedCaches) {
  CacheMounts::Request request{
      .id = "s", .parent = nullptr, .exclusive_directory = false, .description = "shared"};
  for (int round = 0; round < 20; ++round) {
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
      threads.emplace_back([&] {
        auto directory = caches_->Acquire(request);
        EXPECT_TRUE(directory.ok()) << directory.status();
      });
    for (std::thread& thread : threads) thread.join();
  }
  EXPECT_EQ(Must(store_->Search("cache-dir:s")).size(), 1u) << "users got different directories";
  auto one = Must(caches_->Acquire(request));
  auto two = Must(caches_->Acquire(request));
  EXPECT_EQ(one->path(), two->path());
}

TEST_F(ExecOpTest, Llb6_68_IgnoreCacheSeesAnEmptyCache) {
  CacheMounts::Request request{
      .id = "id", .parent = nullptr, .exclusive_directory = false, .description = ""};
  auto in_use = Must(caches_->Acquire(request));
  std::ofstream(in_use->path() + "/f") << "old";
  OpBuilder op("ls /c; echo new >/c/n");
  op.Mount("/", 0, -1);
  op.Cache("/c", "id");
  context_.info.ignore_cache = true;
  auto exec = Must(MakeExecOp(deps_, op.bytes(), context_.info));
  ASSERT_TRUE(exec->MakeCacheMap(context_, 0).ok());
  ASSERT_TRUE(exec->Execute(context_, {MakeResult(base_)}).ok());
  EXPECT_EQ(context_.out, "");
  EXPECT_TRUE(fs::exists(in_use->path() + "/f"));
  // The same job's next step shares what the first one put there.
  ASSERT_TRUE(exec->MakeCacheMap(context_, 0).ok());
  ASSERT_TRUE(exec->Execute(context_, {MakeResult(base_)}).ok());
  EXPECT_EQ(context_.out, "n\n");
  in_use.reset();
  store_->Drain();
  EXPECT_EQ(Must(store_->Search("cache-dir:id")).size(), 1u);
}

class ExecOpSessionTest : public ExecOpTest {
 protected:
  void SetUp() override {
    ExecOpTest::SetUp();
    client_.secrets["s"] = "hush\n";
    sessions_.sessions["poor"] = std::make_shared<FakeSession>("poor", poor_.Channel());
    sessions_.sessions["rich"] = std::make_shared<FakeSession>("rich", client_.Channel());
    context_.session_ids = {"poor", "rich"};
  }
  FakeClient client_, poor_;
};

TEST_F(ExecOpSessionTest, Llb6_72_SecretOfAnySession) {
  OpBuilder op("cat /run/s; stat -c %u:%g:%a /run/s; echo x >/run/s || echo ro; echo $E $O.");
  op.Mount("/", 0, 0);
  pb::Mount& secret = op.Secret("/run/s", "s");
  secret.mutable_secretopt()->set_uid(12);
  secret.mutable_secretopt()->set_gid(34);
  op.Secret("/run/absent", "absent", /*optional=*/true);
  pb::SecretEnv* env = op.exec().add_secretenv();
  env->set_id("s");
  env->set_name("E");
  env = op.exec().add_secretenv();
  env->set_id("absent");
  env->set_name("O");
  env->set_optional(true);
  auto out = Run(op, {base_}, context_);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ(context_.out, "hush\n12:34:400\nro\nhush .\n");
  EXPECT_EQ(Read((*out)[0], "/run/s"), "<absent>");
}

TEST_F(ExecOpSessionTest, MissingSecretIsNamed) {
  OpBuilder op("true");
  op.Mount("/", 0, 0);
  op.Secret("/run/s", "absent");
  auto out = Run(op, {base_}, context_);
  EXPECT_THAT(std::string(out.status().message()), HasSubstr("absent"));
}

TEST_F(ExecOpSessionTest, SshAgentReachesTheClient) {
  // Speaks with the agent from outside of the container: what is mounted is a socket of ours.
  OpBuilder op("stat -c %F:%a /agent; sleep 1");
  op.Mount("/", 0, -1);
  pb::Mount& mount = op.Mount("/agent", -1, -1);
  mount.set_mounttype(pb::SSH);
  mount.mutable_sshopt()->set_id("default");
  mount.mutable_sshopt()->set_mode(0600);
  auto out = Run(op, {base_}, context_);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ(context_.out, "socket:600\n");

  OpBuilder missing("true");
  missing.Mount("/", 0, -1);
  pb::Mount& absent = missing.Mount("/agent", -1, -1);
  absent.set_mounttype(pb::SSH);
  absent.mutable_sshopt()->set_id("other");
  EXPECT_FALSE(Run(missing, {base_}, context_).ok());
  absent.mutable_sshopt()->set_optional(true);
  EXPECT_TRUE(Run(missing, {base_}, context_).ok());
}

TEST_F(ExecOpTest, Llb6_91_HundredAndTenLayers) {
  RefPtr ref = base_;
  for (int i = 0; i < 110; ++i) ref = Make(ref, absl::StrCat("/layer", i), absl::StrCat(i));
  OpBuilder op("cat /layer0 /layer109; echo top >/top");
  op.Mount("/", 0, 0);
  auto out = Run(op, {ref}, context_);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ(context_.out, "0109");
  EXPECT_EQ(Read((*out)[0], "/top"), "top\n");
}

TEST_F(ExecOpTest, Llb6_94_OutOfMemoryText) {
  OpBuilder op("tail /dev/zero");
  op.Mount("/", 0, 0);
  pb::LinuxResources resources;
  resources.set_memory(32 << 20);
  resources.set_memoryswap(32 << 20);
  context_.info.linux_resources = resources.SerializeAsString();
  auto out = Run(op, {base_}, context_);
  EXPECT_THAT(std::string(out.status().message()), EndsWith("cannot allocate memory"));
  EXPECT_THAT(std::string(out.status().message()), HasSubstr("33554432"));
}

TEST_F(ExecOpTest, CancelGivesTheCauseAndLeavesNothing) {
  OpBuilder op("trap '' TERM; echo up; while :; do :; done");
  op.Mount("/", 0, 0);
  op.Cache("/c", "id");
  std::thread canceller([&] {
    absl::SleepFor(absl::Milliseconds(150));
    context_.Cancel(absl::CancelledError("not wanted"));
  });
  auto out = Run(op, {base_}, context_);
  canceller.join();
  EXPECT_EQ(out.status(), absl::CancelledError("not wanted"));
  // The cache directory is free again.
  OpBuilder next("true");
  next.Mount("/", 0, 0);
  next.Cache("/c", "id", pb::LOCKED);
  Context context;
  EXPECT_TRUE(Run(next, {base_}, context).ok());
}

TEST_F(ExecOpTest, ContentDigestIsOfTheSelectedFiles) {
  const RefPtr one = Make(Make(nullptr, "/s/f", "x"), "/other", "1");
  const RefPtr two = Make(Make(nullptr, "/s/f", "x"), "/other", "2");
  OpBuilder op("true", 2);
  op.Mount("/", 0, 0);
  op.Mount("/m", 1, -1, true).set_selector("/s");
  auto exec = Must(MakeExecOp(deps_, op.bytes(), {}));
  auto map = Must(exec->MakeCacheMap(context_, 0));
  ASSERT_EQ(map.inputs.size(), 2u);
  EXPECT_FALSE(map.inputs[0].content_key);
  EXPECT_TRUE(map.inputs[1].content_key);
  EXPECT_NE(map.inputs[1].selector, "");
  EXPECT_EQ(exec->KnownContentDigest(1, MakeResult(one)), std::nullopt);
  const std::string digest = Must(exec->ContentDigest(context_, 1, MakeResult(one)));
  EXPECT_EQ(exec->KnownContentDigest(1, MakeResult(one)), digest);
  EXPECT_EQ(exec->KnownContentDigest(1, MakeResult(two)), std::nullopt);
  EXPECT_EQ(Must(exec->ContentDigest(context_, 1, MakeResult(two))), digest);
  EXPECT_FALSE(exec->ContentDigest(context_, 1, MakeResult(base_)).ok());
}

TEST_F(ExecOpTest, EnvironmentOfTheProcess) {
  OpBuilder op("echo $PATH; echo $http_proxy $HTTP_PROXY $NO_PROXY");
  op.meta().clear_env();
  op.meta().mutable_proxy_env()->set_http_proxy("p:1");
  op.Mount("/", 0, 0);
  ASSERT_TRUE(Run(op, {base_}, context_).ok());
  EXPECT_EQ(context_.out,
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\np:1 p:1\n");
}

}  // namespace
}  // namespace kiln::daemon
