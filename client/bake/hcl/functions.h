#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/bake/hcl/value.h"

namespace kiln::client::hcl {

// Calls a function of HCL's library. kInvalidArgument when there is none of that name or an
// argument is wrong; kUnimplemented for one that other implementations have and this one has not.
// No result is larger than some times the arguments, or a fixed limit.
absl::StatusOr<Value> CallLibrary(const std::string& name, const Value::List& arguments);

struct LibraryFunction {
  absl::string_view name;
  size_t min_arguments;
  size_t max_arguments;
  absl::StatusOr<Value> (*call)(const Value::List& arguments);
};
inline constexpr size_t kAnyNumber = static_cast<size_t>(-1);

// Parts of the library.
absl::Span<const LibraryFunction> NumberFunctions();
absl::Span<const LibraryFunction> StringFunctions();
absl::Span<const LibraryFunction> CollectionFunctions();
absl::Span<const LibraryFunction> SetFunctions();
absl::Span<const LibraryFunction> EncodingFunctions();

// An argument as a list. kInvalidArgument when it is none.
absl::StatusOr<Value::List> AsList(const Value& value);

}  // namespace kiln::client::hcl
