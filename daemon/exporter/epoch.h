#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/exporter/exporter.h"

namespace kiln::daemon {

// SOURCE_DATE_EPOCH as an exporter's attribute gives it. A plain value.
struct EpochOption {
  bool given = false;  // also when it is empty, which means "no epoch"
  std::optional<absl::Time> value = std::nullopt;

  // The attribute's text; kInvalidArgument when it is no number of seconds.
  absl::Status Set(absl::string_view text);
  // For one platform ("": the whole result): the attribute, else what the frontend left in the
  // result's metadata.
  absl::StatusOr<std::optional<absl::Time>> For(const ExportSource& source,
                                                const std::string& platform) const;
};

}  // namespace kiln::daemon
