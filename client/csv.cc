#include "client/csv.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::client {

absl::StatusOr<std::vector<std::string>> SplitCsv(absl::string_view text) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '"' && i + 1 < text.size() && text[i + 1] == '"') {
      fields.back().push_back('"');
      ++i;
    } else if (c == '"' && (quoted || fields.back().empty())) {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      fields.emplace_back();
    } else {
      fields.back().push_back(c);
    }
  }
  if (quoted) return absl::InvalidArgumentError(absl::StrCat("open quote in \"", text, "\""));
  return fields;
}

absl::StatusOr<std::vector<std::pair<std::string, std::string>>> SplitCsvFields(
    absl::string_view text, bool bare_allowed) {
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> fields, SplitCsv(text));
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const std::string& field : fields) {
    const size_t equals = field.find('=');
    if (equals == std::string::npos && !bare_allowed) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", field, "\" in \"", text, "\" must be key=value"));
    }
    if (equals == std::string::npos) {
      pairs.emplace_back(field, "");
    } else {
      pairs.emplace_back(absl::AsciiStrToLower(field.substr(0, equals)), field.substr(equals + 1));
    }
  }
  return pairs;
}

}  // namespace kiln::client
