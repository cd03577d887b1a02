#include "daemon/frontend/dockerfile/syntax/flags.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/frontend/dockerfile/syntax/suggest.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {

absl::Status FlagSet::Parse(absl::Span<const std::string> flags) {
  for (const std::string& flag : flags) KILN_RETURN_IF_ERROR(ParseOne(flag));
  return absl::OkStatus();
}

absl::Status FlagSet::ParseOne(absl::string_view text) {
  const size_t equals = text.find('=');
  const bool has_value = equals != absl::string_view::npos;
  const absl::string_view dashed = text.substr(0, equals);
  const absl::string_view value = has_value ? text.substr(equals + 1) : "";
  const absl::string_view name = dashed.substr(2);
  const auto flag = std::find_if(flags_.begin(), flags_.end(),
                                 [&](const Flag& known) { return known.name == name; });
  if (flag == flags_.end()) {
    std::vector<std::string> names;
    for (const Flag& known : flags_) names.emplace_back(known.name);
    return absl::InvalidArgumentError(
        absl::StrCat("unknown flag: ", dashed, DidYouMean(Nearest(name, names))));
  }
  if (flag->given && flag->strings == nullptr)
    return absl::InvalidArgumentError(absl::StrCat("duplicate flag specified: ", dashed));
  flag->given = true;
  const bool lacks_value = flag->boolean != nullptr ? has_value && value.empty() : !has_value;
  if (lacks_value)
    return absl::InvalidArgumentError(absl::StrCat("missing a value on flag: ", dashed));
  if (flag->strings != nullptr) {
    flag->strings->emplace_back(value);
  } else if (flag->string != nullptr) {
    *flag->string = std::string(value);
  } else if (value.empty() || absl::EqualsIgnoreCase(value, "true")) {
    *flag->boolean = true;
  } else if (absl::EqualsIgnoreCase(value, "false")) {
    *flag->boolean = false;
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("expecting boolean value for flag ", dashed, ", not: ", value));
  }
  return absl::OkStatus();
}

bool FlagSet::given(absl::string_view name) const {
  return std::any_of(flags_.begin(), flags_.end(),
                     [&](const Flag& flag) { return flag.name == name && flag.given; });
}

}  // namespace kiln::daemon::dockerfile
