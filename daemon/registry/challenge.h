#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace kiln::daemon {

// One way in that a server offers with a 401 (RFC 9110, 11.6.1).
struct Challenge {
  std::string scheme;                             // "bearer", "basic"
  std::map<std::string, std::string> parameters;  // names in lower case

  // "" when absent.
  const std::string& Parameter(const std::string& name) const;
};

// The value of WWW-Authenticate; several headers joined by ", " are one list. What cannot be read
// ends the list.
std::vector<Challenge> ParseChallenges(absl::string_view header);

// Token scopes in one spelling: one for each resource, its actions sorted, each once.
// {"repository:a:push,pull", "repository:a:pull"} is {"repository:a:pull,push"}.
std::vector<std::string> NormalizeScopes(const std::vector<std::string>& scopes);

}  // namespace kiln::daemon
