#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/cache_index.h"

// The rows of the cache index (DESIGN.md, Index). Decoding takes any bytes: kDataLoss when they
// are none of ours.
namespace kiln::store {

// One link of the key graph.
struct LinkRow {
  KeyId from;
  KeyId op;  // CacheIndex::RootKey of the operation
  uint32_t input = 0;
  std::string selector;
  KeyId to;

  friend bool operator==(const LinkRow& a, const LinkRow& b) {
    return a.from == b.from && a.op == b.op && a.input == b.input && a.selector == b.selector &&
           a.to == b.to;
  }
};

// Family links: from | op | input | selector | to. Without `to` it is the prefix of all targets
// that one key of one input of one operation has.
std::string LinkPrefix(const KeyId& from, const KeyId& op, uint32_t input,
                       absl::string_view selector);
std::string LinkKey(const LinkRow& link);
absl::StatusOr<LinkRow> DecodeLinkKey(absl::string_view key);

// Family backlinks: to | input | op | selector | from.
std::string BackLinkKey(const LinkRow& link);
absl::StatusOr<LinkRow> DecodeBackLinkKey(absl::string_view key);

// Family records: node | created, newest first | priority, highest first | result id. The order of
// rows is the order of choice.
std::string RecordKey(const KeyId& node, const CacheRecord& record);
absl::StatusOr<CacheRecord> DecodeRecordKey(absl::string_view key, KeyId* node);

// Family results: result id | node; value: created, priority.
std::string ResultPrefix(absl::string_view result_id);
std::string ResultKey(absl::string_view result_id, const KeyId& node);
absl::StatusOr<std::string> DecodeResultKey(absl::string_view key, KeyId* node);
std::string ResultValue(const CacheRecord& record);
// Fills all but the result id.
absl::StatusOr<CacheRecord> DecodeResultValue(absl::string_view value);

// Family aliases: 'a' | alias -> node, and 'n' | node | alias.
std::string AliasKey(const KeyId& alias);
std::string NodeAliasPrefix(const KeyId& node);
std::string NodeAliasKey(const KeyId& node, const KeyId& alias);
absl::StatusOr<KeyId> DecodeNodeAliasKey(absl::string_view key);  // the alias
absl::StatusOr<KeyId> DecodeAliasValue(absl::string_view value);

// Family keys: node -> how much it holds and what it stands for.
struct NodeRow {
  uint32_t links_out = 0;
  uint32_t records = 0;
  OpOutput op;  // an empty digest: only ever seen as an input of others

  friend bool operator==(const NodeRow& a, const NodeRow& b) {
    return a.links_out == b.links_out && a.records == b.records &&
           a.op.op_digest == b.op.op_digest && a.op.output == b.op.output;
  }
};
std::string NodeValue(const NodeRow& node);
absl::StatusOr<NodeRow> DecodeNodeValue(absl::string_view value);

}  // namespace kiln::store
