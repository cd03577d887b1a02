#include "daemon/ops/file_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/buildkit/ops.pb.h"

namespace kiln::daemon {
namespace {

using ::testing::ElementsAre;

// Actions as {input, secondary, output}.
pb::FileOp Op(const std::vector<std::vector<int>>& actions) {
  pb::FileOp op;
  for (const auto& indices : actions) {
    pb::FileAction* action = op.add_actions();
    action->set_input(indices[0]);
    action->set_secondaryinput(indices[1]);
    action->set_output(indices[2]);
    action->mutable_mkdir()->set_path("/x");
  }
  return op;
}

std::string Refusal(const pb::FileOp& op, int inputs) {
  const auto plan = PlanFileOp(op, inputs);
  if (plan.ok()) return "accepted";
  EXPECT_TRUE(absl::IsInvalidArgument(plan.status()));
  return std::string(plan.status().message());
}

TEST(FilePlan, Llb6_86_EachFaultIsRefused) {
  EXPECT_EQ(Refusal(Op({{5, -1, 0}}), 1), "invalid input index 5, 2 provided");
  EXPECT_EQ(Refusal(Op({{-2, -1, 0}}), 1), "invalid input index -2, 2 provided");
  EXPECT_EQ(Refusal(Op({{0, 2, 0}}), 1), "invalid secondary input index 2");
  EXPECT_EQ(Refusal(Op({{0, -1, 0}, {0, -1, 0}}), 1), "duplicate output 0");
  EXPECT_EQ(Refusal(Op({{0, -1, -1}}), 1), "no outputs specified");
  EXPECT_EQ(Refusal(Op({{0, -1, 0}, {0, -1, 2}}), 1), "missing output index 1");
  EXPECT_EQ(Refusal(Op({{1, -1, 0}}), 1), "loop from index 1");
  EXPECT_EQ(Refusal(Op({{2, -1, -1}, {1, -1, 0}}), 1), "loop from index 2");
  EXPECT_EQ(Refusal(Op({{0, 1, 0}}), 1), "loop from index 1");
  EXPECT_EQ(Refusal(Op({}), 1), "invalid file op with no actions");
  pb::FileOp unset;
  unset.add_actions();
  EXPECT_EQ(Refusal(unset, 1), "invalid action type");
  pb::FileOp owner = Op({{0, -1, 0}});
  owner.mutable_actions(0)->mutable_mkdir()->mutable_owner()->mutable_user()->mutable_byname();
  EXPECT_EQ(Refusal(owner, 1), "accepted");
  owner.mutable_actions(0)
      ->mutable_mkdir()
      ->mutable_owner()
      ->mutable_user()
      ->mutable_byname()
      ->set_input(1);
  EXPECT_EQ(Refusal(owner, 1), "invalid input index 1 in file op with 1 inputs");
  owner.mutable_actions(0)
      ->mutable_mkdir()
      ->mutable_owner()
      ->mutable_user()
      ->mutable_byname()
      ->set_input(-1);
  EXPECT_EQ(Refusal(owner, 1),
            "invalid input index -1 in file op with 1 inputs: an empty tree knows no users by "
            "name; use numbers");
}

TEST(FilePlan, OrdersAndCounts) {
  // 1 <- 0, 2 copies from 1 onto input 0, 3 is not needed.
  const auto plan = PlanFileOp(Op({{0, -1, -1}, {1, -1, 1}, {0, 2, 0}, {0, -1, -1}}), 1);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->outputs, ElementsAre(2, 1));
  EXPECT_THAT(plan->order, ElementsAre(0, 1, 2));
  EXPECT_FALSE(plan->RequiresCommit(0));
  EXPECT_TRUE(plan->RequiresCommit(1));
  const auto fork = PlanFileOp(Op({{-1, -1, -1}, {0, -1, 0}, {0, -1, 1}}), 0);
  ASSERT_TRUE(fork.ok());
  EXPECT_TRUE(fork->RequiresCommit(0));
  const auto both = PlanFileOp(Op({{-1, -1, -1}, {0, 0, 0}}), 0);
  ASSERT_TRUE(both.ok());
  EXPECT_TRUE(both->RequiresCommit(0));
}

TEST(FilePlan, ManyActionsNeedNoStack) {
  std::vector<std::vector<int>> actions;
  for (int i = 0; i < 200000; ++i) actions.push_back({i == 0 ? -1 : i - 1, -1, -1});
  actions.back()[2] = 0;
  const auto plan = PlanFileOp(Op(actions), 0);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->order.size(), 200000u);
}

}  // namespace
}  // namespace kiln::daemon
