#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::daemon::dockerfile {

// The value of a variable; nullopt when it is not set. The view need only live until the next call.
using VariableLookup = absl::FunctionRef<std::optional<absl::string_view>(absl::string_view name)>;

struct ExpandOptions {
  // Of the `escape` directive. Bodies of here-documents always use the backslash.
  char escape = '\\';
  // Quotes stay in the result (text that is shown, not used).
  bool keep_quotes = false;
  // Escape characters stay, together with what they escape.
  bool keep_escapes = false;
  // Quotes are ordinary characters (bodies of here-documents).
  bool ignore_quotes = false;
  // References to variables that are not set stay as written.
  bool keep_unset = false;
};

// Replaces $name, ${name} and the forms with modifiers, and removes quotes and escapes:
//   ${n:-w} ${n-w}   w when n is unset or empty / unset
//   ${n:+w} ${n+w}   w when n is set and not empty / set
//   ${n:?w} ${n?w}   an error that says w when n is unset or empty / unset
//   ${n#p} ${n##p} ${n%p} ${n%%p}   n without the shortest / longest prefix / suffix that matches p
//   ${n/p/r} ${n//p/r}              n with the first / every match of p replaced
// In patterns `*` is any run and `?` any character, neither of them a newline. w, p and r may hold
// references themselves and are evaluated even when their value is not used.
//
// Text that is not UTF-8 comes out with U+FFFD in place of the broken bytes: the result goes into
// protobuf strings. Time is linear in text and values but for patterns with many stars, where it is
// their product. kInvalidArgument `failed to process "text": reason`. Thread-safe.
absl::StatusOr<std::string> ExpandWord(absl::string_view text, const ExpandOptions& options,
                                       VariableLookup lookup);

struct Expansion {
  std::string text;
  // Names that were looked up, by outcome, also those whose value was then not used: the X of
  // ${X:-default} is unset whatever the default.
  std::set<std::string> set;
  std::set<std::string> unset;
};

// The same, with the names.
absl::StatusOr<Expansion> ExpandTraced(absl::string_view text, const ExpandOptions& options,
                                       VariableLookup lookup);

// The same, then split at Unicode white space: that of the text and of the values of unquoted
// references, not what was quoted or escaped. Empty words are dropped, and of a word all that comes
// before its last reference with a modifier: as BuildKit has it.
absl::StatusOr<std::vector<std::string>> ExpandWords(absl::string_view text,
                                                     const ExpandOptions& options,
                                                     VariableLookup lookup);

// What instructions are expanded with: a word in, its value out. The caller of the parser closes
// over the variables, and notes which were not set.
using WordExpander = absl::FunctionRef<absl::StatusOr<std::string>(absl::string_view word)>;

}  // namespace kiln::daemon::dockerfile
