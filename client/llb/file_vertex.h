#pragma once

#include <vector>

#include "client/llb/file_action.h"
#include "client/llb/vertex.h"

namespace pb {
class FileAction;
}

namespace kiln::client::llb {

// A file op. The only output is the last action's.
class FileVertex : public Vertex {
 public:
  FileVertex(State base, FileAction action, Constraints constraints);
  ~FileVertex() override;

  std::vector<Output> Inputs() const override;
  absl::StatusOr<MarshalledOp> Marshal(const MarshalContext& context) const override;

 private:
  struct Draft;
  static void CollectInputs(const FileAction::Bound& chain, std::vector<Output>* inputs);
  absl::StatusOr<int> AddChain(const FileAction::Bound& chain, Draft* draft) const;
  absl::Status FillAction(const FileAction::Action& action, const std::string& dir, int64_t base,
                          pb::FileAction* out) const;

  FileAction::Bound chain_;
  Constraints constraints_;
};

}  // namespace kiln::client::llb
