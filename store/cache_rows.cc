#include "store/cache_rows.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "store/codec.h"

namespace kiln::store {
namespace {

constexpr uint8_t kResultVersion = 1;
constexpr uint8_t kNodeVersion = 1;

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("the cache index holds an ill-formed ", what));
}

}  // namespace

std::string LinkPrefix(const KeyId& from, const KeyId& op, uint32_t input,
                       absl::string_view selector) {
  std::string key;
  key.reserve(3 * Digest::kSize + 8 + selector.size());
  AppendKey(&key, from);
  AppendKey(&key, op);
  AppendFixed32(&key, input);
  AppendText(&key, selector);
  return key;
}

std::string LinkKey(const LinkRow& link) {
  std::string key = LinkPrefix(link.from, link.op, link.input, link.selector);
  AppendKey(&key, link.to);
  return key;
}

absl::StatusOr<LinkRow> DecodeLinkKey(absl::string_view key) {
  Decoder in(key);
  LinkRow link;
  link.from = in.Key();
  link.op = in.Key();
  link.input = in.Fixed32();
  link.selector = std::string(in.Text());
  link.to = in.Key();
  if (!in.Done()) return Damaged("link");
  return link;
}

std::string BackLinkKey(const LinkRow& link) {
  std::string key;
  key.reserve(3 * Digest::kSize + 8 + link.selector.size());
  AppendKey(&key, link.to);
  AppendFixed32(&key, link.input);
  AppendKey(&key, link.op);
  AppendText(&key, link.selector);
  AppendKey(&key, link.from);
  return key;
}

absl::StatusOr<LinkRow> DecodeBackLinkKey(absl::string_view key) {
  Decoder in(key);
  LinkRow link;
  link.to = in.Key();
  link.input = in.Fixed32();
  link.op = in.Key();
  link.selector = std::string(in.Text());
  link.from = in.Key();
  if (!in.Done()) return Damaged("back link");
  return link;
}

std::string RecordKey(const KeyId& node, const CacheRecord& record) {
  std::string key;
  AppendKey(&key, node);
  AppendDescending64(&key, absl::ToUnixNanos(record.created_at));
  key.push_back(static_cast<char>(~record.priority));
  key.append(record.result_id);
  return key;
}

absl::StatusOr<CacheRecord> DecodeRecordKey(absl::string_view key, KeyId* node) {
  Decoder in(key);
  CacheRecord record;
  *node = in.Key();
  record.created_at = absl::FromUnixNanos(in.Descending64());
  record.priority = static_cast<uint8_t>(~in.Byte());
  record.result_id = std::string(in.Rest());
  if (!in.Done()) return Damaged("record");
  return record;
}

std::string ResultPrefix(absl::string_view result_id) {
  std::string key;
  AppendOrderedText(&key, result_id);
  return key;
}

std::string ResultKey(absl::string_view result_id, const KeyId& node) {
  std::string key = ResultPrefix(result_id);
  AppendKey(&key, node);
  return key;
}

absl::StatusOr<std::string> DecodeResultKey(absl::string_view key, KeyId* node) {
  Decoder in(key);
  std::string result_id = in.OrderedText();
  *node = in.Key();
  if (!in.Done()) return Damaged("result");
  return result_id;
}

std::string ResultValue(const CacheRecord& record) {
  std::string value(1, static_cast<char>(kResultVersion));
  AppendOrdered64(&value, absl::ToUnixNanos(record.created_at));
  value.push_back(static_cast<char>(record.priority));
  return value;
}

absl::StatusOr<CacheRecord> DecodeResultValue(absl::string_view value) {
  Decoder in(value);
  CacheRecord record;
  const uint8_t version = in.Byte();
  record.created_at = absl::FromUnixNanos(in.Ordered64());
  record.priority = in.Byte();
  if (version != kResultVersion || !in.Done()) return Damaged("result time");
  return record;
}

std::string AliasKey(const KeyId& alias) {
  std::string key("a");
  AppendKey(&key, alias);
  return key;
}

std::string NodeAliasPrefix(const KeyId& node) {
  std::string key("n");
  AppendKey(&key, node);
  return key;
}

std::string NodeAliasKey(const KeyId& node, const KeyId& alias) {
  std::string key = NodeAliasPrefix(node);
  AppendKey(&key, alias);
  return key;
}

absl::StatusOr<KeyId> DecodeNodeAliasKey(absl::string_view key) {
  Decoder in(key);
  const bool known = in.Byte() == 'n';
  in.Key();
  const KeyId alias = in.Key();
  if (!known || !in.Done()) return Damaged("alias");
  return alias;
}

absl::StatusOr<KeyId> DecodeAliasValue(absl::string_view value) {
  Decoder in(value);
  const KeyId node = in.Key();
  if (!in.Done()) return Damaged("alias target");
  return node;
}

std::string NodeValue(const NodeRow& node) {
  std::string value(1, static_cast<char>(kNodeVersion));
  AppendFixed32(&value, node.links_out);
  AppendFixed32(&value, node.records);
  AppendText(&value, node.op.op_digest);
  AppendOrdered64(&value, node.op.output);
  return value;
}

absl::StatusOr<NodeRow> DecodeNodeValue(absl::string_view value) {
  Decoder in(value);
  NodeRow node;
  const uint8_t version = in.Byte();
  node.links_out = in.Fixed32();
  node.records = in.Fixed32();
  node.op.op_digest = std::string(in.Text());
  node.op.output = static_cast<int>(in.Ordered64());
  if (version != kNodeVersion || !in.Done()) return Damaged("key");
  return node;
}

}  // namespace kiln::store
