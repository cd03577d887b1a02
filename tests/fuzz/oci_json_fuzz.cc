// Manifests, indexes and configs as a registry might send them: no input crashes the readers, and
// what they take has sane values.
#include <cstddef>
#include <cstdint>

#include "daemon/image/read_manifest.h"
#include "store/base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto manifest = kiln::daemon::ParseManifest(text, "");
  if (manifest.ok() && !manifest->is_index) {
    KILN_CHECK(manifest->config.descriptor.size_bytes > 0);
    KILN_CHECK(manifest->layers.size() <= 4096);
  }
  const auto config = kiln::daemon::ParseConfig(text);
  if (config.ok()) KILN_CHECK(config->created.size() == config->diff_ids.size());
  return 0;
}
