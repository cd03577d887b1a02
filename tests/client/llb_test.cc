#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/llb/exec.h"
#include "client/llb/file_action.h"
#include "client/llb/from_definition.h"
#include "client/llb/source.h"
#include "client/llb/state.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"

namespace kiln::client::llb {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

pb::Definition MarshalOrDie(const State& state, const Constraints& defaults = {}) {
  const auto definition = state.Marshal(defaults);
  EXPECT_TRUE(definition.ok()) << definition.status();
  pb::Definition out;
  if (definition.ok()) {
    EXPECT_TRUE(out.ParseFromString(definition->Serialize()));
  }
  return out;
}

pb::Op OpAt(const pb::Definition& definition, int index) {
  pb::Op op;
  EXPECT_TRUE(op.ParseFromString(definition.def(index)));
  return op;
}

TEST(LlbState, ScratchIsAnEmptyDefinition) {
  EXPECT_EQ(MarshalOrDie(State()).def_size(), 0);
  EXPECT_TRUE(Merge({State(), State()}).scratch());
  EXPECT_TRUE(Diff(State(), State()).scratch());
}

TEST(LlbState, EnvironmentKeepsTheOrderOfTheLastSetting) {
  const auto definition = MarshalOrDie(
      Image("busybox").AddEnv("A", "1").AddEnv("B", "2").AddEnv("A", "3").Dir("/w").Dir("../x").Run(
          Args({"true"})));
  const pb::Op op = OpAt(definition, 1);
  EXPECT_THAT(op.exec().meta().env(), ElementsAre("B=2", "A=3"));
  EXPECT_EQ(op.exec().meta().cwd(), "/x");
}

// Variables are changed in place where only one state has them: never those of another.
TEST(LlbState, StatesDoNotSeeEachOthersVariables) {
  const State base = Image("busybox").AddEnv("A", "1");
  State changed = base;
  changed = std::move(changed).AddEnv("B", "2");
  const ExecState before = changed.Run(Args({"before"}));
  const std::string first = before.Marshal()->Serialize();
  changed = std::move(changed).AddEnv("A", changed.env()[1].second);
  changed = std::move(changed).AddEnv("C", "3");
  const auto env = [](const State& state) {
    const pb::Op op = OpAt(MarshalOrDie(state.Run(Args({"x"}))), 1);
    return std::vector<std::string>(op.exec().meta().env().begin(), op.exec().meta().env().end());
  };
  EXPECT_THAT(env(base), ElementsAre("A=1"));
  EXPECT_THAT(env(changed), ElementsAre("B=2", "A=2", "C=3"));
  EXPECT_EQ(before.Marshal()->Serialize(), first);
}

TEST(LlbState, SettingsReachTheOp) {
  RunInfo info = Args({"id"});
  info.valid_exit_codes = {0, 3};
  const pb::Op op = OpAt(MarshalOrDie(Image("busybox")
                                          .User("nobody")
                                          .Hostname("h")
                                          .Network(NetMode::kNone)
                                          .Security(SecurityMode::kInsecure)
                                          .AddExtraHost("db", "10.0.0.1")
                                          .AddUlimit({"nofile", 10, 20})
                                          .CgroupParent("/g")
                                          .Run(info)),
                         1);
  EXPECT_EQ(op.exec().meta().user(), "nobody");
  EXPECT_EQ(op.exec().meta().hostname(), "h");
  EXPECT_EQ(op.exec().network(), pb::NONE);
  EXPECT_EQ(op.exec().security(), pb::INSECURE);
  EXPECT_EQ(op.exec().meta().extrahosts(0).ip(), "10.0.0.1");
  EXPECT_EQ(op.exec().meta().ulimit(0).hard(), 20);
  EXPECT_EQ(op.exec().meta().cgroupparent(), "/g");
  EXPECT_THAT(op.exec().meta().validexitcodes(), ElementsAre(0, 3));
}

TEST(LlbState, MetadataDoesNotChangeTheDigest) {
  const State plain = Image("busybox").Run(Args({"true"}));
  const State named = Image("busybox").Run(Args({"true"}, IgnoreCache(Named("n"))));
  const pb::Definition a = MarshalOrDie(plain), b = MarshalOrDie(named);
  EXPECT_EQ(a.def(a.def_size() - 1), b.def(b.def_size() - 1));
  const std::string digest = OpAt(b, b.def_size() - 1).inputs(0).digest();
  EXPECT_TRUE(b.metadata().at(digest).ignore_cache());
  EXPECT_EQ(b.metadata().at(digest).description().at("llb.customname"), "n");
}

TEST(LlbState, LocalWithoutSessionCarriesTheUniqueId) {
  Constraints defaults;
  defaults.local_unique_id = "u1";
  const pb::Op op = OpAt(MarshalOrDie(Local("src"), defaults), 0);
  EXPECT_EQ(op.source().attrs().at("local.unique"), "u1");
  EXPECT_FALSE(op.has_platform());
}

TEST(LlbState, WorkerFiltersOfDefaultsComeFirst) {
  Constraints defaults, own;
  defaults.worker_filters = {"a"};
  own.worker_filters = {"b"};
  const pb::Op op = OpAt(MarshalOrDie(Source("https://example.com/x", {}, own), defaults), 0);
  EXPECT_THAT(op.constraints().filter(), ElementsAre("a", "b"));
}

TEST(LlbFile, CopyFromAnActionStaysInOneStep) {
  FileAction inner = Mkfile("/f", 0600, "data");
  const State state =
      State().File(FileAction().CopyFromAction(inner, State(), "/f", "/g").Rm("/g"));
  const pb::Definition definition = MarshalOrDie(state);
  ASSERT_EQ(definition.def_size(), 2);
  const pb::FileOp file = OpAt(definition, 0).file();
  ASSERT_EQ(file.actions_size(), 3);
  EXPECT_EQ(file.actions(1).input(), -1);
  EXPECT_EQ(file.actions(1).secondaryinput(), 0);
  EXPECT_EQ(file.actions(2).input(), 1);
  EXPECT_EQ(file.actions(2).output(), 0);
}

TEST(LlbErrors, NameTheOp) {
  EXPECT_THAT(Image("b").Run(Args({})).Marshal().status().message(),
              HasSubstr("arguments are required"));
  EXPECT_THAT(Image("b").Run(Shlex("echo 'x")).Marshal().status().message(), HasSubstr("echo 'x"));
  ExecState run = Image("b").Run(Args({"true"}));
  const State tmp = run.AddMount({.target = "/t", .tmpfs = true});
  EXPECT_THAT(tmp.Marshal().status().message(), HasSubstr("/t"));
  EXPECT_THAT(State().File(FileAction()).Marshal().status().message(),
              HasSubstr("action is required"));
  EXPECT_THAT(Source("nowhere", {}).Marshal().status().message(), HasSubstr("nowhere"));
}

TEST(LlbDepth, LongChainsNeedNoStack) {
  State state;
  for (int i = 0; i < 100000; ++i) state = state.File(Mkdir(absl::StrCat("/", i), 0755));
  const auto definition = state.Marshal();
  ASSERT_TRUE(definition.ok());
  EXPECT_EQ(definition->ops().size(), 100001u);
}

TEST(LlbImage, NamesGetTheirFullForm) {
  EXPECT_EQ(NormalizeImageRef("busybox"), "docker.io/library/busybox:latest");
  EXPECT_EQ(NormalizeImageRef("a/b:1"), "docker.io/a/b:1");
  EXPECT_EQ(NormalizeImageRef("localhost:5000/x"), "localhost:5000/x:latest");
  EXPECT_EQ(NormalizeImageRef("ghcr.io/x@sha256:00"), "ghcr.io/x@sha256:00");
}

TEST(LlbFromDefinition, KeepsOpsAndWhatTravelsBesideThem) {
  Constraints constraints = Named("a step");
  const auto text = std::make_shared<const SourceText>(SourceText{"F", "Dockerfile", "FROM x", ""});
  constraints.metadata.locations = {{text, {{1, 0, 1, 0}}}};
  const State made = Image("b").File(Mkdir("/d", 0755), constraints);
  const pb::Definition before = MarshalOrDie(made);
  const auto given = FromDefinition(before.SerializeAsString());
  ASSERT_TRUE(given.ok()) << given.status();
  const pb::Definition after = MarshalOrDie(*given);
  ASSERT_EQ(after.def_size(), before.def_size());
  for (int i = 0; i < after.def_size(); ++i) EXPECT_EQ(after.def(i), before.def(i));
  EXPECT_EQ(after.source().ShortDebugString(), before.source().ShortDebugString());
  ASSERT_EQ(after.source().infos_size(), 1);
  EXPECT_EQ(after.source().infos(0).data(), "FROM x");
  const std::string mkdir = Digest::Of(before.def(1)).ToString();
  EXPECT_EQ(after.metadata().at(mkdir).description().at("llb.customname"), "a step");
  // What is built upon it refers to the same ops.
  const pb::Definition more = MarshalOrDie(given->File(Mkdir("/e", 0755)));
  EXPECT_EQ(more.def(1), before.def(1));
}

TEST(LlbFromDefinition, RefusesWhatIsNoGraph) {
  EXPECT_THAT(FromDefinition("\xff").status().message(), HasSubstr("parse llb definition"));
  EXPECT_TRUE(FromDefinition("")->scratch());
  pb::Definition broken = MarshalOrDie(Image("b").File(Mkdir("/d", 0755)));
  std::swap(*broken.mutable_def(0), *broken.mutable_def(1));
  EXPECT_THAT(FromDefinition(broken.SerializeAsString()).status().message(),
              HasSubstr("which is not before it"));
}

TEST(LlbDeferredSource, IsDecidedWhenTheGraphIsWritten) {
  auto paths = std::make_shared<std::vector<std::string>>();
  const State local = DeferredSource([paths] {
    LocalInfo info;
    info.follow_paths = *paths;
    return Local("context", info);
  });
  const State copied = State().File(Copy(local, "/a", "/"));
  paths->push_back("a");
  const pb::Definition definition = MarshalOrDie(copied);
  EXPECT_EQ(OpAt(definition, 0).source().attrs().at("local.followpaths"), "[\"a\"]");
}

}  // namespace
}  // namespace kiln::client::llb
