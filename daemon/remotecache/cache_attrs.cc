#include "daemon/remotecache/cache_attrs.h"

#include "absl/strings/str_cat.h"
#include "daemon/exporter/image_options.h"
#include "daemon/source/go_values.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

std::string CacheAttr(const CacheAttrs& attrs, const std::string& key) {
  const auto found = attrs.find(key);
  return found == attrs.end() ? "" : found->second;
}

absl::StatusOr<bool> BoolCacheAttr(const CacheAttrs& attrs, const std::string& key,
                                   bool otherwise) {
  const auto found = attrs.find(key);
  if (found == attrs.end()) return otherwise;
  return ParseGoBool(key, found->second);
}

CommonCacheOptions CommonOptions(const CacheAttrs& attrs) {
  CommonCacheOptions options;
  if (CacheAttr(attrs, "mode") == "max") options.mode = CacheMode::kMax;
  options.ignore_error = BoolCacheAttr(attrs, "ignore-error", false).value_or(false);
  return options;
}

absl::StatusOr<store::LayerFormat> CacheLayerFormat(const CacheAttrs& attrs) {
  ImageOptions options;
  for (const char* key : {"compression", "compression-level", "force-compression"}) {
    const auto found = attrs.find(key);
    if (found != attrs.end()) KILN_RETURN_IF_ERROR(options.Set(key, found->second));
  }
  return options.layers;
}

absl::StatusOr<CacheManifestForm> ManifestForm(const CacheAttrs& attrs) {
  CacheManifestForm form;
  KILN_ASSIGN_OR_RETURN(form.oci_media_types, BoolCacheAttr(attrs, "oci-mediatypes", true));
  KILN_ASSIGN_OR_RETURN(form.image_manifest,
                        BoolCacheAttr(attrs, "image-manifest", form.oci_media_types));
  if (form.image_manifest && !form.oci_media_types)
    return absl::InvalidArgumentError(
        "invalid configuration for remote cache, OCI mediatypes are required for image-manifest "
        "cache format");
  return form;
}

}  // namespace kiln::daemon
