#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/bake/target.h"

namespace kiln::client::bake {

// A definition file; `name` decides the syntax: .hcl, .json, else whichever it parses as.
struct File {
  std::string name;
  std::string text;
};

struct Group {
  std::string name;
  std::string description;
  std::vector<std::string> targets;  // of targets and groups
};

struct VariableInfo {
  std::string name;
  std::string description;
  std::string value;  // JSON
};

// What the files define; of targets and groups of one name, one.
struct Definition {
  std::vector<Group> groups;
  std::vector<Target> targets;
  std::vector<VariableInfo> variables;
};

struct DefinitionOptions {
  // Values of variables that users set: given ones, else those of the environment.
  std::function<std::optional<std::string>(const std::string& name)> lookup;
  std::map<std::string, std::string> built_in;  // variables that nobody sets: BAKE_CMD_CONTEXT
};

// Evaluates definition files, later ones on top of earlier ones. kInvalidArgument with the place of
// what is wrong, kUnimplemented for an attribute or function that is not there.
absl::StatusOr<Definition> ReadDefinition(const std::vector<File>& files,
                                          const DefinitionOptions& options);

}  // namespace kiln::client::bake
