#include "daemon/ops/exec_key.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "daemon/ops/content_digest.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"

namespace kiln::daemon {
namespace {

pb::Mount* AddMount(pb::Op& op, const std::string& dest, int64_t input, int64_t output) {
  pb::Mount* mount = op.mutable_exec()->add_mounts();
  mount->set_dest(dest);
  mount->set_input(input);
  mount->set_output(output);
  return mount;
}

// An exec with a root and `inputs` inputs.
pb::Op BaseOp(int inputs = 1) {
  pb::Op op;
  for (int i = 0; i < inputs; ++i) op.add_inputs()->set_digest("sha256:x");
  op.mutable_platform()->set_os("linux");
  op.mutable_platform()->set_architecture("amd64");
  pb::Meta* meta = op.mutable_exec()->mutable_meta();
  meta->add_args("/bin/sh");
  meta->add_args("-c");
  meta->add_args("echo <hi> & bye");
  meta->add_env("A=1");
  meta->set_cwd("/");
  AddMount(op, "/", 0, 0);
  return op;
}

std::string OpDigest(const pb::Op& op) {
  auto keys = MakeExecKeys(op);
  EXPECT_TRUE(keys.ok()) << keys.status();
  return keys.ok() ? keys->op_digest : "";
}

// The very text whose digest BuildKit takes: a plain root leaves the mounts out.
TEST(ExecKeyTest, PlainRootIsGoJsonWithoutMounts) {
  const std::string text = R"({"Type":"buildkit.exec.v0","Exec":{"meta":{"args":["/bin/sh","-c",)"
                           "\"echo \\u003chi\\u003e \\u0026 bye\""
                           R"(],"env":["A=1"],"cwd":"/"}},"OS":"linux","Arch":"amd64"})";
  EXPECT_EQ(OpDigest(BaseOp()), Digest::Of(text).ToString());
}

TEST(ExecKeyTest, EveryFieldHasItsPlace) {
  pb::Op op = BaseOp(2);
  pb::Meta* meta = op.mutable_exec()->mutable_meta();
  meta->set_user("me");
  pb::HostIP* host = meta->add_extrahosts();
  host->set_host("h");
  host->set_ip("1.2.3.4");
  meta->set_hostname("box");
  pb::Ulimit* limit = meta->add_ulimit();
  limit->set_name("nofile");
  limit->set_soft(1);
  limit->set_hard(2);
  meta->set_cgroupparent("cg");
  meta->set_removemountstubsrecursive(true);
  meta->add_validexitcodes(0);
  meta->add_validexitcodes(3);
  meta->mutable_proxy_env()->set_http_proxy("http://proxy");
  pb::Mount* bind = AddMount(op, "/src", 1, -1);
  bind->set_selector("/sub");
  bind->set_readonly(true);
  pb::Mount* cache = AddMount(op, "/cache", -1, -1);
  cache->set_mounttype(pb::CACHE);
  cache->mutable_cacheopt()->set_id("other");
  cache->mutable_cacheopt()->set_sharing(pb::LOCKED);
  pb::Mount* secret = AddMount(op, "/run/s", -1, -1);
  secret->set_mounttype(pb::SECRET);
  secret->mutable_secretopt()->set_id("s");
  secret->mutable_secretopt()->set_mode(0400);
  pb::Mount* ssh = AddMount(op, "/run/a", -1, -1);
  ssh->set_mounttype(pb::SSH);
  ssh->mutable_sshopt()->set_id("default");
  ssh->mutable_sshopt()->set_optional(true);
  pb::Mount* tmpfs = AddMount(op, "/t", -1, -1);
  tmpfs->set_mounttype(pb::TMPFS);
  tmpfs->mutable_tmpfsopt()->set_size(9);
  op.mutable_exec()->set_network(pb::HOST);
  op.mutable_exec()->set_security(pb::INSECURE);
  pb::SecretEnv* env = op.mutable_exec()->add_secretenv();
  env->set_id("e");
  env->set_name("E");
  op.mutable_platform()->set_variant("v2");
  const std::string text =
      R"({"Type":"buildkit.exec.v0","Exec":{"meta":{"args":["/bin/sh","-c",)"
      "\"echo \\u003chi\\u003e \\u0026 bye\""
      R"(],"env":["A=1"],"cwd":"/","user":"me","extraHosts":[{"Host":"h"}],"hostname":"box",)"
      R"("ulimit":[{"Name":"nofile","Soft":1,"Hard":2}],"cgroupParent":"cg",)"
      R"("removeMountStubsRecursive":true,"validExitCodes":[0,3]},)"
      R"("mounts":[{"dest":"/"},{"input":1,"dest":"/src","output":-1,"readonly":true},)"
      R"({"input":-1,"dest":"/cache","output":-1,"mountType":3,"cacheOpt":{}},)"
      R"({"input":-1,"dest":"/run/s","output":-1,"mountType":1,"secretOpt":{"ID":"s","mode":256}},)"
      R"({"input":-1,"dest":"/run/a","output":-1,"mountType":2,)"
      R"("SSHOpt":{"ID":"default","optional":true}},)"
      R"({"input":-1,"dest":"/t","output":-1,"mountType":4,"TmpfsOpt":{"size":9}}],)"
      R"("network":1,"security":1,"secretenv":[{"ID":"e","name":"E"}]},)"
      R"("OS":"linux","Arch":"amd64","Variant":"v2"})";
  EXPECT_EQ(OpDigest(op), Digest::Of(text).ToString());
}

TEST(ExecKeyTest, Llb6_46_WhatChangesTheKey) {
  pb::Op base = BaseOp();
  pb::HostIP* host = base.mutable_exec()->mutable_meta()->add_extrahosts();
  host->set_host("h");
  host->set_ip("1.1.1.1");
  const std::string digest = OpDigest(base);
  const auto changed = [&](const std::function<void(pb::Op&, pb::Meta&)>& change) {
    pb::Op op = base;
    change(op, *op.mutable_exec()->mutable_meta());
    return OpDigest(op) != digest;
  };
  EXPECT_FALSE(changed([](auto&, auto& m) { m.mutable_proxy_env()->set_no_proxy("x"); }));
  EXPECT_FALSE(changed([](auto&, auto& m) { m.mutable_extrahosts(0)->set_ip("2.2.2.2"); }));
  EXPECT_TRUE(changed([](auto&, auto& m) { m.mutable_extrahosts(0)->set_host("i"); }));
  EXPECT_TRUE(changed([](auto&, auto& m) { m.add_env("B=2"); }));
  EXPECT_TRUE(changed([](auto&, auto& m) { m.set_cwd("/w"); }));
  EXPECT_TRUE(changed([](auto&, auto& m) { m.set_user("u"); }));
  EXPECT_TRUE(changed([](auto&, auto& m) { m.add_args("x"); }));
  EXPECT_TRUE(changed([](auto&, auto& m) { m.set_hostname("n"); }));
  EXPECT_TRUE(changed([](auto&, auto& m) { m.add_ulimit()->set_name("nproc"); }));
  EXPECT_TRUE(changed([](auto& o, auto&) { o.mutable_exec()->set_network(pb::NONE); }));
  EXPECT_TRUE(changed([](auto& o, auto&) { o.mutable_exec()->set_security(pb::INSECURE); }));
  EXPECT_TRUE(changed([](auto& o, auto&) { o.mutable_exec()->add_secretenv()->set_id("s"); }));
  EXPECT_TRUE(changed([](auto& o, auto&) { o.mutable_platform()->set_architecture("arm64"); }));
}

TEST(ExecKeyTest, Llb6_47_CacheMountIdAndSharing) {
  const auto with = [](const std::string& id, pb::CacheSharingOpt sharing) {
    pb::Op op = BaseOp();
    pb::Mount* mount = AddMount(op, "/c", -1, -1);
    mount->set_mounttype(pb::CACHE);
    mount->mutable_cacheopt()->set_id(id);
    mount->mutable_cacheopt()->set_sharing(sharing);
    return OpDigest(op);
  };
  const std::string other = with("x", pb::SHARED);
  EXPECT_EQ(other, with("y", pb::LOCKED));
  EXPECT_EQ(other, with("/c", pb::PRIVATE));
  EXPECT_NE(other, with("/c", pb::SHARED));
  EXPECT_NE(other, with("ns//c", pb::SHARED));
  EXPECT_NE(with("/c", pb::SHARED), with("ns//c", pb::SHARED));
}

struct ContentCase {
  const char* name;
  const char* dest;
  int64_t output;
  bool readonly;
  const char* selector;
  pb::MountContentCache option;
  int want;  // 0 no, 1 yes, -1 an error
};
class ExecContentKeyTest : public testing::TestWithParam<ContentCase> {};

TEST_P(ExecContentKeyTest, Llb6_48) {
  const ContentCase& c = GetParam();
  pb::Op op = BaseOp(2);
  if (std::string(c.dest) == "/") {
    op.mutable_exec()->clear_mounts();
  }
  pb::Mount* mount = AddMount(op, c.dest, 1, c.output);
  mount->set_readonly(c.readonly);
  mount->set_selector(c.selector);
  mount->set_contentcache(c.option);
  auto keys = MakeExecKeys(op);
  if (c.want < 0) {
    EXPECT_EQ(keys.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(keys.status().message().find("invalid mount cache content"), std::string::npos);
    return;
  }
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_EQ(keys->inputs[1].by_content, c.want == 1);
}

INSTANTIATE_TEST_SUITE_P(Matrix, ExecContentKeyTest,
                         testing::ValuesIn<ContentCase>({
                             {"WritableRoot", "/", 0, false, "", pb::DEFAULT, 0},
                             {"RootAskedFor", "/", 0, false, "", pb::ON, 1},
                             {"ReadonlyBindSelector", "/m", -1, true, "/s", pb::DEFAULT, 1},
                             {"WritableBindNoOutput", "/m", -1, false, "/s", pb::DEFAULT, 1},
                             {"WritableBindOutputSelector", "/m", 1, false, "/s", pb::DEFAULT, 0},
                             {"WritableBindOutputSelectorOn", "/m", 1, false, "/s", pb::ON, -1},
                             {"WritableBindOutputWhole", "/m", 1, false, "/", pb::DEFAULT, 1},
                             {"ReadonlyOff", "/m", -1, true, "/s", pb::OFF, 0},
                             {"DotsSelectEverything", "/m", 1, false, "a/..", pb::DEFAULT, 1},
                         }),
                         [](const auto& test) { return std::string(test.param.name); });

// One mount that needs the whole input decides for all mounts of it, whatever their order.
TEST(ExecKeyTest, Llb6_52_WritableOutputAndReadonlyOfOneInput) {
  for (bool writable_first : {true, false}) {
    pb::Op op = BaseOp(2);
    for (bool writable : {writable_first, !writable_first}) {
      pb::Mount* mount = AddMount(op, writable ? "/w" : "/t", 1, writable ? 1 : -1);
      mount->set_readonly(!writable);
      mount->set_selector(writable ? "/s" : "/t");
    }
    auto keys = MakeExecKeys(op);
    ASSERT_TRUE(keys.ok());
    EXPECT_FALSE(keys->inputs[1].by_content) << writable_first;
  }
}

std::vector<std::string> SelectorsOf(std::vector<std::string> selectors) {
  pb::Op op = BaseOp(2);
  for (size_t i = 0; i < selectors.size(); ++i) {
    pb::Mount* mount = AddMount(op, "/m" + std::to_string(i), 1, -1);
    mount->set_readonly(true);
    mount->set_selector(selectors[i]);
  }
  return MakeExecKeys(op)->inputs[1].selectors;
}

TEST(ExecKeyTest, Llb6_49_SelectorsKeepTheirOrder) {
  EXPECT_EQ(SelectorsOf({"/b", "a/"}), (std::vector<std::string>{"/b", "/a"}));
  EXPECT_NE(CombineContentDigests({"sha256:1", "sha256:2"}),
            CombineContentDigests({"sha256:2", "sha256:1"}));
}

TEST(ExecKeyTest, Llb6_50_NestedAndEqualSelectorsAreKept) {
  EXPECT_EQ(SelectorsOf({"/a", "/a/b"}).size(), 2u);
  EXPECT_NE(CombineContentDigests({"sha256:1", "sha256:2"}), CombineContentDigests({"sha256:1"}));
  EXPECT_NE(CombineContentDigests({"sha256:1", "sha256:1"}), CombineContentDigests({"sha256:1"}));
}

TEST(ExecKeyTest, SelectorDigestIsBuildKits) {
  ExecInputKey key;
  EXPECT_EQ(key.SelectorDigest(), "");
  key.selectors = {"/a", "/b"};
  EXPECT_EQ(key.SelectorDigest(), Digest::Of(absl::string_view("/a\0/b", 5)).ToString());
  EXPECT_EQ(CombineContentDigests({"sha256:1"}), Digest::Of("sha256:1").ToString());
}

TEST(ExecKeyTest, PlatformNamesAreGos) {
  pb::Op op = BaseOp();
  const std::string amd64 = OpDigest(op);
  op.mutable_platform()->set_architecture("x86_64");
  EXPECT_EQ(OpDigest(op), amd64);
  op.mutable_platform()->set_architecture("aarch64");
  op.mutable_platform()->set_variant("v8");
  EXPECT_EQ(PlatformOf(op).architecture, "arm64");
  EXPECT_EQ(PlatformOf(op).variant, "");
}

}  // namespace
}  // namespace kiln::daemon
