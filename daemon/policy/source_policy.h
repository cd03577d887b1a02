#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::daemon {

// A source as policies see and change it. A plain value.
struct SourceRef {
  std::string identifier;  // "SCHEME://REF"
  std::map<std::string, std::string> attrs;

  friend bool operator==(const SourceRef&, const SourceRef&) = default;
};

// The identifier that rules are matched with: image names in their whole form, git remotes as
// "git://host/path#ref:subdir". What cannot be read stays as it is.
std::string NormalizedIdentifier(const SourceRef& source);

// Static rules over sources (llb.md 1.10): several policies, each a list of rules. Immutable;
// thread-safe; never blocks.
class SourcePolicy {
 public:
  // Serialized sourcepolicy.Policy each, those that come first decide first. kInvalidArgument names
  // the rule that makes no sense.
  static absl::StatusOr<std::shared_ptr<const SourcePolicy>> Create(
      const std::vector<std::string>& policies);
  ~SourcePolicy();

  // Changes the source until no rule does any more; true when that changed anything.
  // kPermissionDenied `source "X" denied by policy: source denied by policy`; kInvalidArgument when
  // rules keep changing it.
  absl::StatusOr<bool> Apply(SourceRef* source) const;

 private:
  struct Rule;
  SourcePolicy();
  absl::StatusOr<bool> ApplyOnce(const std::vector<Rule>& policy, SourceRef* source) const;

  std::vector<std::vector<Rule>> policies_;
};

}  // namespace kiln::daemon
