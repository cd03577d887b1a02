#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace re2 {
class RE2;
}

namespace kiln::store {

// A list of filters in containerd's syntax (containerd, pkg/filters), as du, prune and ListWorkers
// take them. An object passes when any filter of the list does; no filter, and an empty one, let
// everything pass. A filter is a list of selectors, separated by commas, that must all hold:
//
//   selector  := fieldpath [ ("==" | "!=" | "~=") value ]      without operator: is it present?
//   fieldpath := field { "." field }
//   field     := letters, digits and "_", or "quoted as in Go"
//   value     := anything but commas and spaces, or "quoted"; after ~= also /quoted/ or |quoted|
//
// ~= takes a regular expression in RE2's syntax, which is Go's; it may match anywhere in the value.
// An absent field equals nothing, and is like an empty one for != and ~=.
//
// Immutable, thread-safe.
class Filter {
 public:
  // The field's value; nullopt when the object does not have it. An inner part of the path may name
  // the key of a map: labels."org.example".
  using FieldGetter =
      absl::FunctionRef<std::optional<std::string>(absl::Span<const std::string> path)>;

  // kInvalidArgument shows the filter with the fault marked.
  static absl::StatusOr<Filter> Parse(absl::Span<const std::string> filters);

  Filter();  // lets everything pass
  ~Filter();
  Filter(Filter&&) noexcept;
  Filter& operator=(Filter&&) noexcept;

  bool Matches(FieldGetter field) const;

 private:
  friend class FilterParser;
  enum class Operator { kPresent, kEqual, kNotEqual, kMatches };
  struct Selector {
    std::vector<std::string> path;
    Operator op = Operator::kPresent;
    std::string value;
    std::unique_ptr<re2::RE2> pattern;  // kMatches only

    bool Holds(FieldGetter field) const;
  };

  std::vector<std::vector<Selector>> any_of_;  // empty: everything passes
};

}  // namespace kiln::store
