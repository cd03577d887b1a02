#include "store/database.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/slice_transform.h>
#include <rocksdb/table.h>
#include <rocksdb/utilities/checkpoint.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/digest.h"
#include "spdlog/spdlog.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"
#include "store/codec.h"

namespace kiln::store {
namespace {

struct FamilySpec {
  const char* name;
  // Leading bytes by which rows are scanned and which enter the bloom filter; 0 = whole keys only.
  size_t prefix_bytes;
};
// By number of Family. RocksDB gives column families the ids 0, 1, 2, … in order of creation; the
// first is always "default".
constexpr std::array<FamilySpec, kFamilyCount> kFamilies = {{
    {"default", 0},
    {"keys", 0},
    {"links", Digest::kSize},
    {"backlinks", Digest::kSize},
    {"aliases", 0},
    {"records", Digest::kSize},
    {"results", 0},
    {"refs", 0},
    {"blobs", 0},
    {"checksums", 0},
    {"usage", 0},
    {"history", 0},
    {"statistics", 0},
    {"delta", 0},
}};

constexpr uint64_t kFormat = 1;
constexpr char kFormatKey[] = "format";
constexpr char kBarrierKey[] = "barrier";
constexpr uint8_t kMarkVersion = 1;
constexpr uint8_t kDeltaVersion = 1;
// Sequences given out after the last barrier may be lost with power, and were perhaps told to
// somebody. Starting this much higher never gives one out twice.
constexpr uint64_t kSequenceGap = uint64_t{1} << 32;

rocksdb::Slice ToSlice(absl::string_view s) { return {s.data(), s.size()}; }
absl::string_view ToView(const rocksdb::Slice& s) { return {s.data(), s.size()}; }

size_t Number(Family family) { return static_cast<size_t>(family); }

std::string SequenceKey(uint64_t sequence) {
  std::string key;
  AppendFixed64(&key, sequence);
  return key;
}

// The smallest key greater than every key that starts with `prefix`; empty when there is none.
std::string EndOfPrefix(absl::string_view prefix) {
  std::string end(prefix);
  while (!end.empty() && static_cast<uint8_t>(end.back()) == 0xff) end.pop_back();
  if (!end.empty()) end.back() = static_cast<char>(static_cast<uint8_t>(end.back()) + 1);
  return end;
}

// What Barrier leaves in the meta family.
struct BarrierMark {
  std::string boot_id;
  uint64_t sequence = 0;  // everything up to here survives
  uint64_t trimmed = 0;   // delta rows up to here are gone
};

std::string Encode(const BarrierMark& mark) {
  std::string out(1, static_cast<char>(kMarkVersion));
  AppendText(&out, mark.boot_id);
  AppendFixed64(&out, mark.sequence);
  AppendFixed64(&out, mark.trimmed);
  return out;
}

absl::StatusOr<BarrierMark> DecodeMark(absl::string_view bytes) {
  Decoder in(bytes);
  BarrierMark mark;
  const uint8_t version = in.Byte();
  mark.boot_id = std::string(in.Text());
  mark.sequence = in.Fixed64();
  mark.trimmed = in.Fixed64();
  if (version != kMarkVersion || !in.Done())
    return absl::DataLossError("the index's barrier mark is damaged");
  return mark;
}

constexpr uint8_t kUnsettledMark = 1;
constexpr uint8_t kCommittedMark = 2;

absl::StatusOr<std::vector<std::pair<uint8_t, RowName>>> DecodeDelta(absl::string_view bytes) {
  Decoder in(bytes);
  bool known = in.Byte() == kDeltaVersion;
  std::vector<std::pair<uint8_t, RowName>> marks;
  while (known && in.ok() && !in.Done()) {
    const uint8_t mark = in.Byte();
    const uint8_t family = in.Byte();
    known = family < kFamilyCount;
    marks.push_back({mark, {static_cast<Family>(family), std::string(in.Text())}});
  }
  if (!known || !in.ok()) return absl::DataLossError("a delta row of the index is damaged");
  return marks;
}

rocksdb::ColumnFamilyOptions FamilyOptions(size_t number,
                                           const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = cache;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.format_version = 5;
  rocksdb::ColumnFamilyOptions options;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  options.compression = rocksdb::kLZ4Compression;
  options.write_buffer_size = 8 << 20;
  options.level_compaction_dynamic_level_bytes = true;
  if (const size_t bytes = kFamilies[number].prefix_bytes; bytes > 0)
    options.prefix_extractor.reset(rocksdb::NewFixedPrefixTransform(bytes));
  return options;
}

rocksdb::DBOptions EngineOptions(rocksdb::Env* env) {
  rocksdb::DBOptions options;
  if (env != nullptr) options.env = env;
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  // After a torn tail: the longest whole prefix of what was written.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  options.max_open_files = 256;
  options.max_background_jobs = 2;
  options.db_write_buffer_size = 24 << 20;
  options.max_total_wal_size = 32 << 20;  // bounds the replay at a start
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.keep_log_file_num = 2;
  options.skip_stats_update_on_db_open = true;  // it reads a block of every table
  return options;
}

}  // namespace

absl::Status FromRocks(const rocksdb::Status& status, absl::string_view doing) {
  if (status.ok()) return absl::OkStatus();
  const std::string message = absl::StrCat(doing, ": ", status.ToString());
  if (status.IsNotFound()) return absl::NotFoundError(message);
  if (status.IsCorruption()) return absl::DataLossError(message);
  // A full disk reaches us as an errno text too, where RocksDB only passes on what the system said.
  if (status.IsNoSpace() || absl::StrContains(message, "No space left"))
    return absl::ResourceExhaustedError(message);
  if (status.IsIOError()) return absl::UnavailableError(message);
  if (status.IsTimedOut()) return absl::DeadlineExceededError(message);
  if (status.IsBusy() || status.IsTryAgain() || status.IsAborted())
    return absl::AbortedError(message);
  if (status.IsShutdownInProgress()) return absl::CancelledError(message);
  if (status.IsNotSupported()) return absl::UnimplementedError(message);
  return absl::InternalError(message);
}

void Batch::Put(Family family, absl::string_view key, absl::string_view value) {
  changes_.push_back({Kind::kPut, family, std::string(key), std::string(value)});
}

void Batch::Delete(Family family, absl::string_view key) {
  changes_.push_back({Kind::kDelete, family, std::string(key), std::string()});
}

void Batch::DeleteRange(Family family, absl::string_view begin, absl::string_view end) {
  changes_.push_back({Kind::kDeleteRange, family, std::string(begin), std::string(end)});
}

void Batch::MarkUnsettled(Family family, absl::string_view key) {
  marks_.emplace_back(Mark::kUnsettled, RowName{family, std::string(key)});
}

void Batch::MarkCommitted(Family family, absl::string_view key) {
  marks_.emplace_back(Mark::kCommitted, RowName{family, std::string(key)});
}

struct Cursor::State {
  std::string prefix;
  std::string end;  // iterate_upper_bound: a scan does not walk over what follows the prefix
  rocksdb::Slice end_slice;
  std::unique_ptr<rocksdb::Iterator> iterator;
};

Cursor::Cursor(std::unique_ptr<State> state) : state_(std::move(state)) {}
Cursor::~Cursor() = default;
Cursor::Cursor(Cursor&&) noexcept = default;

bool Cursor::Valid() const {
  return state_->iterator->Valid() &&
         absl::StartsWith(ToView(state_->iterator->key()), state_->prefix);
}
void Cursor::Next() { state_->iterator->Next(); }
void Cursor::Seek(absl::string_view key) { state_->iterator->Seek(ToSlice(key)); }
absl::string_view Cursor::key() const { return ToView(state_->iterator->key()); }
absl::string_view Cursor::value() const { return ToView(state_->iterator->value()); }
absl::Status Cursor::status() const {
  return FromRocks(state_->iterator->status(), "scan the index");
}

struct Database::Impl {
  DatabaseOptions options;
  std::unique_ptr<rocksdb::DB> db;
  std::array<rocksdb::ColumnFamilyHandle*, kFamilyCount> families = {};

  mutable Mutex mu;  // never held during I/O
  uint64_t last_sequence ABSL_GUARDED_BY(mu) = 0;
  std::set<uint64_t> writing ABSL_GUARDED_BY(mu);  // given out, not yet visible
  uint64_t trimmed ABSL_GUARDED_BY(mu) = 0;
  bool mark_is_ours ABSL_GUARDED_BY(mu) = false;  // the stored mark carries our boot id
  bool failed ABSL_GUARDED_BY(mu) = false;        // a write failed: resume before the next
  bool dirty ABSL_GUARDED_BY(mu) = false;         // written to since the last barrier
  bool recovering ABSL_GUARDED_BY(mu) = false;    // unsettled rows are not dropped yet
  bool stopping ABSL_GUARDED_BY(mu) = false;
  CondVar stop_changed;

  Mutex barrier_mu;  // one barrier at a time: held during its I/O, which is its purpose
  std::thread ticker;

  rocksdb::ColumnFamilyHandle* handle(Family family) const { return families[Number(family)]; }
};

Database::Database(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Database::~Database() {
  if (absl::Status s = Close(); !s.ok()) spdlog::warn("close the index: {}", s.ToString());
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const DatabaseOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  // Not sharded: a shard would be smaller than a busy table's index block.
  const std::shared_ptr<rocksdb::Cache> cache = rocksdb::NewLRUCache(8 << 20, 0);
  std::vector<rocksdb::ColumnFamilyDescriptor> descriptors;
  for (size_t i = 0; i < kFamilyCount; ++i)
    descriptors.emplace_back(kFamilies[i].name, FamilyOptions(i, cache));
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* db = nullptr;
  const rocksdb::Status opened =
      rocksdb::DB::Open(EngineOptions(options.env), options.path, descriptors, &handles, &db);
  // A family that this version does not know can only come from a later one.
  if (opened.IsInvalidArgument() && absl::StrContains(opened.ToString(), "olumn famil"))
    return absl::FailedPreconditionError(absl::StrCat(
        "the index in ", options.path, " was written by a newer kilnd: ", opened.ToString()));
  KILN_RETURN_IF_ERROR(FromRocks(opened, absl::StrCat("open the index in ", options.path)));
  impl->db.reset(db);
  std::copy(handles.begin(), handles.end(), impl->families.begin());

  std::unique_ptr<Database> database(new Database(std::move(impl)));
  if (absl::Status s = database->Load(); !s.ok()) {
    // No barrier: what could not be read must not be declared settled.
    MutexLock lock(&database->impl_->barrier_mu);
    for (auto* handle : handles) database->impl_->db->DestroyColumnFamilyHandle(handle);
    database->impl_->db.reset();
    return s;
  }
  if (options.barrier_interval > absl::ZeroDuration())
    database->impl_->ticker = std::thread([d = database.get()] { d->RunTicker(); });
  return database;
}

absl::Status Database::PrepareFormat() {
  KILN_ASSIGN_OR_RETURN(const std::optional<std::string> stored, Get(Family::kMeta, kFormatKey));
  if (!stored.has_value()) {
    Batch batch;
    batch.Put(Family::kMeta, kFormatKey, SequenceKey(kFormat));
    return Write(batch);
  }
  Decoder in(*stored);
  const uint64_t format = in.Fixed64();
  if (!in.Done()) return absl::DataLossError("the index's format number is damaged");
  if (format != kFormat)
    return absl::FailedPreconditionError(
        absl::StrCat("the index in ", impl_->options.path, " has format ", format,
                     " and this kilnd knows format ", kFormat,
                     "; use the kilnd that wrote it or move the folder aside"));
  return absl::OkStatus();
}

absl::Status Database::Load() {
  KILN_RETURN_IF_ERROR(PrepareFormat());
  KILN_ASSIGN_OR_RETURN(const std::optional<std::string> stored, Get(Family::kMeta, kBarrierKey));
  BarrierMark mark;
  if (stored.has_value()) {
    KILN_ASSIGN_OR_RETURN(mark, DecodeMark(*stored));
  }
  const bool trusted = mark.boot_id == impl_->options.boot_id;
  uint64_t last = mark.sequence;
  Cursor cursor = Scan(Family::kDelta, "");
  for (cursor.Seek(SequenceKey(mark.sequence + 1)); cursor.Valid(); cursor.Next()) {
    Decoder key(cursor.key());
    last = key.Fixed64();
    if (trusted) continue;
    KILN_ASSIGN_OR_RETURN(auto marks, DecodeDelta(cursor.value()));
    for (auto& [kind, row] : marks)
      if (kind == kUnsettledMark) unsettled_.push_back(std::move(row));
  }
  KILN_RETURN_IF_ERROR(cursor.status());
  MutexLock lock(&impl_->mu);
  impl_->last_sequence = last == 0 ? 0 : last + kSequenceGap;
  impl_->trimmed = mark.trimmed;
  impl_->mark_is_ours = trusted;
  impl_->recovering = !unsettled_.empty();
  return absl::OkStatus();
}

absl::Status Database::RecoveryDone() {
  {
    MutexLock lock(&impl_->mu);
    impl_->recovering = false;
  }
  return Barrier();
}

absl::Status Database::Close() {
  {
    MutexLock lock(&impl_->mu);
    impl_->stopping = true;
    impl_->stop_changed.SignalAll();
  }
  if (impl_->ticker.joinable()) impl_->ticker.join();
  if (impl_->db == nullptr) return absl::OkStatus();
  absl::Status status = Barrier();
  for (auto*& handle : impl_->families)
    status.Update(FromRocks(impl_->db->DestroyColumnFamilyHandle(std::exchange(handle, nullptr)),
                            "close a column family"));
  status.Update(FromRocks(impl_->db->Close(), "close the index"));
  impl_->db.reset();
  return status;
}

void Database::RunTicker() {
  while (true) {
    {
      MutexLock lock(&impl_->mu);
      const absl::Time next = absl::Now() + impl_->options.barrier_interval;
      while (!impl_->stopping && absl::Now() < next)
        impl_->stop_changed.WaitFor(&impl_->mu, next - absl::Now());
      if (impl_->stopping) return;
    }
    // Nobody else would hear of it; the next one tries again.
    if (absl::Status s = Barrier(); !s.ok()) spdlog::warn("index barrier: {}", s.ToString());
  }
}

absl::StatusOr<std::optional<std::string>> Database::Get(Family family,
                                                         absl::string_view key) const {
  std::string value;
  const rocksdb::Status s =
      impl_->db->Get(rocksdb::ReadOptions(), impl_->handle(family), ToSlice(key), &value);
  if (s.IsNotFound()) return std::optional<std::string>();
  KILN_RETURN_IF_ERROR(FromRocks(s, absl::StrCat("read ", kFamilies[Number(family)].name)));
  return std::optional<std::string>(std::move(value));
}

absl::StatusOr<bool> Database::Has(Family family, absl::string_view key) const {
  rocksdb::PinnableSlice value;
  const rocksdb::Status s =
      impl_->db->Get(rocksdb::ReadOptions(), impl_->handle(family), ToSlice(key), &value);
  if (s.IsNotFound()) return false;
  KILN_RETURN_IF_ERROR(FromRocks(s, absl::StrCat("read ", kFamilies[Number(family)].name)));
  return true;
}

Cursor Database::Scan(Family family, absl::string_view prefix) const {
  auto state = std::make_unique<Cursor::State>();
  state->prefix = std::string(prefix);
  state->end = EndOfPrefix(prefix);
  rocksdb::ReadOptions options;
  const size_t filtered = kFamilies[Number(family)].prefix_bytes;
  // The bloom filter may be asked only when the whole scan stays within one filtered prefix.
  options.total_order_seek = filtered == 0 || prefix.size() < filtered;
  if (!state->end.empty()) {
    state->end_slice = ToSlice(state->end);
    options.iterate_upper_bound = &state->end_slice;
  }
  state->iterator.reset(impl_->db->NewIterator(options, impl_->handle(family)));
  state->iterator->Seek(ToSlice(prefix));
  return Cursor(std::move(state));
}

Cursor Database::Probe(Family family) const {
  auto state = std::make_unique<Cursor::State>();
  rocksdb::ReadOptions options;
  options.prefix_same_as_start = true;
  state->iterator.reset(impl_->db->NewIterator(options, impl_->handle(family)));
  return Cursor(std::move(state));
}

absl::Status Database::ResumeAfterFailure() {
  {
    MutexLock lock(&impl_->mu);
    if (!impl_->failed) return absl::OkStatus();
  }
  // After a failed log write RocksDB takes no more writes until the cause is gone and a new log is
  // begun.
  KILN_RETURN_IF_ERROR(FromRocks(impl_->db->Resume(), "resume writing the index"));
  MutexLock lock(&impl_->mu);
  impl_->failed = false;
  return absl::OkStatus();
}

absl::Status Database::Write(const Batch& batch, Durability durability) {
  {
    MutexLock lock(&impl_->mu);
    impl_->dirty = true;
  }
  return Apply(batch, durability);
}

absl::Status Database::Apply(const Batch& batch, Durability durability) {
  KILN_RETURN_IF_ERROR(ResumeAfterFailure());
  rocksdb::WriteBatch out;
  rocksdb::Status added;
  for (const Batch::Change& change : batch.changes_) {
    auto* const family = impl_->handle(change.family);
    switch (change.kind) {
      case Batch::Kind::kPut:
        added = out.Put(family, change.key, change.value);
        break;
      case Batch::Kind::kDelete:
        added = out.Delete(family, change.key);
        break;
      case Batch::Kind::kDeleteRange:
        added = out.DeleteRange(family, change.key, change.value);
        break;
    }
    KILN_RETURN_IF_ERROR(FromRocks(added, "collect a change of the index"));
  }

  uint64_t sequence = 0;
  if (!batch.marks_.empty()) {
    MutexLock lock(&impl_->mu);
    sequence = ++impl_->last_sequence;
    impl_->writing.insert(sequence);
  }
  if (sequence != 0) {
    std::string delta(1, static_cast<char>(kDeltaVersion));
    for (const auto& [mark, row] : batch.marks_) {
      delta.push_back(static_cast<char>(mark));
      delta.push_back(static_cast<char>(row.family));
      AppendText(&delta, row.key);
    }
    added = out.Put(impl_->handle(Family::kDelta), SequenceKey(sequence), delta);
  }

  rocksdb::WriteOptions options;
  options.sync = durability == Durability::kSynced;
  const rocksdb::Status written = added.ok() ? impl_->db->Write(options, &out) : added;
  MutexLock lock(&impl_->mu);
  if (sequence != 0) impl_->writing.erase(sequence);
  if (!written.ok()) impl_->failed = true;
  return FromRocks(written, "write the index");
}

absl::Status Database::Barrier() {
  MutexLock one_at_a_time(&impl_->barrier_mu);
  BarrierMark mark;
  uint64_t trim_from = 0;
  {
    MutexLock lock(&impl_->mu);
    // A write that got its sequence but is not in the log yet has its files already, so it may be
    // counted: files come before the index.
    mark.sequence = impl_->last_sequence;
    mark.boot_id = impl_->options.boot_id;
    if (impl_->recovering || (!impl_->dirty && impl_->mark_is_ours)) return absl::OkStatus();
    impl_->dirty = false;
    trim_from = impl_->trimmed;
    mark.trimmed = trim_from;
    if (!impl_->options.retain_deltas)
      mark.trimmed = impl_->writing.empty() ? mark.sequence : *impl_->writing.begin() - 1;
  }
  absl::Status status;
  if (impl_->options.sync_files)
    status = Annotate(impl_->options.sync_files(), "sync the store's files");
  Batch batch;
  if (mark.trimmed > trim_from)
    batch.DeleteRange(Family::kDelta, SequenceKey(trim_from), SequenceKey(mark.trimmed + 1));
  batch.Put(Family::kMeta, kBarrierKey, Encode(mark));
  if (status.ok()) status = Apply(batch, Durability::kSynced);
  MutexLock lock(&impl_->mu);
  if (!status.ok()) {
    impl_->dirty = true;
    return status;
  }
  impl_->trimmed = mark.trimmed;
  impl_->mark_is_ours = true;
  return absl::OkStatus();
}

uint64_t Database::last_sequence() const {
  MutexLock lock(&impl_->mu);
  return impl_->last_sequence;
}

absl::StatusOr<std::vector<Delta>> Database::DeltasSince(uint64_t sequence, size_t limit) const {
  uint64_t stable = 0;
  {
    MutexLock lock(&impl_->mu);
    if (sequence < impl_->trimmed)
      return absl::OutOfRangeError(absl::StrCat("writes up to ", impl_->trimmed,
                                                " are no longer listed, asked since ", sequence,
                                                "; begin with a checkpoint"));
    // Beyond a write that is still under way nothing is listed, or it would be skipped for good.
    stable = impl_->writing.empty() ? impl_->last_sequence : *impl_->writing.begin() - 1;
  }
  std::vector<Delta> out;
  Cursor cursor = Scan(Family::kDelta, "");
  for (cursor.Seek(SequenceKey(sequence + 1)); cursor.Valid() && out.size() < limit;
       cursor.Next()) {
    Decoder key(cursor.key());
    Delta delta;
    delta.sequence = key.Fixed64();
    if (!key.Done()) return absl::DataLossError("a delta row of the index has an ill-formed key");
    if (delta.sequence > stable) break;
    KILN_ASSIGN_OR_RETURN(auto marks, DecodeDelta(cursor.value()));
    for (auto& [kind, row] : marks)
      if (kind == kCommittedMark) delta.rows.push_back(std::move(row));
    if (!delta.rows.empty()) out.push_back(std::move(delta));
  }
  KILN_RETURN_IF_ERROR(cursor.status());
  return out;
}

absl::Status Database::Checkpoint(const std::string& path, uint64_t* sequence) {
  {
    MutexLock lock(&impl_->mu);
    *sequence = impl_->writing.empty() ? impl_->last_sequence : *impl_->writing.begin() - 1;
  }
  const std::string doing = absl::StrCat("checkpoint the index to ", path);
  rocksdb::Checkpoint* made = nullptr;
  KILN_RETURN_IF_ERROR(FromRocks(rocksdb::Checkpoint::Create(impl_->db.get(), &made), doing));
  const std::unique_ptr<rocksdb::Checkpoint> checkpoint(made);
  return FromRocks(checkpoint->CreateCheckpoint(path), doing);
}

int64_t Database::DiskBytes() const {
  int64_t total = 0;
  std::error_code ec;
  for (std::filesystem::directory_iterator it(impl_->options.path, ec), end; !ec && it != end;
       it.increment(ec)) {
    std::error_code gone;  // a compaction may remove the file meanwhile
    const auto size = it->file_size(gone);
    if (!gone) total += static_cast<int64_t>(size);
  }
  return total;
}

}  // namespace kiln::store
