// Rows of the index with any content: decoded or refused, never a crash; what is decoded encodes to
// the same bytes. The first byte picks the row; the rest is the row.
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>

#include "store/cache_rows.h"
#include "store/codec.h"
#include "store/filter.h"

namespace {

using namespace kiln::store;  // NOLINT: a fuzz target is one function

void Expect(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const absl::string_view row(reinterpret_cast<const char*>(data) + 1, size - 1);
  KeyId node;
  switch (data[0] % 8) {
    case 0: {
      const auto link = DecodeLinkKey(row);
      if (link.ok()) Expect(LinkKey(*link) == row);
      break;
    }
    case 1: {
      const auto link = DecodeBackLinkKey(row);
      if (link.ok()) Expect(BackLinkKey(*link) == row);
      break;
    }
    case 2: {
      const auto record = DecodeRecordKey(row, &node);
      if (record.ok()) Expect(RecordKey(node, *record) == row);
      break;
    }
    case 3: {
      const auto result = DecodeResultKey(row, &node);
      if (result.ok()) Expect(ResultKey(*result, node) == row);
      break;
    }
    case 4: {
      const auto value = DecodeResultValue(row);
      if (value.ok()) Expect(ResultValue(*value) == row);
      break;
    }
    case 5: {
      // The output is an int; a wider number is cut, so only what was decoded is compared.
      const auto value = DecodeNodeValue(row);
      if (value.ok()) Expect(*DecodeNodeValue(NodeValue(*value)) == *value);
      break;
    }
    case 6: {
      const auto alias = DecodeNodeAliasKey(row);
      if (alias.ok()) Expect(row.substr(33) == alias->raw());
      break;
    }
    default: {
      const std::string one[] = {std::string(row)};
      const auto filter = Filter::Parse(one);
      if (filter.ok())
        filter->Matches([](absl::Span<const std::string> path) {
          return std::optional<std::string>(path.back());
        });
    }
  }
  return 0;
}
