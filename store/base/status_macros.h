#pragma once

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln {

// Says what was being attempted; keeps code and payloads. Outermost context comes first.
absl::Status Annotate(const absl::Status& status, absl::string_view doing);

// The same for the status inside an expression of type absl::StatusOr.
template <typename T>
absl::StatusOr<T> Annotate(absl::StatusOr<T> value, absl::string_view doing) {
  if (value.ok()) return value;
  return Annotate(value.status(), doing);
}

// absl::ErrnoToStatus with the field's words: "doing: No such file or directory".
absl::Status ErrnoStatus(int error_number, absl::string_view doing);

}  // namespace kiln

#define KILN_MACRO_CONCAT_INNER(a, b) a##b
#define KILN_MACRO_CONCAT(a, b) KILN_MACRO_CONCAT_INNER(a, b)

// Returns from the enclosing function when `expr` is not OK.
#define KILN_RETURN_IF_ERROR(expr)               \
  do {                                           \
    absl::Status kiln_status_ = (expr);          \
    if (!kiln_status_.ok()) return kiln_status_; \
  } while (false)

// `lhs` is a declaration or an lvalue: KILN_ASSIGN_OR_RETURN(auto fd, OpenFile(path));
#define KILN_ASSIGN_OR_RETURN(lhs, expr) \
  KILN_ASSIGN_OR_RETURN_IMPL(KILN_MACRO_CONCAT(kiln_or_, __LINE__), lhs, expr)
#define KILN_ASSIGN_OR_RETURN_IMPL(var, lhs, expr) \
  auto var = (expr);                               \
  if (!var.ok()) return std::move(var).status();   \
  lhs = *std::move(var)
