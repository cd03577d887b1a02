#pragma once

#include <string>

#include "absl/container/inlined_vector.h"
#include "absl/strings/string_view.h"

namespace kiln::client::llb {

// What people are told of an op: texts under keys. A value.
class Description {
 public:
  struct Entry {
    std::string key;
    std::string text;
  };
  using Entries = absl::InlinedVector<Entry, 2>;  // most ops have one or two

  // Replaces the text that is there.
  void Set(absl::string_view key, std::string text);

  bool empty() const { return entries_.empty(); }
  // In the order of the keys' bytes.
  Entries::const_iterator begin() const { return entries_.begin(); }
  Entries::const_iterator end() const { return entries_.end(); }

 private:
  Entries entries_;
};

}  // namespace kiln::client::llb
