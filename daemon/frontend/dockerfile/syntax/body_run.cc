#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "daemon/frontend/dockerfile/syntax/body.h"
#include "daemon/frontend/dockerfile/syntax/csv.h"
#include "daemon/frontend/dockerfile/syntax/flags.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"
#include "daemon/frontend/dockerfile/syntax/mount.h"
#include "daemon/frontend/dockerfile/syntax/suggest.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {

namespace {

absl::StatusOr<RunNetwork> ParseNetwork(absl::string_view value) {
  if (value == "default") return RunNetwork::kDefault;
  if (value == "none") return RunNetwork::kNone;
  if (value == "host") return RunNetwork::kHost;
  return absl::InvalidArgumentError(absl::StrCat("invalid network mode ", Quote(value)));
}

absl::StatusOr<RunSecurity> ParseSecurity(absl::string_view value) {
  if (value == "sandbox") return RunSecurity::kSandbox;
  if (value == "insecure") return RunSecurity::kInsecure;
  return absl::InvalidArgumentError(absl::StrCat("security ", Quote(value), " is not valid"));
}

// The first field that is no option is the name, whatever it looks like.
absl::StatusOr<RunDevice> ParseDevice(absl::string_view flag) {
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> fields,
                        Annotate(SplitCsv(flag), "failed to parse csv devices"));
  RunDevice device;
  for (const std::string& field : fields) {
    const size_t equals = field.find('=');
    const bool has_value = equals != std::string::npos;
    const std::string key = absl::AsciiStrToLower(field.substr(0, equals));
    const std::string value = has_value ? field.substr(equals + 1) : "";
    if (key == "required") {
      const std::optional<bool> required = has_value ? ParseBool(value) : true;
      if (!required.has_value())
        return absl::InvalidArgumentError(absl::StrCat("invalid value for ", key, ": ", value));
      device.required = *required;
    } else if (key == "name" && has_value) {
      if (!device.name.empty()) {
        return absl::InvalidArgumentError(absl::StrCat("device name already set to ", device.name));
      }
      device.name = value;
    } else if (device.name.empty()) {
      device.name = field;
    } else if (!has_value) {
      return absl::InvalidArgumentError(
          absl::StrCat("invalid field '", field, "' must be a key=value pair"));
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("unexpected key '", key, "' in '", field, "'",
                       DidYouMean(Nearest(key, {"name", "required"}))));
    }
  }
  return device;
}

}  // namespace

absl::StatusOr<Run> ParseRun(LogicalLine* line) {
  std::vector<std::string> mounts;
  std::vector<std::string> devices;
  std::string network = "default";
  std::string security = "sandbox";
  FlagSet flags;
  flags.Strings("device", &devices);
  flags.Strings("mount", &mounts);
  flags.String("network", &network);
  flags.String("security", &security);
  KILN_RETURN_IF_ERROR(flags.Parse(line->split.flags));

  Run run;
  run.command = TakeCommand(&line->split);
  run.heredocs = std::move(line->heredocs);
  for (const std::string& flag : devices) {
    KILN_ASSIGN_OR_RETURN(RunDevice device, ParseDevice(flag));
    run.devices.push_back(std::move(device));
  }
  for (std::string& flag : mounts) {
    KILN_ASSIGN_OR_RETURN(std::string from, ParseMountFrom(flag));
    run.mounts.push_back({std::move(flag), std::move(from)});
  }
  KILN_ASSIGN_OR_RETURN(run.network, ParseNetwork(network));
  KILN_ASSIGN_OR_RETURN(run.security, ParseSecurity(security));
  return run;
}

}  // namespace kiln::daemon::dockerfile
