#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace kiln::daemon::dockerfile {

// The flags that an instruction knows, and the values given to them. Pointers to values are owned
// by the caller and keep what they hold when a flag is not given. Not thread-safe.
class FlagSet {
 public:
  // "--name", "--name=true", "--name=false".
  void Bool(std::string name, bool* value) { Add({std::move(name), value, nullptr, nullptr}); }
  void String(std::string name, std::string* value) {
    Add({std::move(name), nullptr, value, nullptr});
  }
  // May be given several times.
  void Strings(std::string name, std::vector<std::string>* values) {
    Add({std::move(name), nullptr, nullptr, values});
  }

  // `flags` as SplitInstruction has them. kInvalidArgument for the first that is unknown (with a
  // suggestion), repeated, or without a fitting value.
  absl::Status Parse(absl::Span<const std::string> flags);

  bool given(absl::string_view name) const;

 private:
  struct Flag {
    std::string name;
    bool* boolean;
    std::string* string;
    std::vector<std::string>* strings;
    bool given = false;
  };

  void Add(Flag flag) { flags_.push_back(std::move(flag)); }
  absl::Status ParseOne(absl::string_view text);

  std::vector<Flag> flags_;
};

}  // namespace kiln::daemon::dockerfile
