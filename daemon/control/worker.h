#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace kiln::daemon {

inline constexpr char kPackage[] = "kiln";
// The BuildKit API that is implemented; clients compare it as a semantic version.
inline constexpr char kApiVersion[] = "v0.32.2";
// The Dockerfile syntax that the built-in frontend knows.
inline constexpr char kDockerfileVersion[] = "1.26.0";
inline constexpr char kKilnVersion[] = "0.1.0";

// Reads `<root>/workerid`, or makes one: the worker's id stays the same across restarts.
absl::StatusOr<std::string> WorkerId(const std::string& root);

struct WorkerFacts {
  std::string id;
  std::string snapshotter;                    // "overlayfs" or "native"
  std::string network;                        // of steps: "host", "cni"
  std::map<std::string, std::string> labels;  // added by the configuration
  std::vector<std::string> platforms;         // "os/architecture[/variant]", its own first
};
// The one worker as the wire describes it: a serialized moby.buildkit.v1.types.WorkerRecord.
std::string WorkerRecord(const WorkerFacts& facts);

// A serialized moby.buildkit.v1.types.BuildkitVersion.
std::string VersionRecord();

}  // namespace kiln::daemon
