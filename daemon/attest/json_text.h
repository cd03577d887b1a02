#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace kiln::daemon {

// An object as JSON text, written member by member: what is text already need not be read for it.
// What is no UTF-8 is replaced.
class JsonText {
 public:
  JsonText& Add(absl::string_view name, const nlohmann::ordered_json& value) {
    return AddText(name, Dump(value));
  }
  // `json` is a whole value.
  JsonText& AddText(absl::string_view name, absl::string_view json) {
    absl::StrAppend(&members_, members_.empty() ? "" : ",", Dump(std::string(name)), ":", json);
    return *this;
  }
  std::string Take() { return absl::StrCat("{", members_, "}"); }

 private:
  static std::string Dump(const nlohmann::ordered_json& value) {
    return value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  }
  std::string members_;
};

}  // namespace kiln::daemon
