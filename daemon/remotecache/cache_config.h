#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/digest.h"

namespace kiln::daemon {

inline constexpr char kCacheConfigMediaType[] = "application/vnd.buildkit.cacheconfig.v0";

// Only caches without a manifest (s3, gha) say this of a layer here.
struct LayerAnnotations {
  std::string media_type;
  std::optional<Digest> diff_id;
  int64_t size_bytes = 0;
  absl::Time created_at = absl::InfinitePast();  // InfinitePast: Go's zero time
};

// What a remote cache knows: keys, how they lead to each other, and the layers of results
// (images-and-cache.md 4.2). A plain value; indexes are into `layers` and `records`.
struct CacheConfig {
  struct Layer {
    Digest blob;
    int parent = -1;  // -1: none
    std::optional<LayerAnnotations> annotations = std::nullopt;
  };
  // The layers from the root of `layer`'s chain up to it.
  struct Result {
    int layer = 0;
    absl::Time created_at;
  };
  // Layers by name, lowest first.
  struct ChainResult {
    std::vector<int> layers;
    absl::Time created_at;
  };
  struct Input {
    std::string selector;
    int link = 0;  // a record
  };
  struct Record {
    std::vector<Result> results;
    std::vector<ChainResult> chains;
    Digest digest;
    std::vector<std::vector<Input>> inputs;  // of each input, the records that may stand for it
  };
  std::vector<Layer> layers;
  std::vector<Record> records;
};

// Reads what anybody may have written. kInvalidArgument names the fault: malformed text, an index
// out of range, a loop of records or layers, an input without alternatives. kUnimplemented: a
// digest that is not sha256. Linear in the text; memory in proportion to it, whatever it nests.
absl::StatusOr<CacheConfig> ParseCacheConfig(absl::string_view json);

// The same for the bare array of records that an image config carries (4.4).
absl::StatusOr<std::vector<CacheConfig::Record>> ParseCacheRecords(absl::string_view json);
// Whether results name layers that are there; ParseCacheRecords cannot know. kInvalidArgument.
absl::Status CheckCacheResults(const CacheConfig& config);

// Puts layers, records and alternatives in BuildKit's order and drops doubles of alternatives, so
// that equal caches are equal bytes. Indexes must be in range.
void SortCacheConfig(CacheConfig* config);
// The same for records whose layers are somebody else's.
void SortCacheRecords(std::vector<CacheConfig::Record>* records);

// Byte for byte as Go marshals it.
std::string CacheConfigJson(const CacheConfig& config);
std::string CacheRecordsJson(const std::vector<CacheConfig::Record>& records);

// RFC 3339 with nanoseconds, in UTC, as Go writes time.Time.
std::string GoTimeText(absl::Time time);
// kInvalidArgument when malformed. Go's zero time is InfinitePast.
absl::StatusOr<absl::Time> ParseGoTime(absl::string_view text);

}  // namespace kiln::daemon
