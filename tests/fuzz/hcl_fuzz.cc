// Bake files: what parses is evaluated too. Whatever it is, it must end in a value or an error.
#include <cstddef>
#include <cstdint>

#include "client/bake/hcl/evaluator.h"
#include "client/bake/hcl/parser.h"

namespace {

using kiln::client::hcl::Body;
using kiln::client::hcl::Value;

class NoScope : public kiln::client::hcl::Scope {
 public:
  absl::StatusOr<Value> Variable(const std::string& name) override { return Value(name); }
  bool IsBlockType(const std::string& type) const override { return type == "target"; }
  absl::StatusOr<Value> BlockAttribute(const std::string&, const std::string&,
                                       const std::string& attribute) override {
    return Value(attribute);
  }
  absl::StatusOr<Value> WholeBlock(const std::string&, const std::string& name) override {
    return Value(name);
  }
  const kiln::client::hcl::UserFunction* Function(const std::string&) override { return nullptr; }
};

void EvaluateAll(const Body& body) {
  NoScope scope;
  kiln::client::hcl::Evaluator evaluator(&scope);
  for (const auto& attribute : body.attributes) (void)evaluator.Evaluate(*attribute.value);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto body = kiln::client::hcl::ParseHcl(text, "f"); body.ok()) EvaluateAll(*body);
  if (const auto body = kiln::client::hcl::ParseJson(text, "f"); body.ok()) EvaluateAll(*body);
  return 0;
}
