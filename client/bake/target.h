#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/bake/hcl/value.h"

namespace kiln::client::bake {

// An attribute that a target may have.
struct TargetField {
  enum class Kind { kText, kFlag, kList, kMap };
  absl::string_view name;
  Kind kind;
  bool appends = false;  // kList: merging adds, instead of replacing
};

// In the order in which they are printed.
absl::Span<const TargetField> TargetFields();
// Null when there is none of that name.
const TargetField* FindTargetField(absl::string_view name);

// What is to be built. Attributes that are not set are absent.
struct Target {
  std::string name;
  std::map<std::string, std::string> texts;
  std::map<std::string, bool> flags;
  std::map<std::string, std::vector<std::string>> lists;
  std::map<std::string, std::map<std::string, std::string>> maps;
  bool linked = false;  // here only because another one builds on it

  // "" when it is not set.
  std::string Text(const std::string& field) const;
  const std::vector<std::string>& List(const std::string& field) const;
  const std::map<std::string, std::string>& Map(const std::string& field) const;

  // Sets a field to what a file says; null leaves it unset. Items of a list may be objects, as
  // {type = "registry", ref = "…"}: they become the text that means the same. kInvalidArgument for
  // a value of another kind.
  absl::Status Set(const TargetField& field, const hcl::Value& value);
  // What `target.NAME.FIELD` means elsewhere: null when it is not set.
  hcl::Value Get(const TargetField& field) const;
  // Puts `other` on top.
  void Merge(const Target& other);
  // Leaves out repeated and empty items, and contexts without a value.
  void Normalize();
};

// The members of a map by commas, type first, as on the command line.
std::string JoinFields(const std::map<std::string, std::string>& fields);

}  // namespace kiln::client::bake
