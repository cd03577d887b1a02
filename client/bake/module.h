#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/bake/definition.h"
#include "client/bake/hcl/evaluator.h"

namespace kiln::client::bake {

// The contents of all definition files, evaluated as it is asked for: variables, functions and
// targets may refer to each other in any order, in any file; only a circle is refused.
class Module : public hcl::Scope {
 public:
  explicit Module(const DefinitionOptions& options) : options_(options), evaluator_(this) {}

  absl::Status Add(const File& file);
  // Names the targets; to be called once all files are there.
  absl::Status Expand();
  // Everything, with nothing left to be wrong.
  absl::StatusOr<Definition> Evaluate();

  absl::StatusOr<hcl::Value> Variable(const std::string& name) override;
  bool IsBlockType(const std::string& type) const override;
  absl::StatusOr<hcl::Value> BlockAttribute(const std::string& type, const std::string& name,
                                            const std::string& attribute) override;
  absl::StatusOr<hcl::Value> WholeBlock(const std::string& type, const std::string& name) override;
  const hcl::UserFunction* Function(const std::string& name) override;

 private:
  // One target of a block: of a matrix, one set of its values.
  struct Instance {
    const hcl::Block* block;
    std::string name;
    hcl::Locals locals;
    std::map<std::string, Target> done;  // field → a target with that field alone
    std::set<std::string> running;       // fields that are being evaluated
  };

  absl::Status AddBlock(const hcl::Block& block);
  absl::Status AddFunction(const hcl::Block& block);
  absl::StatusOr<hcl::Value> EvaluateVariable(const std::string& name);
  absl::StatusOr<hcl::Value> Override(const std::string& name, const hcl::Block& block,
                                      const std::string& text, bool json, const hcl::Value* value);
  absl::Status Validate(const std::string& name, const hcl::Block& block);
  absl::Status ExpandTarget(const hcl::Block& block);
  absl::StatusOr<std::vector<hcl::Locals>> Matrix(const hcl::Expr& expr);
  absl::StatusOr<const Target*> Field(Instance* instance, const std::string& field);
  absl::StatusOr<Target> WholeTarget(Instance* instance);
  absl::StatusOr<Group> WholeGroup(const hcl::Block& block);

  const DefinitionOptions& options_;
  hcl::Evaluator evaluator_;
  std::vector<std::unique_ptr<hcl::Body>> bodies_;  // what the expressions live in
  std::vector<std::unique_ptr<hcl::Block>> json_blocks_;
  std::map<std::string, const hcl::Attribute*> attributes_;  // global; the first of a name
  std::map<std::string, const hcl::Block*> variables_;       // the last of a name
  std::map<std::string, hcl::UserFunction> functions_;
  std::vector<const hcl::Block*> targets_, groups_;
  std::vector<std::unique_ptr<Instance>> instances_;
  std::vector<Group> expanded_;  // a group for each block of several targets
  std::map<std::string, hcl::Value> values_;
  std::set<std::string> running_;  // variables that are being evaluated
};

}  // namespace kiln::client::bake
