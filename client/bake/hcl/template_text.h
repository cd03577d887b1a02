#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/bake/hcl/lexer.h"

namespace kiln::client::hcl {

// Decodes one escape of a quoted string, at its backslash, and moves past it: those of HCL (n, r,
// t, quote, backslash, uNNNN, UNNNNNNNN), or with `json` those of JSON. kInvalidArgument for
// others.
absl::Status AppendEscape(Lexer* lexer, bool json, std::string* out);

// Reads the lines up to the marker of a heredoc, its common indentation removed when the token says
// so. The lexer stands behind the marker then.
absl::StatusOr<std::string> ReadHeredoc(Lexer* lexer, const Token& token);

}  // namespace kiln::client::hcl
