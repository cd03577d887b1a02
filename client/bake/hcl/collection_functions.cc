// Lists and objects.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "client/bake/hcl/functions.h"
#include "store/base/status_macros.h"

namespace kiln::client::hcl {
namespace {

using List = Value::List;

constexpr double kMaxRange = 1024;
constexpr int kMaxFlattenDepth = 100;

absl::StatusOr<size_t> IndexArgument(const Value& value) {
  KILN_ASSIGN_OR_RETURN(const double number, value.ToNumber());
  if (number < 0 || number != std::floor(number) || number > 1e9)
    return absl::InvalidArgumentError(absl::StrCat(FormatNumber(number), " is no index"));
  return static_cast<size_t>(number);
}

absl::StatusOr<Value> ChunkList(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const List items, AsList(arguments[0]));
  KILN_ASSIGN_OR_RETURN(const size_t size, IndexArgument(arguments[1]));
  List chunks;
  List chunk;
  for (const Value& item : items) {
    chunk.push_back(item);
    if (chunk.size() == size) chunks.emplace_back(std::exchange(chunk, {}));
  }
  if (!chunk.empty()) chunks.emplace_back(std::move(chunk));
  return Value(std::move(chunks));
}

absl::StatusOr<Value> Coalesce(const List& arguments) {
  for (const Value& argument : arguments)
    if (!argument.is_null()) return argument;
  return absl::InvalidArgumentError("all arguments are null");
}

absl::StatusOr<Value> CoalesceList(const List& arguments) {
  for (const Value& argument : arguments)
    if (argument.is_list() && !argument.list().empty()) return argument;
  return absl::InvalidArgumentError("all lists are empty");
}

absl::StatusOr<Value> Compact(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(List items, AsList(arguments[0]));
  items.erase(std::remove_if(items.begin(), items.end(),
                             [](const Value& item) {
                               return item.is_null() || (item.is_string() && item.string().empty());
                             }),
              items.end());
  return Value(std::move(items));
}

absl::StatusOr<Value> Concat(const List& arguments) {
  List all;
  for (const Value& argument : arguments) {
    KILN_ASSIGN_OR_RETURN(const List items, AsList(argument));
    all.insert(all.end(), items.begin(), items.end());
  }
  return Value(std::move(all));
}

absl::StatusOr<Value> Contains(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const List items, AsList(arguments[0]));
  return Value(std::find(items.begin(), items.end(), arguments[1]) != items.end());
}

absl::StatusOr<Value> Element(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const List items, AsList(arguments[0]));
  KILN_ASSIGN_OR_RETURN(const size_t index, IndexArgument(arguments[1]));
  if (items.empty()) return absl::InvalidArgumentError("the list is empty");
  return items[index % items.size()];
}

absl::Status FlattenInto(const Value& value, int depth, List* out) {
  if (depth > kMaxFlattenDepth) return absl::InvalidArgumentError("lists are nested too deeply");
  for (const Value& item : value.list()) {
    if (item.is_list()) {
      KILN_RETURN_IF_ERROR(FlattenInto(item, depth + 1, out));
    } else {
      out->push_back(item);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Value> Flatten(const List& arguments) {
  if (!arguments[0].is_list()) return AsList(arguments[0]).status();
  List all;
  KILN_RETURN_IF_ERROR(FlattenInto(arguments[0], 0, &all));
  return Value(std::move(all));
}

absl::StatusOr<Value> Lookup(const Value& base, const Value& key) {
  if (base.is_object()) {
    KILN_ASSIGN_OR_RETURN(const std::string name, key.ToString());
    const auto found = base.object().find(name);
    if (found != base.object().end()) return found->second;
  } else {
    KILN_ASSIGN_OR_RETURN(const List items, AsList(base));
    KILN_ASSIGN_OR_RETURN(const size_t index, IndexArgument(key));
    if (index < items.size()) return items[index];
  }
  return absl::NotFoundError("no such key");
}

absl::StatusOr<Value> HasIndex(const List& arguments) {
  return Value(Lookup(arguments[0], arguments[1]).ok());
}

absl::StatusOr<Value> IndexOfKey(const List& arguments) {
  absl::StatusOr<Value> found = Lookup(arguments[0], arguments[1]);
  if (absl::IsNotFound(found.status())) return absl::InvalidArgumentError("no such key");
  return found;
}

absl::StatusOr<Value> LookupOr(const List& arguments) {
  if (!arguments[0].is_object()) return absl::InvalidArgumentError("an object is required");
  const absl::StatusOr<Value> found = Lookup(arguments[0], arguments[1]);
  if (!absl::IsNotFound(found.status())) return found;
  if (arguments.size() == 3) return arguments[2];
  return absl::InvalidArgumentError("no such key, and no default");
}

absl::StatusOr<Value> IndexOfValue(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const List items, AsList(arguments[0]));
  const auto found = std::find(items.begin(), items.end(), arguments[1]);
  if (found == items.end()) return absl::InvalidArgumentError("item not found");
  return Value(static_cast<double>(found - items.begin()));
}

absl::StatusOr<Value> Keys(const List& arguments) {
  if (!arguments[0].is_object()) return absl::InvalidArgumentError("an object is required");
  List keys;
  for (const auto& entry : arguments[0].object()) keys.emplace_back(entry.first);
  return Value(std::move(keys));
}

absl::StatusOr<Value> Values(const List& arguments) {
  if (!arguments[0].is_object()) return absl::InvalidArgumentError("an object is required");
  List values;
  for (const auto& entry : arguments[0].object()) values.push_back(entry.second);
  return Value(std::move(values));
}

absl::StatusOr<Value> Length(const List& arguments) {
  if (arguments[0].is_object()) return Value(static_cast<double>(arguments[0].object().size()));
  KILN_ASSIGN_OR_RETURN(const List items, AsList(arguments[0]));
  return Value(static_cast<double>(items.size()));
}

absl::StatusOr<Value> Merge(const List& arguments) {
  Value::Object merged;
  for (const Value& argument : arguments) {
    if (argument.is_null()) continue;
    if (!argument.is_object()) return absl::InvalidArgumentError("objects are required");
    for (const auto& [key, value] : argument.object()) merged[key] = value;
  }
  return Value(std::move(merged));
}

absl::StatusOr<Value> Range(const List& arguments) {
  std::vector<double> numbers;
  for (const Value& argument : arguments) {
    KILN_ASSIGN_OR_RETURN(numbers.emplace_back(), argument.ToNumber());
  }
  const double start = numbers.size() > 1 ? numbers[0] : 0;
  const double limit = numbers.size() > 1 ? numbers[1] : numbers[0];
  const double step = numbers.size() > 2 ? numbers[2] : start <= limit ? 1 : -1;
  if (step == 0 || (step > 0) != (start <= limit))
    return absl::InvalidArgumentError("the step leads away from the limit");
  if ((limit - start) / step > kMaxRange)
    return absl::InvalidArgumentError("more than 1024 numbers");
  List list;
  for (double i = start; step > 0 ? i < limit : i > limit; i += step) list.emplace_back(i);
  return Value(std::move(list));
}

absl::StatusOr<Value> ReverseList(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(List items, AsList(arguments[0]));
  std::reverse(items.begin(), items.end());
  return Value(std::move(items));
}

absl::StatusOr<Value> Slice(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const List items, AsList(arguments[0]));
  KILN_ASSIGN_OR_RETURN(const size_t begin, IndexArgument(arguments[1]));
  KILN_ASSIGN_OR_RETURN(const size_t end, IndexArgument(arguments[2]));
  if (begin > end || end > items.size())
    return absl::InvalidArgumentError(absl::StrCat("the list has ", items.size(), " items"));
  return Value(List(items.begin() + static_cast<std::ptrdiff_t>(begin),
                    items.begin() + static_cast<std::ptrdiff_t>(end)));
}

absl::StatusOr<Value> Sort(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const List items, AsList(arguments[0]));
  std::vector<std::string> texts;
  for (const Value& item : items) {
    KILN_ASSIGN_OR_RETURN(texts.emplace_back(), item.ToString());
  }
  std::sort(texts.begin(), texts.end());
  List sorted;
  for (std::string& text : texts) sorted.emplace_back(std::move(text));
  return Value(std::move(sorted));
}

absl::StatusOr<Value> ZipMap(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const List keys, AsList(arguments[0]));
  KILN_ASSIGN_OR_RETURN(const List values, AsList(arguments[1]));
  if (keys.size() != values.size())
    return absl::InvalidArgumentError("the lists have different lengths");
  Value::Object object;
  for (size_t i = 0; i < keys.size(); ++i) {
    KILN_ASSIGN_OR_RETURN(const std::string key, keys[i].ToString());
    object[key] = values[i];
  }
  return Value(std::move(object));
}

constexpr LibraryFunction kFunctions[] = {
    {"chunklist", 2, 2, ChunkList},
    {"coalesce", 1, kAnyNumber, Coalesce},
    {"coalescelist", 1, kAnyNumber, CoalesceList},
    {"compact", 1, 1, Compact},
    {"concat", 1, kAnyNumber, Concat},
    {"contains", 2, 2, Contains},
    {"element", 2, 2, Element},
    {"flatten", 1, 1, Flatten},
    {"hasindex", 2, 2, HasIndex},
    {"index", 2, 2, IndexOfKey},
    {"indexof", 2, 2, IndexOfValue},
    {"keys", 1, 1, Keys},
    {"length", 1, 1, Length},
    {"lookup", 2, 3, LookupOr},
    {"merge", 1, kAnyNumber, Merge},
    {"range", 1, 3, Range},
    {"reverselist", 1, 1, ReverseList},
    {"slice", 3, 3, Slice},
    {"sort", 1, 1, Sort},
    {"values", 1, 1, Values},
    {"zipmap", 2, 2, ZipMap},
};

}  // namespace

absl::Span<const LibraryFunction> CollectionFunctions() { return kFunctions; }

}  // namespace kiln::client::hcl
