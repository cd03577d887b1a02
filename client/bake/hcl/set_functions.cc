// Sets: lists without repetitions, in order of first appearance.
#include <algorithm>

#include "client/bake/hcl/functions.h"
#include "store/base/status_macros.h"

namespace kiln::client::hcl {
namespace {

using List = Value::List;

constexpr size_t kMaxItems = 10'000;

bool Has(const List& items, const Value& value) {
  return std::find(items.begin(), items.end(), value) != items.end();
}

// Comparing is quadratic, hence the limit.
absl::StatusOr<List> AsSet(const Value& value) {
  KILN_ASSIGN_OR_RETURN(const List items, AsList(value));
  if (items.size() > kMaxItems) return absl::InvalidArgumentError("the list is too long for a set");
  List set;
  for (const Value& item : items)
    if (!Has(set, item)) set.push_back(item);
  return set;
}

// Folds the arguments from the left: what `keep` says of the items of both.
template <typename Combine>
absl::StatusOr<Value> Fold(const List& arguments, Combine combine) {
  KILN_ASSIGN_OR_RETURN(List result, AsSet(arguments[0]));
  for (size_t i = 1; i < arguments.size(); ++i) {
    KILN_ASSIGN_OR_RETURN(const List next, AsSet(arguments[i]));
    result = combine(result, next);
    if (result.size() > kMaxItems) return absl::InvalidArgumentError("the set is too large");
  }
  return Value(std::move(result));
}

// The items of `from` that are in `of`, or are not.
List Filter(const List& from, const List& of, bool in) {
  List kept;
  for (const Value& item : from)
    if (Has(of, item) == in) kept.push_back(item);
  return kept;
}

List Join(List first, const List& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

absl::StatusOr<Value> Distinct(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(List set, AsSet(arguments[0]));
  return Value(std::move(set));
}

absl::StatusOr<Value> HasElement(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const List items, AsList(arguments[0]));
  return Value(Has(items, arguments[1]));
}

absl::StatusOr<Value> Union(const List& arguments) {
  return Fold(arguments, [](const List& a, const List& b) { return Join(a, Filter(b, a, false)); });
}

absl::StatusOr<Value> Intersection(const List& arguments) {
  return Fold(arguments, [](const List& a, const List& b) { return Filter(a, b, true); });
}

absl::StatusOr<Value> Subtract(const List& arguments) {
  return Fold(arguments, [](const List& a, const List& b) { return Filter(a, b, false); });
}

absl::StatusOr<Value> SymmetricDifference(const List& arguments) {
  return Fold(arguments, [](const List& a, const List& b) {
    return Join(Filter(a, b, false), Filter(b, a, false));
  });
}

absl::StatusOr<Value> Product(const List& arguments) {
  std::vector<List> rows = {{}};
  for (const Value& argument : arguments) {
    KILN_ASSIGN_OR_RETURN(const List items, AsList(argument));
    if (rows.size() * items.size() > kMaxItems)
      return absl::InvalidArgumentError("the product is too large");
    std::vector<List> longer;
    for (const List& row : rows) {
      for (const Value& item : items) {
        longer.push_back(row);
        longer.back().push_back(item);
      }
    }
    rows = std::move(longer);
  }
  List product;
  for (List& row : rows) product.emplace_back(std::move(row));
  return Value(std::move(product));
}

constexpr LibraryFunction kFunctions[] = {
    {"distinct", 1, 1, Distinct},
    {"sethaselement", 2, 2, HasElement},
    {"setintersection", 1, kAnyNumber, Intersection},
    {"setproduct", 2, kAnyNumber, Product},
    {"setsubtract", 2, 2, Subtract},
    {"setsymmetricdifference", 1, kAnyNumber, SymmetricDifference},
    {"setunion", 1, kAnyNumber, Union},
};

}  // namespace

absl::Span<const LibraryFunction> SetFunctions() { return kFunctions; }

}  // namespace kiln::client::hcl
