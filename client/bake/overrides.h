#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/bake/plan.h"

namespace kiln::client::bake {

// What --set says, by target.
class Overrides {
 public:
  // kInvalidArgument for a setting of another form, or that no target's name matches.
  static absl::StatusOr<Overrides> Parse(const Definition& definition, const PlanOptions& options);

  // kInvalidArgument for a key that targets don't have, or a value it can't have.
  absl::Status Apply(Target* target) const;

 private:
  struct Override {
    std::string key;   // field
    std::string name;  // member of a map
    bool append = false;
    std::vector<std::string> values;
  };
  static absl::Status ApplyOne(const Override& override, Target* target);

  std::map<std::string, std::vector<Override>> by_target_;
};

}  // namespace kiln::client::bake
