#include "client/bake/hcl/functions.h"

#include <algorithm>
#include <unordered_map>

#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::client::hcl {
namespace {

// What Bake's library has beyond ours.
constexpr absl::string_view kElsewhere[] = {
    "bcrypt",     "byteslen",    "bytesslice", "cidrhost",        "cidrnetmask",
    "cidrsubnet", "cidrsubnets", "csvdecode",  "formatdate",      "semvercmp",
    "rsadecrypt", "timeadd",     "uuidv5",     "formattimestamp", "unixtimestampparse"};

using Table = std::unordered_map<std::string, const LibraryFunction*>;

const Table& Library() {
  static const Table* const kTable = [] {
    auto* table = new Table;
    for (const auto& part : {NumberFunctions(), StringFunctions(), CollectionFunctions(),
                             SetFunctions(), EncodingFunctions()})
      for (const LibraryFunction& function : part)
        table->emplace(std::string(function.name), &function);
    return table;
  }();
  return *kTable;
}

}  // namespace

absl::StatusOr<Value::List> AsList(const Value& value) {
  if (value.is_list()) return value.list();
  return absl::InvalidArgumentError(absl::StrCat("a list is required, not ", value.kind()));
}

absl::StatusOr<Value> CallLibrary(const std::string& name, const Value::List& arguments) {
  const auto found = Library().find(name);
  if (found == Library().end()) {
    if (std::find(std::begin(kElsewhere), std::end(kElsewhere), name) != std::end(kElsewhere))
      return absl::UnimplementedError(
          absl::StrCat("the function \"", name, "\" is not implemented"));
    return absl::InvalidArgumentError(absl::StrCat("there is no function \"", name, "\""));
  }
  const LibraryFunction& function = *found->second;
  if (arguments.size() < function.min_arguments || arguments.size() > function.max_arguments)
    return absl::InvalidArgumentError(
        absl::StrCat(name, " takes ", function.min_arguments,
                     function.max_arguments == kAnyNumber ? " or more"
                     : function.max_arguments != function.min_arguments
                         ? absl::StrCat(" to ", function.max_arguments)
                         : "",
                     " arguments, not ", arguments.size()));
  return Annotate(function.call(arguments), name);
}

}  // namespace kiln::client::hcl
