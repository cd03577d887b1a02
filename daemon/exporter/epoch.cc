#include "daemon/exporter/epoch.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

// Frontends leave the epoch under this key, with "/<platform>" behind it for one platform.
constexpr char kEpochMetadata[] = "source.date.epoch";

absl::StatusOr<std::optional<absl::Time>> ParseEpoch(absl::string_view what,
                                                     absl::string_view text) {
  if (text.empty()) return std::optional<absl::Time>();
  int64_t seconds = 0;
  if (!absl::SimpleAtoi(text, &seconds))
    return absl::InvalidArgumentError(
        absl::StrCat("invalid ", what, ": \"", text, "\" is not a number of seconds"));
  return std::make_optional(absl::FromUnixSeconds(seconds));
}

}  // namespace

absl::Status EpochOption::Set(absl::string_view text) {
  given = true;
  KILN_ASSIGN_OR_RETURN(value, ParseEpoch("source-date-epoch", text));
  return absl::OkStatus();
}

absl::StatusOr<std::optional<absl::Time>> EpochOption::For(const ExportSource& source,
                                                           const std::string& platform) const {
  if (given) return value;
  auto found = source.metadata.find(absl::StrCat(kEpochMetadata, "/", platform));
  if (found == source.metadata.end()) found = source.metadata.find(kEpochMetadata);
  if (found == source.metadata.end()) return std::optional<absl::Time>();
  return ParseEpoch("SOURCE_DATE_EPOCH from frontend", found->second);
}

}  // namespace kiln::daemon
