#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/bake/hcl/ast.h"

namespace kiln::client::hcl {

// Parses a file in HCL's native syntax. Errors are kInvalidArgument with the place. Nesting is
// limited to 100, so hostile text costs no stack; time is linear in the text.
absl::StatusOr<Body> ParseHcl(absl::string_view text, const std::string& file);

// Parses a file in HCL's JSON syntax. Which members are blocks is for the reader of the body to
// say, with JsonBlocks: here all are attributes. Strings are templates.
absl::StatusOr<Body> ParseJson(absl::string_view text, const std::string& file);

// An attribute of a JSON body as blocks: {"label": {…}}, or a list of such objects; without
// `labelled`, the objects are the bodies themselves. kInvalidArgument when it has another form.
absl::StatusOr<std::vector<Block>> JsonBlocks(Attribute attribute, bool labelled);

// The name that an expression consists of: `type = string`, a parameter, or "name" in JSON. "" if
// it is something else.
std::string AsKeyword(const Expr& expr);

}  // namespace kiln::client::hcl
