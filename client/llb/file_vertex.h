#pragma once

#include <string>

#include "client/llb/caps.h"
#include "client/llb/file_action.h"
#include "client/llb/op_draft.h"
#include "client/llb/vertex.h"

namespace kiln::client::llb {

class WireWriter;

// A file op. The only output is the last action's.
class FileVertex : public Vertex {
 public:
  FileVertex(State base, FileAction&& action, Constraints&& constraints);
  ~FileVertex() override;

  Inputs inputs() const override;
  absl::StatusOr<Digest> Write(GraphWriter& graph) const override;

 private:
  struct Draft;
  static void CollectInputs(const FileAction::Bound& chain, Inputs* inputs);
  static void ReleaseChain(FileAction::Bound& chain);
  absl::StatusOr<int> AddChain(const FileAction::Bound& chain, Draft* draft) const;
  // What a daemon must know for this action.
  static void AddCaps(const FileAction::Action& action, CapSet* caps);
  void WriteAction(const FileAction::Action& action, const std::string& dir, int64_t base,
                   WireWriter& out) const;

  FileAction::Bound chain_;
  OpTraits traits_;
};

}  // namespace kiln::client::llb
