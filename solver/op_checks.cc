#include "solver/op_checks.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "proto/buildkit/ops.pb.h"
#include "solver/capabilities.h"
#include "store/base/status_macros.h"

namespace kiln::solver {
namespace {

constexpr int kMaxMounts = 10'000;
constexpr int kMaxActions = 100'000;

template <typename... Args>
absl::Status Invalid(const Args&... args) {
  return absl::InvalidArgumentError(absl::StrCat(args...));
}

absl::Status CheckSource(const pb::Op& op) {
  if (op.inputs_size() != 0) return Invalid("invalid source op with ", op.inputs_size(), " inputs");
  return absl::OkStatus();
}

absl::Status CheckExec(const pb::Op& op) {
  const pb::ExecOp& exec = op.exec();
  if (!exec.has_meta()) return Invalid("invalid exec op with no meta");
  if (exec.meta().args_size() == 0) return Invalid("invalid exec op with no args");
  if (exec.mounts_size() == 0) return Invalid("invalid exec op with no mounts");
  if (exec.mounts_size() > kMaxMounts)
    return Invalid("invalid exec op with ", exec.mounts_size(), " mounts, limit ", kMaxMounts);
  bool has_root = false;
  for (const pb::Mount& mount : exec.mounts()) {
    has_root |= mount.dest() == "/";
    if (mount.input() < -1 || mount.input() >= op.inputs_size())
      return Invalid("invalid mountinput ", mount.input(), " of mount ", mount.dest(), ", ",
                     op.inputs_size(), " inputs provided");
  }
  if (!has_root) return Invalid("invalid exec op with no rootfs");
  return absl::OkStatus();
}

absl::Status CheckOwner(const pb::ChownOpt& owner, int inputs) {
  for (const pb::UserOpt* user : {&owner.user(), &owner.group()}) {
    if (!user->has_byname()) continue;
    const int64_t input = user->byname().input();
    if (input < -1 || input >= inputs)
      return Invalid("invalid input index ", input, " in file op with ", inputs, " inputs");
  }
  return absl::OkStatus();
}

absl::Status CheckFile(const pb::Op& op) {
  const pb::FileOp& file = op.file();
  const int actions = file.actions_size();
  const int inputs = op.inputs_size();
  if (actions == 0) return Invalid("invalid file op with no actions");
  if (actions > kMaxActions)
    return Invalid("invalid file op with ", actions, " actions, limit ", kMaxActions);
  for (const pb::FileAction& action : file.actions()) {
    if (action.input() < -1 || action.input() >= inputs + actions)
      return Invalid("invalid input index ", action.input(), ", ", inputs + actions, " provided");
    if (action.secondaryinput() < -1 || action.secondaryinput() >= inputs + actions)
      return Invalid("invalid secondary input index ", action.secondaryinput());
    switch (action.action_case()) {
      case pb::FileAction::kCopy:
        KILN_RETURN_IF_ERROR(CheckOwner(action.copy().owner(), inputs));
        break;
      case pb::FileAction::kMkfile:
        KILN_RETURN_IF_ERROR(CheckOwner(action.mkfile().owner(), inputs));
        break;
      case pb::FileAction::kMkdir:
        KILN_RETURN_IF_ERROR(CheckOwner(action.mkdir().owner(), inputs));
        break;
      case pb::FileAction::kSymlink:
        KILN_RETURN_IF_ERROR(CheckOwner(action.symlink().owner(), inputs));
        break;
      default:
        break;  // an unset action is refused when the op is evaluated, like BuildKit
    }
  }
  return absl::OkStatus();
}

absl::Status CheckBuild(const pb::Op& op) {
  for (const auto& [name, input] : op.build().inputs()) {
    if (input.input() < 0 || input.input() >= op.inputs_size())
      return Invalid("invalid build input ", name, " index ", input.input(), ", ", op.inputs_size(),
                     " inputs provided");
  }
  return absl::OkStatus();
}

absl::Status CheckMerge(const pb::Op& op) {
  const pb::MergeOp& merge = op.merge();
  if (merge.inputs_size() != op.inputs_size())
    return Invalid("invalid merge op with ", merge.inputs_size(), " merge inputs and ",
                   op.inputs_size(), " op inputs");
  for (const pb::MergeInput& input : merge.inputs()) {
    if (input.input() < 0 || input.input() >= op.inputs_size())
      return Invalid("invalid merge input index ", input.input());
  }
  return absl::OkStatus();
}

absl::Status CheckDiff(const pb::Op& op) {
  const pb::DiffOp& diff = op.diff();
  if (!diff.has_lower() || !diff.has_upper())
    return Invalid("invalid diff op with nil lower or upper input");
  int sides = 0;
  for (int64_t input : {diff.lower().input(), diff.upper().input()}) {
    if (input < -1 || input >= op.inputs_size()) return Invalid("invalid diff input index ", input);
    if (input != -1) ++sides;
  }
  if (sides != op.inputs_size())
    return Invalid("invalid diff op with ", sides, " non-empty sides and ", op.inputs_size(),
                   " inputs");
  return absl::OkStatus();
}

absl::Status CheckPassthrough(const pb::Op& op) {
  const pb::PassthroughOp& passthrough = op.passthrough();
  if (passthrough.id().empty()) return Invalid("invalid passthrough op with no id");
  if (passthrough.outputs_size() == 0) return Invalid("invalid passthrough op with no outputs");
  for (int64_t input : passthrough.outputs()) {
    if (input < 0 || input >= op.inputs_size())
      return Invalid("invalid passthrough output input index ", input);
  }
  return absl::OkStatus();
}

bool Granted(absl::Span<const std::string> granted, absl::string_view name) {
  return std::find(granted.begin(), granted.end(), name) != granted.end();
}

// "device" grants every device, "device=NAME" the one of exactly that name.
absl::Status CheckDevices(const pb::ExecOp& exec, absl::Span<const std::string> granted) {
  if (exec.cdidevices().empty() || Granted(granted, "device")) return absl::OkStatus();
  std::vector<std::string> forbidden;
  for (const pb::CDIDevice& device : exec.cdidevices())
    if (!Granted(granted, absl::StrCat("device=", device.name())))
      forbidden.push_back(device.name());
  if (forbidden.empty()) return absl::OkStatus();
  return Invalid(forbidden.size() == 1 ? "device " : "devices ", absl::StrJoin(forbidden, ", "),
                 forbidden.size() == 1 ? " is" : " are", " requested by the build but not allowed");
}

}  // namespace

absl::Status CheckOp(const pb::Op& op) {
  switch (op.op_case()) {
    case pb::Op::kSource:
      return CheckSource(op);
    case pb::Op::kExec:
      return CheckExec(op);
    case pb::Op::kFile:
      return CheckFile(op);
    case pb::Op::kBuild:
      return CheckBuild(op);
    case pb::Op::kMerge:
      return CheckMerge(op);
    case pb::Op::kDiff:
      return CheckDiff(op);
    case pb::Op::kPassthrough:
      return CheckPassthrough(op);
    case pb::Op::OP_NOT_SET:
      return absl::OkStatus();  // fails when it is solved: "no support for <nil>"
  }
  return absl::OkStatus();
}

absl::Status CheckPermissions(const pb::Op& op, const pb::OpMetadata* metadata,
                              absl::Span<const std::string> granted) {
  if (metadata != nullptr) {
    for (const auto& [id, value] : metadata->caps()) {
      if (!HasLlbCapability(id))
        return absl::UnimplementedError(absl::StrCat("unknown API capability ", id));
    }
  }
  if (!op.has_exec()) return absl::OkStatus();
  if (op.exec().network() == pb::HOST && !Granted(granted, "network.host"))
    return Invalid("network.host is not allowed");
  if (op.exec().security() == pb::INSECURE && !Granted(granted, "security.insecure"))
    return Invalid("security.insecure is not allowed");
  return CheckDevices(op.exec(), granted);
}

}  // namespace kiln::solver
