#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace kiln::daemon {

inline constexpr char kPackage[] = "kiln";
// The BuildKit API that is implemented; clients compare it as a semantic version.
inline constexpr char kApiVersion[] = "v0.32.2";
inline constexpr char kKilnVersion[] = "0.1.0";

// Reads `<root>/workerid`, or makes one: the worker's id stays the same across restarts.
absl::StatusOr<std::string> WorkerId(const std::string& root);

// The one worker as the wire describes it: a serialized moby.buildkit.v1.types.WorkerRecord.
std::string WorkerRecord(const std::string& id, const std::string& snapshotter);

}  // namespace kiln::daemon
