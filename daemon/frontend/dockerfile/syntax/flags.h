#pragma once

#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace kiln::daemon::dockerfile {

// The flags that an instruction knows, and the values given to them. Names and the places of values
// are the caller's and outlive this object; a value keeps what it holds when its flag is not given.
// Not thread-safe.
class FlagSet {
 public:
  // "--name", "--name=true", "--name=false".
  void Bool(absl::string_view name, bool* value) { Add({name, value, nullptr, nullptr}); }
  void String(absl::string_view name, std::string* value) { Add({name, nullptr, value, nullptr}); }
  // May be given several times.
  void Strings(absl::string_view name, std::vector<std::string>* values) {
    Add({name, nullptr, nullptr, values});
  }

  // `flags` as SplitInstruction has them. kInvalidArgument for the first that is unknown (with a
  // suggestion), repeated, or without a fitting value.
  absl::Status Parse(absl::Span<const std::string> flags);

  bool given(absl::string_view name) const;

 private:
  struct Flag {
    absl::string_view name;
    bool* boolean;
    std::string* string;
    std::vector<std::string>* strings;
    bool given = false;
  };

  void Add(Flag flag) { flags_.push_back(flag); }
  absl::Status ParseOne(absl::string_view text);

  absl::InlinedVector<Flag, 8> flags_;
};

}  // namespace kiln::daemon::dockerfile
