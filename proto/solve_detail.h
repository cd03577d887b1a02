#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln {

inline constexpr absl::string_view kSolveDetail = "github.com/moby/buildkit/errdefs.Solve+json";

// What is told of a step that failed (BuildKit errdefs.Solve): ids that a client may mount into a
// container, "" where there is nothing.
struct SolveDetail {
  // Of an exec op by mount: its input, and its state after the failure. Of a file op by input, and
  // by action. When a content key failed: the one input.
  std::vector<std::string> input_ids = {}, mount_ids = {};
  std::optional<int64_t> file_index = {};   // the failed action
  std::optional<int64_t> cache_index = {};  // the input whose content key failed
  std::string op = {};                      // serialized pb.Op; "": not told
  std::map<std::string, std::string> description = {};
};

// As Go's protojson reads it. The op is left out when it is no pb.Op, is not UTF-8 all through
// (JSON could not say it), or is larger than 1 MiB.
std::string ToJson(const SolveDetail& detail);
// Unknown members are skipped. kInvalidArgument for what is no such object.
absl::StatusOr<SolveDetail> SolveDetailFromJson(absl::string_view json);

}  // namespace kiln
