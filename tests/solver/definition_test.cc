#include "solver/definition.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"
#include "proto/op_bytes.h"
#include "solver/capabilities.h"
#include "solver/linux_resources.h"

namespace kiln::solver {
namespace {

using testing::ElementsAre;
using testing::StartsWith;

// Builds definitions op by op; the terminal op is added by Bytes().
class Draft {
 public:
  // Index of the new op. `inputs`: indices of earlier ones.
  int Add(pb::Op op, const std::vector<int>& inputs = {}) {
    for (int input : inputs) op.add_inputs()->set_digest(DigestOf(input));
    ops_.push_back(CanonicalOpBytes(op));
    return static_cast<int>(ops_.size()) - 1;
  }
  int AddRaw(std::string bytes) {
    ops_.push_back(std::move(bytes));
    return static_cast<int>(ops_.size()) - 1;
  }
  std::string DigestOf(int op) const {
    return Digest::Of(ops_[static_cast<size_t>(op)]).ToString();
  }
  pb::OpMetadata& Metadata(int op) { return (*definition.mutable_metadata())[DigestOf(op)]; }
  std::string Bytes(int root = -1) {
    pb::Definition out = definition;
    for (const std::string& op : ops_) out.add_def(op);
    pb::Op terminal;
    terminal.add_inputs()->set_digest(
        DigestOf(root < 0 ? static_cast<int>(ops_.size()) - 1 : root));
    out.add_def(CanonicalBytes(terminal));
    return CanonicalBytes(out);
  }

  pb::Definition definition;

 private:
  std::vector<std::string> ops_;
};

pb::Op Source(const std::string& identifier) {
  pb::Op op;
  op.mutable_source()->set_identifier(identifier);
  return op;
}

pb::Op Exec(const std::string& arg) {
  pb::Op op;
  op.mutable_exec()->mutable_meta()->add_args(arg);
  pb::Mount* mount = op.mutable_exec()->add_mounts();
  mount->set_dest("/");
  return op;
}

std::string ErrorOf(const std::string& definition, const std::vector<std::string>& granted = {}) {
  return std::string(LoadDefinition(definition, granted).status().message());
}

// What loading says of an exec, file, … op over two sources.
std::string Refusal(pb::Op op, int inputs = 2) {
  Draft draft;
  std::vector<int> indices;
  for (int i = 0; i < inputs; ++i) indices.push_back(draft.Add(Source(absl::StrCat("s://", i))));
  if (inputs == 0) draft.Add(Source("s://unused"));
  draft.Add(std::move(op), indices);
  const std::string error = ErrorOf(draft.Bytes());
  const std::string prefix = "failed to load LLB: ";
  return error.rfind(prefix, 0) == 0 ? error.substr(prefix.size()) : error;
}

TEST(DefinitionTest, Llb6_109_Row1_Empty) {
  pb::Definition definition;
  (*definition.mutable_metadata())["sha256:x"].set_ignore_cache(true);
  EXPECT_EQ(ErrorOf(CanonicalBytes(definition)), "failed to load LLB: invalid empty definition");
  EXPECT_TRUE(LoadDefinition("", {})->vertices.empty());  // scratch
}

TEST(DefinitionTest, Llb6_109_Row2_Unparseable) {
  Draft draft;
  draft.AddRaw("\xff\xff\xff");
  EXPECT_THAT(ErrorOf(draft.Bytes()),
              StartsWith("failed to load LLB: failed to parse llb proto op: "));
  EXPECT_THAT(ErrorOf("\xff\xff"), StartsWith("failed to load LLB: "));
}

TEST(DefinitionTest, Llb6_109_Row3_OutputIndex) {
  Draft draft;
  draft.Add(Source("s://a"));
  pb::Op op = Exec("x");
  pb::Input* input = op.add_inputs();
  input->set_digest(draft.DigestOf(0));
  input->set_index(-1);
  draft.Add(op);
  EXPECT_EQ(ErrorOf(draft.Bytes()), "failed to load LLB: invalid input 0 output index -1");
}

TEST(DefinitionTest, Llb6_109_Row4_MissingInput) {
  for (const std::string& digest : {Digest::Of("no").ToString(), std::string("sha256:short")}) {
    Draft draft;
    pb::Op op = Exec("x");
    op.add_inputs()->set_digest(digest);
    draft.Add(op);
    EXPECT_EQ(ErrorOf(draft.Bytes()), "failed to load LLB: invalid missing input digest " + digest);
  }
}

TEST(DefinitionTest, Llb6_109_Row5_Row6_Terminal) {
  pb::Definition one;
  one.add_def(CanonicalBytes(Source("s://a")));
  one.add_def(CanonicalBytes(Source("s://a")));
  EXPECT_EQ(ErrorOf(CanonicalBytes(one)), "failed to load LLB: invalid LLB with 1 vertexes");
  pb::Definition two;
  two.add_def(CanonicalBytes(Source("s://a")));
  two.add_def(CanonicalBytes(Source("s://b")));
  EXPECT_EQ(ErrorOf(CanonicalBytes(two)),
            "failed to load LLB: invalid LLB with no inputs on last vertex");
}

TEST(DefinitionTest, Llb6_109_Row7_Source) {
  EXPECT_EQ(Refusal(Source("s://x"), 1), "invalid source op with 1 inputs");
}

TEST(DefinitionTest, Llb6_109_Row8_Exec) {
  pb::Op op;
  op.mutable_exec();
  EXPECT_EQ(Refusal(op), "invalid exec op with no meta");
  op.mutable_exec()->mutable_meta();
  EXPECT_EQ(Refusal(op), "invalid exec op with no args");
  op.mutable_exec()->mutable_meta()->add_args("x");
  EXPECT_EQ(Refusal(op), "invalid exec op with no mounts");
  op.mutable_exec()->add_mounts()->set_dest("/mnt");
  EXPECT_EQ(Refusal(op), "invalid exec op with no rootfs");
}

TEST(DefinitionTest, Llb6_109_Row9_File) {
  pb::Op op;
  op.mutable_file();
  EXPECT_EQ(Refusal(op), "invalid file op with no actions");
  pb::FileAction* action = op.mutable_file()->add_actions();
  action->mutable_mkdir()->set_path("/a");
  action->set_input(3);
  EXPECT_EQ(Refusal(op), "invalid input index 3, 3 provided");
  action->set_input(-2);
  EXPECT_EQ(Refusal(op), "invalid input index -2, 3 provided");
  action->set_input(0);
  action->set_secondaryinput(7);
  EXPECT_EQ(Refusal(op), "invalid secondary input index 7");
  action->set_secondaryinput(-1);
  action->mutable_mkdir()->mutable_owner()->mutable_user()->mutable_byname()->set_input(2);
  EXPECT_EQ(Refusal(op), "invalid input index 2 in file op with 2 inputs");
}

TEST(DefinitionTest, Llb6_109_Row10_BuildAndMerge) {
  pb::Op build;
  (*build.mutable_build()->mutable_inputs())["def"].set_input(2);
  EXPECT_THAT(Refusal(build), StartsWith("invalid build input def index 2"));
  pb::Op merge;
  merge.mutable_merge()->add_inputs();
  EXPECT_EQ(Refusal(merge), "invalid merge op with 1 merge inputs and 2 op inputs");
  merge.mutable_merge()->add_inputs()->set_input(2);
  EXPECT_EQ(Refusal(merge), "invalid merge input index 2");
}

TEST(DefinitionTest, Llb6_109_Row11_Row12_Diff) {
  pb::Op diff;
  diff.mutable_diff()->mutable_lower();
  EXPECT_EQ(Refusal(diff), "invalid diff op with nil lower or upper input");
  diff.mutable_diff()->mutable_upper()->set_input(5);
  EXPECT_EQ(Refusal(diff), "invalid diff input index 5");
  diff.mutable_diff()->mutable_upper()->set_input(-1);
  EXPECT_EQ(Refusal(diff), "invalid diff op with 1 non-empty sides and 2 inputs");
}

TEST(DefinitionTest, Llb6_109_Row13_Passthrough) {
  pb::Op op;
  op.mutable_passthrough();
  EXPECT_EQ(Refusal(op), "invalid passthrough op with no id");
  op.mutable_passthrough()->set_id("p");
  EXPECT_EQ(Refusal(op), "invalid passthrough op with no outputs");
  op.mutable_passthrough()->add_outputs(2);
  EXPECT_EQ(Refusal(op), "invalid passthrough output input index 2");
}

TEST(DefinitionTest, Llb6_109_Row14_UnsetOpLoads) { EXPECT_EQ(Refusal(pb::Op()), ""); }

TEST(DefinitionTest, Llb6_109_Row15_Capabilities) {
  Draft draft;
  draft.Metadata(draft.Add(Source("s://a"))).mutable_caps()->insert({"source.nonsense", false});
  const absl::Status status = LoadDefinition(draft.Bytes(), {}).status();
  EXPECT_EQ(status.message(), "failed to load LLB: unknown API capability source.nonsense");
  EXPECT_TRUE(absl::IsUnimplemented(status));
  Draft good;
  good.Metadata(good.Add(Source("s://a"))).mutable_caps()->insert({"source.local", true});
  EXPECT_EQ(ErrorOf(good.Bytes()), "");
  EXPECT_TRUE(std::is_sorted(LlbCapabilities().begin(), LlbCapabilities().end()));
}

TEST(DefinitionTest, Llb6_109_Row16_Entitlements) {
  pb::Op host = Exec("x");
  host.mutable_exec()->set_network(pb::HOST);
  EXPECT_EQ(Refusal(host), "network.host is not allowed");
  pb::Op insecure = Exec("x");
  insecure.mutable_exec()->set_security(pb::INSECURE);
  EXPECT_EQ(Refusal(insecure), "security.insecure is not allowed");
  pb::Op device = Exec("x");
  device.mutable_exec()->add_cdidevices()->set_name("gpu=0");
  EXPECT_EQ(Refusal(device), "device gpu=0 is requested by the build but not allowed");
  Draft draft;
  draft.Add(host, {draft.Add(Source("s://a"))});
  EXPECT_EQ(ErrorOf(draft.Bytes(), {"network.host"}), "");
  Draft devices;
  devices.Add(device, {devices.Add(Source("s://a"))});
  EXPECT_EQ(ErrorOf(devices.Bytes(), {"device=gpu=0"}), "");
  EXPECT_EQ(ErrorOf(devices.Bytes(), {"device"}), "");
  EXPECT_NE(ErrorOf(devices.Bytes(), {"device=gpu"}), "");
}

TEST(DefinitionTest, Llb6_109_Row18_MountInput) {
  pb::Op op = Exec("x");
  op.mutable_exec()->mutable_mounts(0)->set_input(2);
  EXPECT_THAT(Refusal(op), StartsWith("invalid mountinput 2"));
  op.mutable_exec()->mutable_mounts(0)->set_input(-2);
  EXPECT_THAT(Refusal(op), StartsWith("invalid mountinput -2"));
}

TEST(DefinitionTest, InputsComeBeforeConsumersAndUnusedOpsAreLeftOut) {
  Draft draft;
  const int a = draft.Add(Source("s://a"));
  draft.Add(Source("s://unused"));
  const int b = draft.Add(Exec("b"), {a});
  draft.Add(Exec("c"), {b, a});
  const auto graph = LoadDefinition(draft.Bytes(), {});
  ASSERT_TRUE(graph.ok()) << graph.status();
  ASSERT_EQ(graph->vertices.size(), 3u);
  EXPECT_EQ(graph->vertices[graph->root].info->name, "c");
  EXPECT_EQ(graph->vertices[2].inputs[0].vertex, 1u);
  EXPECT_EQ(graph->vertices[2].inputs[1].vertex, 0u);
  EXPECT_EQ(graph->vertices[0].info->digest.ToString(), draft.DigestOf(a));
}

// An encoder that orders fields otherwise gives other received digests but one canonical vertex.
TEST(DefinitionTest, NonCanonicalBytesGetTheCanonicalDigest) {
  pb::Op source = Source("s://a");
  source.mutable_platform()->set_os("linux");
  const std::string canonical = CanonicalOpBytes(source);
  const std::string by_number = CanonicalBytes(source);
  ASSERT_NE(by_number, canonical);
  Draft draft;
  const int raw = draft.AddRaw(by_number);
  draft.Metadata(raw).set_ignore_cache(true);
  draft.Add(Exec("x"), {raw});
  const auto graph = LoadDefinition(draft.Bytes(), {});
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_EQ(graph->vertices[0].info->digest, Digest::Of(canonical));
  EXPECT_TRUE(graph->vertices[0].info->ignore_cache);
  Draft plain;
  plain.Add(Exec("x"), {plain.Add(source)});
  EXPECT_EQ(graph->vertices[1].info->digest,
            LoadDefinition(plain.Bytes(), {})->vertices[1].info->digest);
}

TEST(DefinitionTest, Llb6_108_UnknownFieldsKeepTheDigest) {
  std::string bytes = CanonicalBytes(Source("s://a"));
  bytes += std::string("\xfa\x3f\x02hi", 5);  // field 1023
  Draft draft;
  draft.AddRaw(bytes);
  EXPECT_EQ(LoadDefinition(draft.Bytes(), {})->vertices[0].info->digest, Digest::Of(bytes));
}

TEST(DefinitionTest, Names) {
  Draft draft;
  const int a = draft.Add(Source("s://a"));
  pb::Op exec = Exec("cp");
  exec.mutable_exec()->mutable_meta()->add_args("-a");
  const int b = draft.Add(exec, {a});
  pb::Op file;
  file.mutable_file()->add_actions()->mutable_mkdir()->set_path("/d");
  pb::FileAction* copy = file.mutable_file()->add_actions();
  copy->mutable_copy()->set_src("/x");
  copy->mutable_copy()->set_dest("/y");
  pb::FileAction* link = file.mutable_file()->add_actions();
  link->mutable_symlink()->set_oldpath("/old");
  link->mutable_symlink()->set_newpath("/new");
  const int c = draft.Add(file, {a});
  pb::Op merge;
  merge.mutable_merge()->add_inputs()->set_input(0);
  merge.mutable_merge()->add_inputs()->set_input(1);
  const int d = draft.Add(merge, {a, b});
  pb::Op diff;
  diff.mutable_diff()->mutable_lower()->set_input(-1);
  diff.mutable_diff()->mutable_upper()->set_input(0);
  const int e = draft.Add(diff, {b});
  const int top = draft.Add(Exec("top"), {a, b, c, d, e});
  draft.Metadata(top).mutable_description()->insert({"llb.customname", "the top"});
  const auto graph = LoadDefinition(draft.Bytes(), {});
  ASSERT_TRUE(graph.ok()) << graph.status();
  std::vector<std::string> names;
  for (const LoadedVertex& vertex : graph->vertices) names.push_back(vertex.info->name);
  EXPECT_THAT(names, ElementsAre("s://a", "cp -a", "mkdir /d, copy /x /y, symlink /new -> /old",
                                 "merge (s://a, cp -a)", "diff scratch -> (cp -a)", "the top"));
}

TEST(DefinitionTest, NamesOfMergesDoNotExplode) {
  Draft draft;
  int last = draft.Add(Source("s://a"));
  for (int i = 0; i < 200; ++i) {
    pb::Op merge;
    merge.mutable_merge()->add_inputs()->set_input(0);
    merge.mutable_merge()->add_inputs()->set_input(1);
    last = draft.Add(merge, {last, last});
  }
  const auto graph = LoadDefinition(draft.Bytes(), {});
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_LT(graph->vertices.back().info->name.size(), 2000u);
}

TEST(DefinitionTest, SourceLocationsOutOfRangeAreIgnored) {
  Draft draft;
  draft.Add(Source("s://a"));
  pb::Source* source = draft.definition.mutable_source();
  source->add_infos()->set_filename("Dockerfile");
  pb::Locations& locations = (*source->mutable_locations())[draft.DigestOf(0)];
  locations.add_locations()->set_sourceindex(0);
  locations.add_locations()->set_sourceindex(1);
  locations.add_locations()->set_sourceindex(-1);
  const auto graph = LoadDefinition(draft.Bytes(), {});
  ASSERT_NE(graph->sources, nullptr);
  EXPECT_EQ(graph->sources->locations.at(graph->vertices[0].info->digest).size(), 1u);
}

TEST(DefinitionTest, SourcesWithoutAPlaceHaveThatOfTheirOnlyUser) {
  Draft draft;
  const int download = draft.Add(Source("https://a"));
  const int shared = draft.Add(Source("s://a"));
  const int first = draft.Add(Exec("x"), {download, shared});
  const int step = draft.Add(Exec("y"), {first, shared});
  draft.Add(Exec("z"), {step});
  pb::Source* source = draft.definition.mutable_source();
  source->add_infos()->set_filename("Dockerfile");
  for (const int located : {first, step})
    (*source->mutable_locations())[draft.DigestOf(located)].add_locations()->add_ranges();
  (*source->mutable_locations())[draft.DigestOf(download)];
  const auto graph = LoadDefinition(draft.Bytes(), {});
  ASSERT_TRUE(graph.ok()) << graph.status();
  const auto& locations = graph->sources->locations;
  const auto places = [&](const std::string& name) {
    for (const LoadedVertex& vertex : graph->vertices) {
      const auto found = locations.find(vertex.info->digest);
      if (vertex.info->name == name) return found == locations.end() ? 0 : found->second.size();
    }
    return size_t{99};
  };
  EXPECT_EQ(places("https://a"), 1u);
  EXPECT_EQ(places("s://a"), 0u) << "of two steps: neither";
  EXPECT_EQ(places("z"), 0u) << "a step has its own place or none";
}

TEST(DefinitionTest, Llb6_109_ChainOf200000Loads) {
  Draft draft;
  int last = draft.Add(Source("s://a"));
  for (int i = 0; i < 200'000; ++i) last = draft.Add(Exec("x"), {last});
  const std::string bytes = draft.Bytes();
  const auto graph = LoadDefinition(bytes, {});
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_EQ(graph->vertices.size(), 200'001u);
}

pb::LinuxResources Merged(const pb::LinuxResources& a, const pb::LinuxResources& b) {
  const std::string each[] = {a.SerializeAsString(), b.SerializeAsString()};
  pb::LinuxResources out;
  EXPECT_TRUE(out.ParseFromString(MergeLinuxResources(each)));
  return out;
}

TEST(LinuxResourcesTest, TheMostPermissiveWins) {
  pb::LinuxResources a, b;
  a.set_memory(100);
  b.set_memory(200);
  a.set_memoryswap(-1);
  b.set_memoryswap(500);
  b.set_cpushares(10);
  a.set_cpuquota(50), a.set_cpuperiod(100);
  b.set_cpuquota(80), b.set_cpuperiod(200);
  a.set_cpusetcpus("0-2,8");
  b.set_cpusetcpus("2-4");
  a.set_cpusetmems("1");
  pb::LinuxResources out = Merged(a, b);
  EXPECT_EQ(out.memory(), 200);
  EXPECT_EQ(out.memoryswap(), -1);
  EXPECT_EQ(out.cpushares(), 10u);
  EXPECT_EQ(out.cpuquota(), 50);
  EXPECT_EQ(out.cpusetcpus(), "0-4,8");
  EXPECT_EQ(out.cpusetmems(), "");
  b.set_memory(0);
  b.set_cpuquota(0);
  out = Merged(a, b);
  EXPECT_EQ(out.memory(), 0);
  EXPECT_EQ(out.cpuquota(), 0);
}

}  // namespace
}  // namespace kiln::solver
