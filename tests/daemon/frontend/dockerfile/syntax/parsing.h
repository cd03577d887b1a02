#pragma once

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "daemon/frontend/dockerfile/syntax/parse.h"
#include "gtest/gtest.h"

namespace kiln::daemon::dockerfile {

inline Document MustParse(absl::string_view text) {
  Document document;
  EXPECT_EQ(Parse(text, &document), absl::OkStatus()) << text;
  return document;
}

// The one instruction of `text` after a FROM. `head` comes before that.
template <typename T>
T Only(absl::string_view text, absl::string_view head = "") {
  const Document document = MustParse(absl::StrCat(head, "FROM scratch\n", text));
  if (document.stages.size() != 1 || document.stages[0].instructions.size() != 1) {
    ADD_FAILURE() << "more than one instruction in " << text;
    return {};
  }
  const T* body = std::get_if<T>(&document.stages[0].instructions[0].body);
  if (body == nullptr) {
    ADD_FAILURE() << "another instruction in " << text;
    return {};
  }
  return *body;
}

// The message of the error that reading `text` ends with, and its location as "first-last".
inline std::string ErrorOf(absl::string_view text, std::string* location = nullptr) {
  Document document;
  const absl::Status status = Parse(text, &document);
  if (location != nullptr) {
    location->clear();
    for (const LineRange& lines : LocationsOf(status)) {
      absl::StrAppend(location, location->empty() ? "" : ",", lines.first, "-", lines.last);
    }
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(status.message());
}

// A valid name of a parameterized test, from words with blanks.
inline std::string TestName(absl::string_view words) {
  std::string name;
  for (const char c : words) {
    if (absl::ascii_isalnum(c)) name.push_back(c);
  }
  return name;
}

}  // namespace kiln::daemon::dockerfile
