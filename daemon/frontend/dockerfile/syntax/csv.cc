#include "daemon/frontend/dockerfile/syntax/csv.h"

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace kiln::daemon::dockerfile {

namespace {

absl::Status Misplaced(size_t at, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("parse error on line 1, column ", at + 1, ": ", what));
}

}  // namespace

absl::StatusOr<std::vector<std::string>> SplitCsv(absl::string_view record) {
  if (absl::ConsumeSuffix(&record, "\n")) absl::ConsumeSuffix(&record, "\r");
  if (record.empty()) return absl::InvalidArgumentError("EOF");
  constexpr absl::string_view kBare = "bare \" in non-quoted field";
  constexpr absl::string_view kQuote = "extraneous or missing \" in quoted-field";
  std::vector<std::string> fields;
  size_t at = 0;
  while (true) {
    std::string& field = fields.emplace_back();
    if (at == record.size() || record[at] != '"') {
      const size_t end = std::min(record.find(',', at), record.size());
      field = std::string(record.substr(at, end - at));
      if (const size_t quote = field.find('"'); quote != std::string::npos)
        return Misplaced(at + quote, kBare);
      at = end;
    } else {
      ++at;
      while (true) {
        const size_t quote = record.find('"', at);
        if (quote == absl::string_view::npos) return Misplaced(at, kQuote);
        absl::StrAppend(&field, record.substr(at, quote - at));
        at = quote + 1;
        if (at == record.size() || record[at] != '"') break;
        field.push_back('"');
        ++at;
      }
      if (at < record.size() && record[at] != ',') return Misplaced(at - 1, kQuote);
    }
    if (at == record.size()) return fields;
    ++at;  // the comma: a field follows, if only an empty one
  }
}

}  // namespace kiln::daemon::dockerfile
