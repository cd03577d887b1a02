#include "store/ref/record.h"

#include <sys/random.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/digest.h"
#include "store/base/check.h"
#include "store/codec.h"
#include "store/ref/record.pb.h"

namespace kiln::store::internal {
namespace {

constexpr uint32_t kVersion = 1;

}  // namespace

std::string EncodeRecord(const RefRecord& record) {
  pb::RefRecord out;
  out.set_version(kVersion);
  out.set_kind(static_cast<uint32_t>(record.kind));
  out.set_is_mutable(record.is_mutable);
  out.set_retained(record.retained);
  for (const std::string& parent : record.parents) out.add_parents(parent);
  out.set_snapshot(record.snapshot);
  out.set_flat(record.flat);
  out.set_ready(record.ready);
  for (const uint64_t layer : record.layers) out.add_layers(layer);
  out.set_raw_form(static_cast<uint32_t>(record.changes_form));
  for (const LayerChange& change : record.changes) {
    out.add_raw_snapshots(change.snapshot);
    out.add_raw_bases(change.base);
    out.add_raw_floating(change.floating);
  }
  out.set_twin(record.twin);
  out.set_description(record.description);
  out.set_record_type(record.record_type);
  out.set_created_at_ns(absl::ToUnixNanos(record.created_at));
  out.set_size_plus_one(record.size_bytes + 1);
  for (const std::string& key : record.index_keys) out.add_index_keys(key);
  for (const auto& [name, value] : record.values) (*out.mutable_values())[name] = value;
  return out.SerializeAsString();
}

absl::StatusOr<RefRecord> DecodeRecord(absl::string_view bytes) {
  pb::RefRecord in;
  if (!in.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return absl::DataLossError("the record is damaged");
  if (in.version() > kVersion)
    return absl::FailedPreconditionError(
        absl::StrCat("the record has version ", in.version(), ", known is ", kVersion));
  RefRecord out;
  if (in.kind() > 2 || in.raw_form() > 3 || in.raw_bases_size() != in.raw_snapshots_size() ||
      in.raw_floating_size() != in.raw_snapshots_size())
    return absl::DataLossError("the record is damaged");
  out.kind = static_cast<RefRecord::Kind>(in.kind());
  out.is_mutable = in.is_mutable();
  out.retained = in.retained();
  out.parents.assign(in.parents().begin(), in.parents().end());
  out.snapshot = in.snapshot();
  out.flat = in.flat();
  out.ready = in.ready();
  out.layers.assign(in.layers().begin(), in.layers().end());
  out.changes_form = static_cast<RefRecord::Changes>(in.raw_form());
  for (int i = 0; i < in.raw_snapshots_size(); ++i)
    out.changes.push_back({in.raw_snapshots(i), in.raw_bases(i), in.raw_floating(i)});
  out.twin = in.twin();
  out.description = in.description();
  out.record_type = in.record_type();
  out.created_at = absl::FromUnixNanos(in.created_at_ns());
  out.size_bytes = in.size_plus_one() - 1;
  out.index_keys.assign(in.index_keys().begin(), in.index_keys().end());
  for (const auto& [name, value] : in.values()) out.values[name] = value;
  return out;
}

std::string EncodeUsage(const Usage& usage) {
  std::string out;
  AppendOrdered64(&out, absl::ToUnixNanos(usage.last_used_at));
  AppendFixed64(&out, static_cast<uint64_t>(usage.count));
  return out;
}

Usage DecodeUsage(absl::string_view bytes) {
  Decoder in(bytes);
  Usage usage;
  const int64_t nanos = in.Ordered64();
  if (nanos != absl::ToUnixNanos(absl::InfinitePast()))
    usage.last_used_at = absl::FromUnixNanos(nanos);
  usage.count = static_cast<int64_t>(in.Fixed64());
  return in.Done() ? usage : Usage();
}

std::string NewId() {
  constexpr char kDigits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
  unsigned char random[kIdSize];
  KILN_CHECK(::getrandom(random, sizeof random, 0) == static_cast<ssize_t>(sizeof random));
  std::string id;
  for (const unsigned char byte : random) id.push_back(kDigits[byte % 36]);
  return id;
}

bool IsId(absl::string_view id) {
  return id.size() == kIdSize && std::all_of(id.begin(), id.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z');
         });
}

std::string RecordKey(absl::string_view id) {
  return absl::StrCat(absl::string_view(&kRecordRow, 1), id);
}
std::string ChildPrefix(absl::string_view parent) {
  return absl::StrCat(absl::string_view(&kChildRow, 1), parent);
}
std::string ChildKey(absl::string_view parent, absl::string_view child) {
  return absl::StrCat(ChildPrefix(parent), child);
}
std::string SnapshotKey(uint64_t number) {
  std::string key(1, kSnapshotRow);
  AppendFixed64(&key, number);
  return key;
}
std::string IndexPrefix(absl::string_view index_key) {
  return absl::StrCat(absl::string_view(&kIndexRow, 1), Digest::Of(index_key).raw());
}
std::string IndexRowKey(absl::string_view index_key, absl::string_view id) {
  return absl::StrCat(IndexPrefix(index_key), id);
}
std::string TemporaryKey(absl::string_view id) {
  return absl::StrCat(absl::string_view(&kTemporaryRow, 1), id);
}
std::string SettingKey(absl::string_view name) {
  return absl::StrCat(absl::string_view(&kSettingRow, 1), name);
}
absl::string_view IdOfKey(absl::string_view key) {
  return key.size() < kIdSize ? absl::string_view() : key.substr(key.size() - kIdSize);
}

}  // namespace kiln::store::internal
