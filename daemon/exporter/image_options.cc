#include "daemon/exporter/image_options.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/registry/reference.h"
#include "daemon/source/go_values.h"
#include "proto/go_json.h"
#include "proto/status_details.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr char kNameMetadata[] = "image.name";

absl::Status Conflict(absl::string_view a, absl::string_view b) {
  return absl::InvalidArgumentError(
      absl::StrCat("exporter option \"", a, "\" conflicts with \"", b, "\""));
}

absl::StatusOr<store::Compression> ParseCompression(absl::string_view text) {
  if (text == "uncompressed") return store::Compression::kUncompressed;
  if (text == "gzip") return store::Compression::kGzip;
  if (text == "zstd") return store::Compression::kZstd;
  if (text == "estargz") return store::Compression::kEstargz;
  return absl::InvalidArgumentError(absl::StrCat("unsupported compression type ", text));
}

absl::Status CheckLevel(const store::LayerFormat& format) {
  if (!format.level.has_value()) return absl::OkStatus();
  int lowest = -1, highest = 9;
  if (format.compression == store::Compression::kZstd) {
    lowest = 0;
    highest = 22;
  }
  if (*format.level >= lowest && *format.level <= highest) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("compression-level ", *format.level,
                                                 " is not between ", lowest, " and ", highest));
}

bool HasAttestations(const ExportSource& source) {
  return std::any_of(source.attestations.begin(), source.attestations.end(),
                     [](const auto& entry) { return !entry.second.empty(); });
}

absl::Status NotInVersion(int version, absl::string_view feature) {
  absl::Status status = absl::InvalidArgumentError(
      absl::StrCat("unsupported compatibility-version ", version, " feature ", feature));
  GoJson json;
  json.BeginObject().Key("version").Int(version).Key("feature").String(feature).EndObject();
  AddDetail(kCompatibilityDetail, json.Take(), &status);
  return status;
}

}  // namespace

absl::StatusOr<bool> ParseBoolOption(absl::string_view key, const std::string& value,
                                     bool empty_is_true) {
  if (value.empty() && empty_is_true) return true;
  const auto parsed = ParseGoBool(key, value);
  if (parsed.ok()) return *parsed;
  return absl::InvalidArgumentError(
      absl::StrCat("non-bool value specified for ", key, ": \"", value, "\""));
}

absl::Status ImageOptions::Set(const std::string& key, const std::string& value) {
  if (key == "name") {
    names = value;
  } else if (key == "oci-mediatypes") {
    KILN_ASSIGN_OR_RETURN(oci_media_types, ParseBoolOption(key, value, true));
  } else if (key == "oci-artifact") {
    KILN_ASSIGN_OR_RETURN(oci_artifact, ParseBoolOption(key, value, true));
  } else if (key == "attestation-inline") {
    KILN_ASSIGN_OR_RETURN(attestation_inline, ParseBoolOption(key, value, false));
  } else if (key == "prefer-nondist-layers") {
    KILN_ASSIGN_OR_RETURN(prefer_nondist_layers, ParseBoolOption(key, value, false));
  } else if (key == "rewrite-timestamp") {
    KILN_ASSIGN_OR_RETURN(rewrite_timestamp, ParseBoolOption(key, value, false));
  } else if (key == "source-date-epoch") {
    KILN_RETURN_IF_ERROR(epoch.Set(value));
  } else if (key == "compression") {
    KILN_ASSIGN_OR_RETURN(layers.compression, ParseCompression(value));
  } else if (key == "force-compression") {
    KILN_ASSIGN_OR_RETURN(layers.force, ParseBoolOption(key, value, true));
  } else if (key == "compression-level") {
    int level = 0;
    if (!absl::SimpleAtoi(value, &level))
      return absl::InvalidArgumentError(
          absl::StrCat("non-int value ", value, " specified for compression-level"));
    layers.level = level;
  } else {
    KILN_ASSIGN_OR_RETURN(const bool annotation, annotations.Add(key, value));
    if (!annotation) metadata[key] = value;
  }
  return absl::OkStatus();
}

absl::StatusOr<ImagePlan> MakeImagePlan(const ImageOptions& options, const ExportSource& source,
                                        int compatibility_version, bool always_oci) {
  ImagePlan plan;
  plan.metadata = source.metadata;
  for (const auto& [key, value] : options.metadata) plan.metadata[key] = value;
  plan.annotations = options.annotations;
  for (const auto& [key, value] : plan.metadata)
    KILN_RETURN_IF_ERROR(plan.annotations.Add(key, value).status());
  const bool attested = options.attestations && HasAttestations(source);
  const bool oci_default = always_oci || compatibility_version >= 30 || attested;
  plan.types.oci = options.oci_media_types.value_or(oci_default);
  plan.artifact = options.oci_artifact.value_or(compatibility_version >= 30 && plan.types.oci);
  if (!plan.types.oci) {
    if (options.layers.compression == store::Compression::kEstargz)
      return Conflict("compression=estargz", "oci-mediatypes=false");
    if (plan.artifact) return Conflict("oci-artifact=true", "oci-mediatypes=false");
    if (plan.annotations.needs_oci())
      return absl::InvalidArgumentError("cannot export annotations with \"oci-mediatypes=false\"");
  }
  if (compatibility_version == 10 && options.layers.compression == store::Compression::kZstd)
    return NotInVersion(compatibility_version, "compression=zstd");
  KILN_RETURN_IF_ERROR(CheckLevel(options.layers));
  plan.names = options.names;
  const auto name = plan.metadata.find(kNameMetadata);
  if (plan.names == "*") plan.names = name == plan.metadata.end() ? "" : name->second;
  return plan;
}

absl::StatusOr<std::vector<std::string>> NormalizedNames(const std::string& names) {
  std::vector<std::string> out;
  for (const absl::string_view name : absl::StrSplit(names, ',', absl::SkipEmpty())) {
    auto reference = Reference::ParseFamiliar(name);
    if (!reference.ok())
      return Annotate(reference.status(), absl::StrCat("failed to parse ", name));
    out.push_back(reference->ToString());
  }
  return out;
}

}  // namespace kiln::daemon
