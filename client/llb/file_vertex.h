#pragma once

#include <set>
#include <string>
#include <vector>

#include "client/llb/file_action.h"
#include "client/llb/vertex.h"

namespace kiln::client::llb {

class WireWriter;

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
  // What a daemon must know for this action.
  static void AddCaps(const FileAction::Action& action, std::set<std::string>* caps);
  void WriteAction(const FileAction::Action& action, const std::string& dir, int64_t base,
                   WireWriter& out) const;

  FileAction::Bound chain_;
  Constraints constraints_;
};

}  // namespace kiln::client::llb
