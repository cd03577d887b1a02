#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/daemon/ops/op_fixture.h"

namespace kiln::daemon {
namespace {

using store::TreeWriter;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class TreeOps : public OpsTest {
 protected:
  absl::StatusOr<RefPtr> Merge(const std::vector<RefPtr>& inputs) {
    pb::Op op = OpWith(static_cast<int>(inputs.size()));
    op.mutable_merge();
    for (size_t i = 0; i < inputs.size(); ++i)
      op.mutable_merge()->add_inputs()->set_input(static_cast<int64_t>(i));
    return Run(op, inputs);
  }
  absl::StatusOr<RefPtr> Diff(const RefPtr& lower, const RefPtr& upper) {
    pb::Op op = OpWith(2);
    op.mutable_diff()->mutable_lower()->set_input(0);
    op.mutable_diff()->mutable_upper()->set_input(1);
    return Run(op, {lower, upper});
  }
  std::string Refusal(const pb::Op& op) {
    const auto resolved = Resolve(op);
    if (resolved.ok()) return "accepted";
    EXPECT_TRUE(absl::IsInvalidArgument(resolved.status()));
    return std::string(resolved.status().message());
  }
};

TEST_F(TreeOps, Llb6_90_MergeOrderAndDeletions) {
  const RefPtr a = Make(nullptr, "/f", "a");
  const RefPtr b = Make(nullptr, "/f", "b");
  EXPECT_EQ(ShowOr(Merge({a, b})), "f=b ");
  EXPECT_EQ(ShowOr(Merge({b, a})), "f=a ");
  const RefPtr base = Make(Make(nullptr, "/keep", "k"), "/gone", "g");
  const RefPtr without = Delete(base, "/gone");
  const RefPtr deletion = store::Must(Diff(base, without));
  EXPECT_EQ(ShowOr(Merge({base, deletion})), "keep=k ");
  // Only what is below goes away, and doing it twice does no harm.
  EXPECT_EQ(ShowOr(Merge({deletion, Make(nullptr, "/gone", "again")})), "gone=again ");
  EXPECT_EQ(ShowOr(Merge({base, deletion, deletion})), "keep=k ");
  const RefPtr x = Make(without, "/new", "n");
  EXPECT_EQ(ShowOr(Merge({base, store::Must(Diff(base, x))})), Show(x));
}

TEST_F(TreeOps, Llb6_92_PassthroughReturnsItsInputs) {
  const RefPtr a = Make(nullptr, "/f", "a"), b = Make(nullptr, "/f", "b");
  pb::Op op = OpWith(3);
  op.mutable_passthrough()->set_id("p");
  op.mutable_passthrough()->add_outputs(1);
  op.mutable_passthrough()->add_outputs(0);
  op.mutable_passthrough()->add_outputs(1);
  const auto outputs = RunAll(op, {a, b, nullptr});
  ASSERT_OK(outputs);
  ASSERT_EQ(outputs->size(), 3u);
  EXPECT_EQ((*outputs)[0], b);
  EXPECT_EQ((*outputs)[1], a);
  EXPECT_EQ((*outputs)[2], b);
  EXPECT_EQ(MapOf(op).inputs.size(), 3u);
}

TEST_F(TreeOps, Llb6_93_NothingIsTheEmptyTree) {
  const RefPtr a = Make(nullptr, "/f", "a");
  EXPECT_EQ(store::Must(Diff(a, a)), nullptr);
  EXPECT_EQ(store::Must(Diff(nullptr, nullptr)), nullptr);
  EXPECT_EQ(store::Must(Diff(nullptr, a)), a);
  EXPECT_EQ(store::Must(Merge({})), nullptr);
  EXPECT_EQ(store::Must(Merge({nullptr, nullptr})), nullptr);
  EXPECT_EQ(store::Must(Merge({nullptr, a})), a);
  // Everything of a goes away.
  const auto all = Diff(a, nullptr);
  ASSERT_OK(all);
  EXPECT_EQ(ShowOr(Merge({a, *all})), "");
}

TEST_F(TreeOps, DiffSides) {
  const RefPtr a = Make(nullptr, "/f", "a");
  pb::Op op = OpWith(1);
  op.mutable_diff()->mutable_lower()->set_input(-1);
  op.mutable_diff()->mutable_upper()->set_input(0);
  EXPECT_EQ(store::Must(Run(op, {a})), a);
}

TEST_F(TreeOps, BuildHandsOverTheDefinition) {
  pb::Definition definition;
  definition.add_def("something");
  const RefPtr tree = Make(nullptr, "/buildkit.llb.definition", definition.SerializeAsString());
  pb::Op op = OpWith(1);
  op.mutable_build()->set_builder(-1);
  (*op.mutable_build()->mutable_inputs())["buildkit.llb.definition"].set_input(0);
  auto build = store::Must(Resolve(op));
  const auto result = build->Execute(context_, std::vector{MakeResult(tree)});
  ASSERT_OK(result);
  EXPECT_EQ(result->nested_definition, definition.SerializeAsString());
  EXPECT_TRUE(result->outputs.empty());
  EXPECT_FALSE(build->TakesSlot());
  EXPECT_THAT(build->Execute(context_, std::vector{MakeResult(nullptr)}).status().ToString(),
              HasSubstr("failed to open buildkit.llb.definition"));
  (*op.mutable_build()->mutable_attrs())["llbbuild.filename"] = "other";
  build = store::Must(Resolve(op));
  EXPECT_THAT(build->Execute(context_, std::vector{MakeResult(Make(nullptr, "/other", "\xff\xff"))})
                  .status()
                  .ToString(),
              HasSubstr("other is not an LLB definition"));
}

TEST_F(TreeOps, Refusals) {
  pb::Op merge = OpWith(2);
  merge.mutable_merge()->add_inputs();
  EXPECT_EQ(Refusal(merge), "invalid merge op: 1 merge inputs for 2 inputs");
  merge.mutable_merge()->add_inputs()->set_input(2);
  EXPECT_EQ(Refusal(merge), "invalid merge input index 2");
  pb::Op diff = OpWith(1);
  diff.mutable_diff()->mutable_lower();
  EXPECT_EQ(Refusal(diff), "invalid diff op with nil lower or upper input");
  diff.mutable_diff()->mutable_upper()->set_input(1);
  EXPECT_EQ(Refusal(diff), "invalid diff input index 1");
  diff.mutable_diff()->mutable_upper()->set_input(0);
  EXPECT_EQ(Refusal(diff), "invalid diff op: 2 sides for 1 inputs");
  pb::Op pass = OpWith(1);
  pass.mutable_passthrough();
  EXPECT_EQ(Refusal(pass), "invalid passthrough op with no id");
  pass.mutable_passthrough()->set_id("p");
  EXPECT_EQ(Refusal(pass), "invalid passthrough op with no outputs");
  pass.mutable_passthrough()->add_outputs(1);
  EXPECT_EQ(Refusal(pass), "invalid passthrough output input index 1");
  pb::Op build = OpWith(1);
  build.mutable_build()->set_builder(0);
  EXPECT_EQ(Refusal(build), "only LLB builder is currently allowed");
  build.mutable_build()->set_builder(-1);
  EXPECT_EQ(Refusal(build), "no llb definition input buildkit.llb.definition found");
  pb::Op source = OpWith(1);
  source.mutable_source()->set_identifier("local://x");
  EXPECT_EQ(Refusal(source), "source op local://x has inputs");
}

TEST_F(TreeOps, SourcesThatAreNotThere) {
  const auto answer = [&](const std::string& identifier) {
    pb::Op op = OpWith(0);
    op.mutable_source()->set_identifier(identifier);
    return store::Must(Resolve(op))->MakeCacheMap(context_, 0).status();
  };
  for (const char* scheme : {"docker-image", "oci-layout", "docker-image+blob"}) {
    const absl::Status status = answer(absl::StrCat(scheme, "://example.com/x"));
    EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat(scheme, " sources")));
  }
  EXPECT_EQ(answer("ftp://x").message(), "unknown scheme ftp");
  EXPECT_EQ(answer("nonsense").message(), "failed to parse nonsense");
  EXPECT_EQ(store::Must(Resolve(OpWith(0)))->MakeCacheMap(context_, 0).status().message(),
            "no support for <nil>");
}

}  // namespace
}  // namespace kiln::daemon
