#include "solver/vertex_name.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/buildkit/ops.pb.h"

namespace kiln::solver {
namespace {

std::string ActionName(const pb::FileAction& action) {
  switch (action.action_case()) {
    case pb::FileAction::kMkdir:
      return absl::StrCat("mkdir ", action.mkdir().path());
    case pb::FileAction::kMkfile:
      return absl::StrCat("mkfile ", action.mkfile().path());
    case pb::FileAction::kSymlink:
      return absl::StrCat("symlink ", action.symlink().newpath(), " -> ",
                          action.symlink().oldpath());
    case pb::FileAction::kRm:
      return absl::StrCat("rm ", action.rm().path());
    case pb::FileAction::kCopy:
      return absl::StrCat("copy ", action.copy().src(), " ", action.copy().dest());
    case pb::FileAction::ACTION_NOT_SET:
      break;
  }
  return "unknown";
}

std::string FileName(const pb::FileOp& file) {
  std::vector<std::string> names;
  names.reserve(file.actions_size());
  for (const pb::FileAction& action : file.actions()) names.push_back(ActionName(action));
  return absl::StrJoin(names, ", ");
}

constexpr size_t kMaxPart = 512;
constexpr size_t kMaxMerged = 4096;

absl::string_view Cut(absl::string_view name) { return name.substr(0, kMaxPart); }

std::string MergeName(absl::Span<const absl::string_view> input_names) {
  std::string name = "merge (";
  for (size_t i = 0; i < input_names.size(); ++i) {
    if (name.size() > kMaxMerged) {
      absl::StrAppend(&name, ", ...");
      break;
    }
    absl::StrAppend(&name, i == 0 ? "" : ", ", Cut(input_names[i]));
  }
  return name + ")";
}

// An empty side of a diff is "scratch".
std::string Side(int64_t input, absl::Span<const absl::string_view> input_names) {
  if (input < 0 || static_cast<size_t>(input) >= input_names.size()) return "scratch";
  return absl::StrCat("(", Cut(input_names[static_cast<size_t>(input)]), ")");
}

}  // namespace

std::string VertexName(const pb::Op& op, absl::Span<const absl::string_view> input_names) {
  switch (op.op_case()) {
    case pb::Op::kSource:
      return op.source().identifier();
    case pb::Op::kExec:
      return absl::StrJoin(op.exec().meta().args(), " ");
    case pb::Op::kFile:
      return FileName(op.file());
    case pb::Op::kBuild:
      return "build";
    case pb::Op::kMerge:
      return MergeName(input_names);
    case pb::Op::kDiff:
      return absl::StrCat("diff ", Side(op.diff().lower().input(), input_names), " -> ",
                          Side(op.diff().upper().input(), input_names));
    case pb::Op::kPassthrough:
      return absl::StrCat("passthrough ", op.passthrough().id());
    case pb::Op::OP_NOT_SET:
      break;
  }
  return "unknown";
}

}  // namespace kiln::solver
