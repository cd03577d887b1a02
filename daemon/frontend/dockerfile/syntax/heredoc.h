#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::daemon::dockerfile {

// A here-document: a body of lines that belongs to an instruction.
struct Heredoc {
  std::string name;     // the delimiter without its quotes
  uint64_t fd = 0;      // 3 in "3<<EOF"
  bool expand = true;   // no part of the delimiter is quoted
  bool chomp = false;   // "<<-": leading tabs are not content
  std::string content;  // the lines with their ends, tabs included
};

// The here-document that a word of an instruction announces ("<<EOF", "3<<-'E F'"), without its
// content; nullopt when the word is something else. kInvalidArgument when its quotes do not close.
absl::StatusOr<std::optional<Heredoc>> ParseHeredocWord(absl::string_view word);

// All that a whole instruction announces, in order. The escape character is always the backslash
// here, whatever the escape directive says. A line that cannot be split into words has none.
absl::StatusOr<std::vector<Heredoc>> FindHeredocs(absl::string_view line);

// `content` without the tabs that begin its lines.
std::string ChompTabs(absl::string_view content);

}  // namespace kiln::daemon::dockerfile
