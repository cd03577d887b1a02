#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "daemon/frontend/dockerfile/syntax/body.h"
#include "daemon/frontend/dockerfile/syntax/flags.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {

namespace {

absl::Status ParseInterval(absl::string_view flag, absl::string_view value, absl::Duration* out) {
  if (value.empty()) return absl::OkStatus();
  KILN_ASSIGN_OR_RETURN(*out, ParseGoDuration(value));
  if (*out != absl::ZeroDuration() && *out < absl::Milliseconds(1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("Interval ", Quote(flag), " cannot be less than 1ms"));
  }
  return absl::OkStatus();
}

absl::Status ParseRetries(absl::string_view value, int64_t* out) {
  if (value.empty()) return absl::OkStatus();
  KILN_ASSIGN_OR_RETURN(*out, ParseInt32(value));
  if (*out < 0)
    return absl::InvalidArgumentError(absl::StrCat("--retries cannot be negative (", *out, ")"));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Healthcheck> ParseHealthcheck(LogicalLine* line) {
  SplitInstruction& split = line->split;
  if (split.args.empty()) return NeedsArguments("HEALTHCHECK");
  const std::string type = absl::AsciiStrToUpper(split.args[0]);
  Healthcheck check;
  if (type == "NONE") {
    if (split.args.size() > 1)
      return absl::InvalidArgumentError("HEALTHCHECK NONE takes no arguments");
    check.test = {type};
    return check;
  }
  std::string interval, timeout, start_period, start_interval, retries;
  FlagSet flags;
  flags.String("interval", &interval);
  flags.String("timeout", &timeout);
  flags.String("start-period", &start_period);
  flags.String("start-interval", &start_interval);
  flags.String("retries", &retries);
  KILN_RETURN_IF_ERROR(flags.Parse(split.flags));
  if (type != "CMD") {
    return absl::InvalidArgumentError(
        absl::StrCat("Unknown type ", Quote(type), " in HEALTHCHECK (try CMD)"));
  }
  if (split.args.size() == 1)
    return absl::InvalidArgumentError("Missing command after HEALTHCHECK CMD");
  check.test = std::move(split.args);
  check.test[0] = split.json ? "CMD" : "CMD-SHELL";
  KILN_RETURN_IF_ERROR(ParseInterval("interval", interval, &check.interval));
  KILN_RETURN_IF_ERROR(ParseInterval("timeout", timeout, &check.timeout));
  KILN_RETURN_IF_ERROR(ParseInterval("start-period", start_period, &check.start_period));
  KILN_RETURN_IF_ERROR(ParseInterval("start-interval", start_interval, &check.start_interval));
  KILN_RETURN_IF_ERROR(ParseRetries(retries, &check.retries));
  return check;
}

}  // namespace kiln::daemon::dockerfile
