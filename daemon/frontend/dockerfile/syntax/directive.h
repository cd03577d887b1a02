#pragma once

#include <optional>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::daemon::dockerfile {

// A parser directive, "# key=value" in the first lines of a file.
struct Directive {
  std::string key;    // in lower case: "syntax", "escape" or "check"
  std::string value;  // never empty, no white space around
  int line = 0;       // from 1
};

// Takes the lines of a file one by one, until the first that is no directive: from there on there
// are none. Not thread-safe.
class DirectiveScanner {
 public:
  // `marker` begins a comment: "#" or "//".
  explicit DirectiveScanner(absl::string_view marker = "#", int lines_before = 0)
      : marker_(marker), line_(lines_before) {}

  // nullopt when `line` (without its end) is none. kInvalidArgument for a key seen before.
  absl::StatusOr<std::optional<Directive>> Next(absl::string_view line);

  bool done() const { return done_; }

 private:
  absl::string_view marker_;
  int line_;
  bool done_ = false;
  std::set<std::string> seen_;
};

// `# syntax=`: the frontend image that a file asks for.
struct SyntaxDirective {
  std::string image;    // up to the first blank
  std::string cmdline;  // the whole value
  int line = 0;         // from 1
};

// Looks for `# syntax=`, then `// syntax=`, then a whole file that is a JSON object with a string
// "syntax". A first line "#!…" is skipped. Never fails: a broken file asks for nothing.
std::optional<SyntaxDirective> FindSyntax(absl::string_view data);

// The value of `# check=` up to the first blank, found in the same way, but as a '#' comment only.
std::optional<std::string> FindCheck(absl::string_view data);

}  // namespace kiln::daemon::dockerfile
