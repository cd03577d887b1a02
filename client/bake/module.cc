#include "client/bake/module.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/bake/hcl/parser.h"
#include "client/bake/hcl/type.h"
#include "store/base/status_macros.h"

namespace kiln::client::bake {
namespace {

constexpr size_t kMaxInstances = 10'000;
constexpr const char* kBlockTypes[] = {"variable", "function", "target", "group"};

const hcl::Attribute* Find(const hcl::Body& body, absl::string_view name) {
  for (const hcl::Attribute& attribute : body.attributes)
    if (attribute.name == name) return &attribute;
  return nullptr;
}

bool IsBlockName(absl::string_view name) {
  return std::find(std::begin(kBlockTypes), std::end(kBlockTypes), name) != std::end(kBlockTypes);
}

// kInvalidArgument for an attribute that is none of `known`.
absl::Status OnlyKnown(const hcl::Block& block, std::initializer_list<absl::string_view> known) {
  for (const hcl::Attribute& attribute : block.body.attributes)
    if (std::find(known.begin(), known.end(), attribute.name) == known.end())
      return hcl::ErrorAt(attribute.position,
                          absl::StrCat("a ", block.type, " has no \"", attribute.name, "\""));
  return absl::OkStatus();
}

absl::Status CheckName(const hcl::Position& position, const std::string& name) {
  const auto good = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-';
  };
  if (!name.empty() && std::all_of(name.begin(), name.end(), good)) return absl::OkStatus();
  return hcl::ErrorAt(
      position, absl::StrCat("invalid name \"", name, "\": only \"[a-zA-Z0-9_-]+\" are allowed"));
}

absl::Status At(const hcl::Position& position, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(position.ToString(), ": ", status.message()));
}

}  // namespace

absl::Status Module::Add(const File& file) {
  absl::StatusOr<hcl::Body> parsed = absl::UnknownError("");
  bool json = absl::EndsWith(file.name, ".json");
  parsed = json ? hcl::ParseJson(file.text, file.name) : hcl::ParseHcl(file.text, file.name);
  if (!parsed.ok() && !json && !absl::EndsWith(file.name, ".hcl")) {
    absl::StatusOr<hcl::Body> other = hcl::ParseJson(file.text, file.name);
    json = other.ok();
    if (json) parsed = std::move(other);
  }
  KILN_RETURN_IF_ERROR(parsed.status());
  bodies_.push_back(std::make_unique<hcl::Body>(*std::move(parsed)));
  for (hcl::Attribute& attribute : bodies_.back()->attributes) {
    if (!json || !IsBlockName(attribute.name)) {
      attributes_.emplace(attribute.name, &attribute);
      continue;
    }
    KILN_ASSIGN_OR_RETURN(std::vector<hcl::Block> blocks,
                          hcl::JsonBlocks(std::move(attribute), /*labelled=*/true));
    for (hcl::Block& block : blocks) {
      json_blocks_.push_back(std::make_unique<hcl::Block>(std::move(block)));
      // The only blocks in blocks.
      auto& inner = json_blocks_.back()->body;
      for (auto at = inner.attributes.begin(); at != inner.attributes.end(); ++at) {
        if (json_blocks_.back()->type != "variable" || at->name != "validation") continue;
        KILN_ASSIGN_OR_RETURN(inner.blocks, hcl::JsonBlocks(std::move(*at), /*labelled=*/false));
        inner.attributes.erase(at);
        break;
      }
      KILN_RETURN_IF_ERROR(AddBlock(*json_blocks_.back()));
    }
  }
  for (const hcl::Block& block : bodies_.back()->blocks) KILN_RETURN_IF_ERROR(AddBlock(block));
  return absl::OkStatus();
}

absl::Status Module::AddBlock(const hcl::Block& block) {
  if (!IsBlockName(block.type))
    return hcl::ErrorAt(block.position, absl::StrCat("unknown block \"", block.type, "\""));
  if (block.labels.size() != 1)
    return hcl::ErrorAt(block.position, absl::StrCat("a ", block.type, " needs one name"));
  for (const hcl::Block& inner : block.body.blocks)
    if (block.type != "variable" || inner.type != "validation" || !inner.labels.empty())
      return hcl::ErrorAt(inner.position,
                          absl::StrCat("a ", block.type, " has no block \"", inner.type, "\""));
  if (block.type == "variable") {
    KILN_RETURN_IF_ERROR(OnlyKnown(block, {"type", "default", "description"}));
    variables_[block.labels[0]] = &block;
  } else if (block.type == "function") {
    return AddFunction(block);
  } else if (block.type == "group") {
    KILN_RETURN_IF_ERROR(CheckName(block.position, block.labels[0]));
    KILN_RETURN_IF_ERROR(OnlyKnown(block, {"targets", "description"}));
    if (Find(block.body, "targets") == nullptr)
      return hcl::ErrorAt(block.position, "a group needs \"targets\"");
    groups_.push_back(&block);
  } else {
    for (const hcl::Attribute& attribute : block.body.attributes) {
      if (attribute.name == "name" || attribute.name == "matrix") continue;
      if (attribute.name == "resources" || attribute.name == "policy")
        return absl::UnimplementedError(absl::StrCat(attribute.position.ToString(), ": \"",
                                                     attribute.name, "\" is not implemented"));
      if (FindTargetField(attribute.name) == nullptr)
        return hcl::ErrorAt(attribute.position,
                            absl::StrCat("a target has no \"", attribute.name, "\""));
    }
    targets_.push_back(&block);
  }
  return absl::OkStatus();
}

absl::Status Module::AddFunction(const hcl::Block& block) {
  KILN_RETURN_IF_ERROR(OnlyKnown(block, {"params", "variadic_params", "result"}));
  hcl::UserFunction function;
  const hcl::Attribute* params = Find(block.body, "params");
  const hcl::Attribute* variadic = Find(block.body, "variadic_params");
  const hcl::Attribute* result = Find(block.body, "result");
  if (params == nullptr || params->value->kind != hcl::Expr::Kind::kTuple)
    return hcl::ErrorAt(block.position, "a function needs a list of \"params\"");
  if (result == nullptr) return hcl::ErrorAt(block.position, "a function needs a \"result\"");
  for (const hcl::ExprPtr& param : params->value->children) {
    function.parameters.push_back(hcl::AsKeyword(*param));
    if (function.parameters.back().empty())
      return hcl::ErrorAt(param->position, "the name of a parameter is expected");
  }
  if (variadic != nullptr) {
    function.variadic = hcl::AsKeyword(*variadic->value);
    if (function.variadic.empty())
      return hcl::ErrorAt(variadic->position, "the name of a parameter is expected");
  }
  function.result = result->value.get();
  functions_[block.labels[0]] = std::move(function);
  return absl::OkStatus();
}

const hcl::UserFunction* Module::Function(const std::string& name) {
  const auto found = functions_.find(name);
  return found == functions_.end() ? nullptr : &found->second;
}

absl::StatusOr<hcl::Value> Module::Variable(const std::string& name) {
  const auto known = values_.find(name);
  if (known != values_.end()) return known->second;
  const auto attribute = attributes_.find(name);
  const auto variable = variables_.find(name);
  const auto built_in = options_.built_in.find(name);
  if (built_in != options_.built_in.end()) return hcl::Value(built_in->second);
  if (attribute == attributes_.end() && variable == variables_.end())
    return absl::NotFoundError(name);
  if (!running_.insert(name).second) {
    const hcl::Position& position =
        attribute != attributes_.end() ? attribute->second->position : variable->second->position;
    return hcl::ErrorAt(position, absl::StrCat("variable cycle not allowed for ", name));
  }
  absl::StatusOr<hcl::Value> value = EvaluateVariable(name);
  running_.erase(name);
  if (value.ok()) values_[name] = *value;
  return value;
}

absl::StatusOr<hcl::Value> Module::EvaluateVariable(const std::string& name) {
  const auto attribute = attributes_.find(name);
  const auto variable = variables_.find(name);
  const bool settable = variable != variables_.end();
  const hcl::Attribute* value_of = attribute != attributes_.end() ? attribute->second : nullptr;
  const hcl::Attribute* type_of = nullptr;
  if (settable) {
    type_of = Find(variable->second->body, "type");
    if (value_of == nullptr) value_of = Find(variable->second->body, "default");
  }
  hcl::Type type;
  if (type_of != nullptr) {
    KILN_ASSIGN_OR_RETURN(type, hcl::ParseType(*type_of->value));
  }
  hcl::Value value;
  if (value_of != nullptr) {
    KILN_ASSIGN_OR_RETURN(value, evaluator_.Evaluate(*value_of->value));
    absl::StatusOr<hcl::Value> converted = hcl::Convert(value, type);
    if (!converted.ok())
      return hcl::ErrorAt(value_of->position,
                          absl::StrCat("invalid type ", type.name(), " for variable ", name,
                                       " default value: ", converted.status().message()));
    value = *std::move(converted);
  }
  if (!settable) return value;
  // NAME_JSON, unless that is a variable too.
  std::optional<std::string> text = options_.lookup(name);
  bool json = false;
  const std::string json_name = absl::StrCat(name, "_JSON");
  if (type_of != nullptr && variables_.count(json_name) == 0) {
    if (std::optional<std::string> found = options_.lookup(json_name)) {
      text = std::move(found);
      json = true;
    }
  }
  if (text)
    return Override(name, *variable->second, *text, json, value_of == nullptr ? nullptr : &value);
  if (value_of == nullptr && type_of == nullptr) return hcl::Value("");
  return value;
}

// The value that the user gave. `value`: the default, null when there is none.
absl::StatusOr<hcl::Value> Module::Override(const std::string& name, const hcl::Block& block,
                                            const std::string& text, bool json,
                                            const hcl::Value* value) {
  const hcl::Attribute* type_of = Find(block.body, "type");
  hcl::Type type;
  if (type_of != nullptr) {
    KILN_ASSIGN_OR_RETURN(type, hcl::ParseType(*type_of->value));
    if (json) {
      KILN_ASSIGN_OR_RETURN(const hcl::Value parsed, Annotate(hcl::FromJson(text), name));
      return Annotate(hcl::Convert(parsed, type), name);
    }
  } else if (value != nullptr && !value->is_null()) {
    // The default's type is the variable's.
    if (!value->is_primitive())
      return absl::InvalidArgumentError(
          absl::StrCat("unsupported type ", value->kind(), " for variable ", name));
    type.kind = value->is_bool()     ? hcl::Type::Kind::kBool
                : value->is_number() ? hcl::Type::Kind::kNumber
                                     : hcl::Type::Kind::kString;
  }
  return hcl::FromEnvironment(name, text, type);
}

absl::Status Module::Validate(const std::string& name, const hcl::Block& block) {
  for (const hcl::Block& rule : block.body.blocks) {
    KILN_RETURN_IF_ERROR(OnlyKnown(rule, {"condition", "error_message"}));
    const hcl::Attribute* condition = Find(rule.body, "condition");
    const hcl::Attribute* message = Find(rule.body, "error_message");
    if (condition == nullptr || message == nullptr)
      return hcl::ErrorAt(rule.position, "a validation needs \"condition\" and \"error_message\"");
    KILN_ASSIGN_OR_RETURN(const hcl::Value value, evaluator_.Evaluate(*condition->value));
    const absl::StatusOr<bool> holds = value.ToBool();
    KILN_RETURN_IF_ERROR(At(condition->position, holds.status()));
    if (*holds) continue;
    KILN_ASSIGN_OR_RETURN(const hcl::Value text, evaluator_.Evaluate(*message->value));
    return hcl::ErrorAt(condition->position,
                        absl::StrCat("variable ", name, ": validation failed: ",
                                     text.ToString().value_or("the condition does not hold")));
  }
  return absl::OkStatus();
}

// The values of all combinations; those of the first name vary fastest.
absl::StatusOr<std::vector<hcl::Locals>> Module::Matrix(const hcl::Expr& expr) {
  KILN_ASSIGN_OR_RETURN(const hcl::Value matrix, evaluator_.Evaluate(expr));
  if (!matrix.is_object()) return hcl::ErrorAt(expr.position, "matrix must be a map");
  std::vector<hcl::Locals> combinations(1);
  for (const auto& [name, values] : matrix.object()) {
    if (!values.is_list()) return hcl::ErrorAt(expr.position, "matrix values must be a list");
    std::vector<hcl::Locals> more;
    if (combinations.size() * values.list().size() > kMaxInstances)
      return hcl::ErrorAt(expr.position, "the matrix is too large");
    for (const hcl::Value& value : values.list()) {
      for (const hcl::Locals& combination : combinations) {
        more.push_back(combination);
        more.back().values[name] = value;
      }
    }
    combinations = std::move(more);
  }
  return combinations;
}

absl::Status Module::ExpandTarget(const hcl::Block& block) {
  const std::string& label = block.labels[0];
  KILN_RETURN_IF_ERROR(CheckName(block.position, label));
  const hcl::Attribute* matrix = Find(block.body, "matrix");
  const hcl::Attribute* name_of = Find(block.body, "name");
  std::vector<hcl::Locals> combinations(1);
  if (matrix != nullptr) {
    KILN_ASSIGN_OR_RETURN(combinations, Matrix(*matrix->value));
  } else if (name_of != nullptr) {
    return hcl::ErrorAt(name_of->position, "name requires matrix");
  }
  Group group;
  group.name = label;
  for (hcl::Locals& locals : combinations) {
    std::string name = label;
    if (name_of != nullptr) {
      KILN_ASSIGN_OR_RETURN(const hcl::Value value, evaluator_.Evaluate(*name_of->value, &locals));
      const absl::StatusOr<std::string> text = value.ToString();
      KILN_RETURN_IF_ERROR(At(name_of->position, text.status()));
      name = *text;
      KILN_RETURN_IF_ERROR(CheckName(name_of->position, name));
    }
    if (std::find(group.targets.begin(), group.targets.end(), name) != group.targets.end())
      return hcl::ErrorAt(block.position, absl::StrCat("duplicate name \"", name, "\""));
    group.targets.push_back(name);
    instances_.push_back(
        std::make_unique<Instance>(Instance{&block, name, std::move(locals), {}, {}}));
  }
  if (group.targets.size() != 1 || group.targets[0] != label) expanded_.push_back(std::move(group));
  return absl::OkStatus();
}

absl::Status Module::Expand() {
  for (const hcl::Block* block : targets_) KILN_RETURN_IF_ERROR(ExpandTarget(*block));
  return absl::OkStatus();
}

// One field of one target; null when the block has it not.
absl::StatusOr<const Target*> Module::Field(Instance* instance, const std::string& field) {
  const auto done = instance->done.find(field);
  if (done != instance->done.end()) return &done->second;
  const hcl::Attribute* attribute = Find(instance->block->body, field);
  const TargetField* known = FindTargetField(field);
  if (attribute == nullptr || known == nullptr) return nullptr;
  if (!instance->running.insert(field).second)
    return hcl::ErrorAt(attribute->position, absl::StrCat("reference cycle not allowed for target.",
                                                          instance->name, ".", field));
  const absl::StatusOr<hcl::Value> value =
      evaluator_.Evaluate(*attribute->value, &instance->locals);
  instance->running.erase(field);
  KILN_RETURN_IF_ERROR(value.status());
  Target target;
  KILN_RETURN_IF_ERROR(At(attribute->value->position, Annotate(target.Set(*known, *value), field)));
  return &instance->done.emplace(field, std::move(target)).first->second;
}

absl::StatusOr<Target> Module::WholeTarget(Instance* instance) {
  Target whole;
  whole.name = instance->name;
  for (const hcl::Attribute& attribute : instance->block->body.attributes) {
    KILN_ASSIGN_OR_RETURN(const Target* field, Field(instance, attribute.name));
    if (field != nullptr) whole.Merge(*field);
  }
  return whole;
}

bool Module::IsBlockType(const std::string& type) const {
  return type == "target" || type == "group";
}

absl::StatusOr<hcl::Value> Module::BlockAttribute(const std::string& type, const std::string& name,
                                                  const std::string& attribute) {
  bool found = false;
  if (attribute == "name") return hcl::Value(name);
  if (type == "target") {
    const TargetField* known = FindTargetField(attribute);
    for (auto instance = instances_.rbegin(); instance != instances_.rend(); ++instance) {
      if ((*instance)->name != name) continue;
      found = true;
      KILN_ASSIGN_OR_RETURN(const Target* field, Field(instance->get(), attribute));
      if (field != nullptr) return field->Get(*known);
    }
    if (found && known != nullptr) return hcl::Value();
  } else {
    for (const hcl::Block* block : groups_) {
      if (block->labels[0] != name) continue;
      found = true;
      const hcl::Attribute* value = Find(block->body, attribute);
      if (value != nullptr) return evaluator_.Evaluate(*value->value);
    }
  }
  return absl::InvalidArgumentError(found ? absl::StrCat("a ", type, " has no \"", attribute, "\"")
                                          : absl::StrCat("there is no ", type, " \"", name, "\""));
}

absl::StatusOr<hcl::Value> Module::WholeBlock(const std::string& type, const std::string& name) {
  hcl::Value::Object members;
  if (type == "target") {
    for (const TargetField& field : TargetFields()) {
      KILN_ASSIGN_OR_RETURN(members[std::string(field.name)],
                            BlockAttribute(type, name, std::string(field.name)));
    }
  } else {
    KILN_ASSIGN_OR_RETURN(members["targets"], BlockAttribute(type, name, "targets"));
  }
  members["name"] = hcl::Value(name);
  return hcl::Value(std::move(members));
}

absl::StatusOr<Group> Module::WholeGroup(const hcl::Block& block) {
  Group group;
  group.name = block.labels[0];
  for (const hcl::Attribute& attribute : block.body.attributes) {
    KILN_ASSIGN_OR_RETURN(const hcl::Value value, evaluator_.Evaluate(*attribute.value));
    if (attribute.name == "description") {
      const absl::StatusOr<std::string> text = value.ToString();
      KILN_RETURN_IF_ERROR(At(attribute.position, text.status()));
      group.description = *text;
      continue;
    }
    if (!value.is_list())
      return hcl::ErrorAt(attribute.position,
                          absl::StrCat("a list is required, not ", value.kind()));
    for (const hcl::Value& item : value.list()) {
      const absl::StatusOr<std::string> text = item.ToString();
      KILN_RETURN_IF_ERROR(At(attribute.position, text.status()));
      group.targets.push_back(*text);
    }
  }
  return group;
}

absl::StatusOr<Definition> Module::Evaluate() {
  Definition definition;
  for (const auto& instance : instances_) {
    KILN_ASSIGN_OR_RETURN(Target target, WholeTarget(instance.get()));
    const auto same = std::find_if(definition.targets.begin(), definition.targets.end(),
                                   [&](const Target& other) { return other.name == target.name; });
    if (same == definition.targets.end()) {
      definition.targets.push_back(std::move(target));
    } else {
      same->Merge(target);
    }
  }
  for (const hcl::Block* block : groups_) {
    KILN_ASSIGN_OR_RETURN(Group group, WholeGroup(*block));
    const auto same = std::find_if(definition.groups.begin(), definition.groups.end(),
                                   [&](const Group& other) { return other.name == group.name; });
    if (same == definition.groups.end()) {
      definition.groups.push_back(std::move(group));
    } else {
      *same = std::move(group);
    }
  }
  for (Group& group : expanded_) definition.groups.push_back(std::move(group));
  expanded_.clear();
  for (const auto& [name, attribute] : attributes_) KILN_RETURN_IF_ERROR(Variable(name).status());
  for (const auto& [name, block] : variables_) {
    KILN_ASSIGN_OR_RETURN(const hcl::Value value, Variable(name));
    KILN_RETURN_IF_ERROR(Validate(name, *block));
    VariableInfo info;
    info.name = name;
    KILN_ASSIGN_OR_RETURN(info.value, hcl::ToJson(value));
    if (const hcl::Attribute* description = Find(block->body, "description")) {
      KILN_ASSIGN_OR_RETURN(const hcl::Value text, evaluator_.Evaluate(*description->value));
      info.description = text.ToString().value_or("");
    }
    definition.variables.push_back(std::move(info));
  }
  return definition;
}

absl::StatusOr<Definition> ReadDefinition(const std::vector<File>& files,
                                          const DefinitionOptions& options) {
  Module module(options);
  for (const File& file : files) KILN_RETURN_IF_ERROR(module.Add(file));
  KILN_RETURN_IF_ERROR(module.Expand());
  return module.Evaluate();
}

}  // namespace kiln::client::bake
