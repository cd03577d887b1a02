#include "store/execution_statistics.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "proto/digest.h"
#include "spdlog/spdlog.h"
#include "store/codec.h"

namespace kiln::store {
namespace {

constexpr uint8_t kVersion = 1;
constexpr size_t kUnwrittenRows = 64;     // then they are written
constexpr size_t kRememberedRows = 8192;  // then memory starts over

struct Place {
  uint32_t set;
  uint64_t tag;
};

Place PlaceOf(absl::string_view op_digest) {
  const Digest digest = Digest::Of(op_digest);
  Decoder in(digest.raw());
  const uint32_t set = in.Fixed32() % ExecutionStatistics::kSets;
  return {set, in.Fixed64()};
}

std::string RowKey(uint32_t set) {
  std::string key;
  AppendFixed32(&key, set);
  return key;
}

}  // namespace

ExecutionStatistics::~ExecutionStatistics() {
  if (absl::Status s = Flush(); !s.ok())
    spdlog::warn("write execution statistics: {}", s.ToString());
}

ExecutionStatistics::Row ExecutionStatistics::Decode(absl::string_view value) {
  Decoder in(value);
  Row row;
  if (in.Byte() != kVersion) return row;
  while (!in.Done() && row.size() < kWays) {
    Entry entry;
    entry.tag = in.Fixed64();
    entry.mean_nanos = in.Ordered64();
    entry.count = in.Fixed32();
    if (!in.ok()) return Row();
    row.push_back(entry);
  }
  return row;
}

ExecutionStatistics::Row ExecutionStatistics::Load(uint32_t set) {
  {
    MutexLock lock(&mu_);
    const auto it = rows_.find(set);
    if (it != rows_.end()) return it->second;
  }
  const absl::StatusOr<std::optional<std::string>> value =
      database_->Get(Family::kStatistics, RowKey(set));
  Row row = value.ok() && value->has_value() ? Decode(**value) : Row();
  MutexLock lock(&mu_);
  if (rows_.size() >= kRememberedRows) {
    for (auto it = rows_.begin(); it != rows_.end();) {
      const auto current = it++;
      if (!unwritten_.contains(current->first)) rows_.erase(current);
    }
  }
  return rows_.try_emplace(set, std::move(row)).first->second;
}

absl::Duration ExecutionStatistics::Mean(absl::string_view op_digest) {
  const Place place = PlaceOf(op_digest);
  for (const Entry& entry : Load(place.set))
    if (entry.tag == place.tag) return absl::Nanoseconds(entry.mean_nanos);
  return absl::ZeroDuration();
}

void ExecutionStatistics::Record(absl::string_view op_digest, absl::Duration took) {
  const Place place = PlaceOf(op_digest);
  const int64_t nanos = std::max<int64_t>(0, absl::ToInt64Nanoseconds(took));
  Load(place.set);
  bool full = false;
  {
    MutexLock lock(&mu_);
    Row& row = rows_[place.set];
    auto it = std::find_if(row.begin(), row.end(),
                           [&](const Entry& entry) { return entry.tag == place.tag; });
    if (it == row.end()) {
      if (row.size() == kWays) row.pop_back();
      row.insert(row.begin(), {place.tag, nanos, 0});
    } else {
      std::rotate(row.begin(), it, it + 1);
      row.front().mean_nanos += (nanos - row.front().mean_nanos) / 4;
    }
    ++row.front().count;
    unwritten_.insert(place.set);
    full = unwritten_.size() >= kUnwrittenRows;
  }
  if (!full) return;
  if (absl::Status s = Flush(); !s.ok())
    spdlog::warn("write execution statistics: {}", s.ToString());
}

absl::Status ExecutionStatistics::Flush() {
  Batch batch;
  absl::flat_hash_set<uint32_t> sets;
  {
    MutexLock lock(&mu_);
    sets.swap(unwritten_);
    for (const uint32_t set : sets) {
      std::string value(1, static_cast<char>(kVersion));
      for (const Entry& entry : rows_[set]) {
        AppendFixed64(&value, entry.tag);
        AppendOrdered64(&value, entry.mean_nanos);
        AppendFixed32(&value, entry.count);
      }
      batch.Put(Family::kStatistics, RowKey(set), value);
    }
  }
  if (batch.empty()) return absl::OkStatus();
  absl::Status status = database_->Write(batch);
  if (!status.ok()) {
    MutexLock lock(&mu_);
    unwritten_.insert(sets.begin(), sets.end());
  }
  return status;
}

}  // namespace kiln::store
