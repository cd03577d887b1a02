// A cache config from anywhere: no crash, and what is read can be sorted, written and read again.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/string_view.h"
#include "daemon/remotecache/cache_config.h"

namespace {

void Require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kiln::daemon;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto records = ParseCacheRecords(text); records.ok())
    Require(ParseCacheRecords(CacheRecordsJson(*records)).ok());
  auto config = ParseCacheConfig(text);
  if (!config.ok()) return 0;
  SortCacheConfig(&*config);
  const std::string sorted = CacheConfigJson(*config);
  const auto again = ParseCacheConfig(sorted);
  Require(again.ok());
  Require(CacheConfigJson(*again) == sorted);
  return 0;
}
