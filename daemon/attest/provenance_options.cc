#include "daemon/attest/provenance_options.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "daemon/source/go_values.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

absl::Status Set(absl::string_view key, const std::string& value, ProvenanceOptions* options) {
  const auto flag = [&](bool* out) -> absl::Status {
    const auto parsed = ParseGoBool(key, value);
    if (!parsed.ok())
      return absl::InvalidArgumentError(
          absl::StrCat("failed to parse ", key, " flag \"", value, "\" of provenance"));
    *out = *parsed;
    return absl::OkStatus();
  };
  if (key == "mode") {
    if (value != "min" && value != "max" && value != "full")
      return absl::InvalidArgumentError(absl::StrCat("invalid mode \"", value, "\""));
    options->max = value != "min";
  } else if (key == "version") {
    if (value != "v1" && value != "v0.2")
      return absl::InvalidArgumentError(absl::StrCat("invalid SLSA version \"", value, "\""));
    options->v02 = value == "v0.2";
  } else if (key == "builder-id") {
    options->builder_id = value;
  } else if (key == "filename") {
    options->filename = value;
  } else if (key == "inline-only") {
    return flag(&options->inline_only);
  } else if (key == "reproducible") {
    return flag(&options->reproducible);
  } else if (key == "complete-materials") {
    return flag(&options->complete_materials);
  } else if (key == "capture-usage") {
    bool wanted = false;
    KILN_RETURN_IF_ERROR(flag(&wanted));
    if (wanted)
      return absl::UnimplementedError(
          "capture-usage of provenance is not supported by this daemon yet");
  }
  return absl::OkStatus();  // others are for frontends and clients ("disabled")
}

}  // namespace

absl::StatusOr<std::optional<ProvenanceOptions>> ProvenanceOptions::FromFrontend(
    const std::map<std::string, std::string>& opts) {
  auto found = opts.find("attest:provenance");
  if (found == opts.end()) found = opts.find("build-arg:BUILDKIT_ATTEST_PROVENANCE");
  if (found == opts.end()) return std::optional<ProvenanceOptions>();
  ProvenanceOptions options;
  for (const absl::string_view field : absl::StrSplit(found->second, ',', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> pair =
        absl::StrSplit(field, absl::MaxSplits('=', 1));
    if (pair.first == "disabled" && pair.second == "true")
      return std::optional<ProvenanceOptions>();
    KILN_RETURN_IF_ERROR(
        Set(absl::AsciiStrToLower(pair.first), std::string(pair.second), &options));
  }
  return std::make_optional(options);
}

}  // namespace kiln::daemon
