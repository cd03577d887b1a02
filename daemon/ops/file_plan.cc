#include "daemon/ops/file_plan.h"

#include <cstdint>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/buildkit/ops.pb.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

absl::Status CheckUser(const pb::UserOpt& user, int inputs) {
  if (!user.has_byname()) return absl::OkStatus();
  const int64_t input = user.byname().input();
  if (input >= 0 && input < inputs) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("invalid input index ", input, " in file op with ", inputs, " inputs",
                   input == -1 ? ": an empty tree knows no users by name; use numbers" : ""));
}

absl::Status CheckOwner(const pb::ChownOpt& owner, int inputs) {
  KILN_RETURN_IF_ERROR(CheckUser(owner.user(), inputs));
  return CheckUser(owner.group(), inputs);
}

absl::Status CheckAction(const pb::FileAction& action, int inputs) {
  switch (action.action_case()) {
    case pb::FileAction::kCopy:
      return CheckOwner(action.copy().owner(), inputs);
    case pb::FileAction::kMkfile:
      return CheckOwner(action.mkfile().owner(), inputs);
    case pb::FileAction::kMkdir:
      return CheckOwner(action.mkdir().owner(), inputs);
    case pb::FileAction::kSymlink:
      return CheckOwner(action.symlink().owner(), inputs);
    case pb::FileAction::kRm:
      return absl::OkStatus();
    default:
      return absl::InvalidArgumentError("invalid action type");
  }
}

// Depth first from `start`, without recursion: an op may have very many actions.
absl::Status Order(const pb::FileOp& op, int inputs, int start, std::vector<char>* state,
                   std::vector<int>* order) {
  enum : char { kNew, kOpen, kDone };
  std::vector<std::pair<int, int>> stack = {{start, 0}};  // action, next of its two inputs
  while (!stack.empty()) {
    auto& [action, next] = stack.back();
    char& mine = (*state)[static_cast<size_t>(action)];
    mine = kOpen;
    if (next == 2) {
      mine = kDone;
      order->push_back(action);
      stack.pop_back();
      continue;
    }
    const pb::FileAction& message = op.actions(action);
    const int64_t wanted = next++ == 0 ? message.input() : message.secondaryinput();
    if (wanted < inputs) continue;
    const int other = static_cast<int>(wanted) - inputs;
    const char there = (*state)[static_cast<size_t>(other)];
    if (there == kOpen) return absl::InvalidArgumentError(absl::StrCat("loop from index ", wanted));
    if (there == kNew) stack.emplace_back(other, 0);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<FilePlan> PlanFileOp(const pb::FileOp& op, int inputs) {
  const int count = op.actions_size();
  if (count == 0) return absl::InvalidArgumentError("invalid file op with no actions");
  FilePlan plan;
  plan.inputs = inputs;
  plan.uses.resize(static_cast<size_t>(count));
  plan.is_output.resize(static_cast<size_t>(count));
  std::map<int64_t, int> outputs;
  for (int i = 0; i < count; ++i) {
    const pb::FileAction& action = op.actions(i);
    if (action.input() < -1 || action.input() >= inputs + count)
      return absl::InvalidArgumentError(
          absl::StrCat("invalid input index ", action.input(), ", ", inputs + count, " provided"));
    if (action.secondaryinput() < -1 || action.secondaryinput() >= inputs + count)
      return absl::InvalidArgumentError(
          absl::StrCat("invalid secondary input index ", action.secondaryinput()));
    KILN_RETURN_IF_ERROR(CheckAction(action, inputs));
    if (action.output() == -1) continue;
    if (!outputs.emplace(action.output(), i).second)
      return absl::InvalidArgumentError(absl::StrCat("duplicate output ", action.output()));
    plan.is_output[static_cast<size_t>(i)] = true;
  }
  if (outputs.empty()) return absl::InvalidArgumentError("no outputs specified");
  for (int64_t slot = 0; slot < static_cast<int64_t>(outputs.size()); ++slot) {
    const auto found = outputs.find(slot);
    if (found == outputs.end())
      return absl::InvalidArgumentError(absl::StrCat("missing output index ", slot));
    plan.outputs.push_back(found->second);
  }
  std::vector<char> state(static_cast<size_t>(count));
  for (const int output : plan.outputs) {
    if (state[static_cast<size_t>(output)] != 0) continue;
    KILN_RETURN_IF_ERROR(Order(op, inputs, output, &state, &plan.order));
  }
  for (const int action : plan.order) {
    for (const int64_t wanted : {op.actions(action).input(), op.actions(action).secondaryinput()}) {
      if (wanted >= inputs) ++plan.uses[static_cast<size_t>(wanted - inputs)];
    }
  }
  return plan;
}

}  // namespace kiln::daemon
