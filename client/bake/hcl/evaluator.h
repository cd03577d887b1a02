#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/bake/hcl/ast.h"
#include "client/bake/hcl/value.h"

namespace kiln::client::hcl {

// A function that a file defines.
struct UserFunction {
  std::vector<std::string> parameters;
  std::string variadic;  // name of the list of further arguments; "": none are allowed
  const Expr* result = nullptr;
};

// What expressions of a file may refer to. Answers may be worked out when asked for.
class Scope {
 public:
  virtual ~Scope() = default;
  // kNotFound when there is no such variable.
  virtual absl::StatusOr<Value> Variable(const std::string& name) = 0;
  // True when `type` names blocks: then TYPE.NAME.ATTRIBUTE is asked for by the next two.
  virtual bool IsBlockType(const std::string& type) const = 0;
  virtual absl::StatusOr<Value> BlockAttribute(const std::string& type, const std::string& name,
                                               const std::string& attribute) = 0;
  virtual absl::StatusOr<Value> WholeBlock(const std::string& type, const std::string& name) = 0;
  // Null when there is no such function.
  virtual const UserFunction* Function(const std::string& name) = 0;
};

// Variables of for-expressions, functions and matrices; inner ones first.
struct Locals {
  std::map<std::string, Value> values;
  const Locals* outer = nullptr;
  const Value* splat_item = nullptr;
};

// Evaluates expressions. All evaluations of one Evaluator share a budget of steps and of bytes
// produced, and a limit of nesting, so that no file can hold the program up. Not thread-safe.
class Evaluator {
 public:
  explicit Evaluator(Scope* scope) : scope_(scope) {}

  // kInvalidArgument with the place for whatever is wrong; kUnimplemented for a function of HCL's
  // library that is not there.
  absl::StatusOr<Value> Evaluate(const Expr& expr, const Locals* locals = nullptr);

 private:
  class Level;

  absl::StatusOr<Value> Dispatch(const Expr& expr, const Locals* locals);
  absl::StatusOr<Value> Template(const Expr& expr, const Locals* locals);
  absl::StatusOr<Value> Variable(const Expr& expr, const Locals* locals);
  absl::StatusOr<Value> Attribute(const Expr& expr, const Locals* locals);
  absl::StatusOr<Value> Index(const Expr& expr, const Locals* locals);
  absl::StatusOr<Value> Splat(const Expr& expr, const Locals* locals);
  absl::StatusOr<Value> Unary(const Expr& expr, const Locals* locals);
  absl::StatusOr<Value> Binary(const Expr& expr, const Locals* locals);
  absl::StatusOr<Value> Conditional(const Expr& expr, const Locals* locals);
  absl::StatusOr<Value> Object(const Expr& expr, const Locals* locals);
  absl::StatusOr<Value> Loop(const Expr& expr, const Locals* locals);
  absl::StatusOr<Value> Call(const Expr& expr, const Locals* locals);
  absl::StatusOr<Value> Try(const Expr& expr, const Locals* locals);
  absl::StatusOr<Value> Can(const Expr& expr, const Locals* locals);
  absl::StatusOr<Value> CallUser(const Expr& expr, const UserFunction& function,
                                 Value::List arguments);
  absl::Status Spend(const Expr& expr, size_t bytes);

  Scope* const scope_;
  int depth_ = 0;
  size_t steps_ = 0, bytes_ = 0;
  std::vector<const UserFunction*> running_;
};

}  // namespace kiln::client::hcl
