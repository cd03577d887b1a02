#pragma once

#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/attest/source_pins.h"

namespace kiln::daemon {

// Something that a build was made from, as SLSA names it.
struct BuildDependency {
  std::string uri;
  std::string algorithm, hex;  // "sha256" or "sha1" and the digest; "": not known

  friend bool operator<(const BuildDependency& a, const BuildDependency& b) {
    return std::tie(a.uri, a.algorithm, a.hex) < std::tie(b.uri, b.algorithm, b.hex);
  }
};

// What a definition says of the build that it is. A plain value.
struct BuildFacts {
  std::set<BuildDependency> dependencies;
  std::set<std::string> locals;         // names of directories of clients
  std::map<std::string, bool> secrets;  // id -> optional
  std::map<std::string, bool> ssh;      // id -> optional
  bool network = false;                 // some step had access to a network
  std::vector<std::string> unpinned;    // sources whose content has no digest here
  std::string build_config;             // the steps as JSON, without what only one session knows
  std::string source;                   // where they come from in the user's files, as JSON; ""
};

// Reads a serialized pb.Definition. Images that were asked for by one of `tags`, and whose digest a
// frontend added, are named by the tag (BuildKit, provenance capture). kInvalidArgument when it is
// no definition. O(bytes).
absl::StatusOr<BuildFacts> ReadBuildFacts(absl::string_view definition, const SourcePins& pins,
                                          const std::set<std::string>& tags = {});

// `uri` without a user name and a password.
std::string RedactCredentials(absl::string_view uri);

}  // namespace kiln::daemon
