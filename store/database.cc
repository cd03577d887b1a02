#include "store/database.h"

#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/utilities/checkpoint.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "store/base/deadline.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"
#include "store/base/steady_cond_var.h"
#include "store/codec.h"
#include "store/engine.h"

namespace kiln::store {
namespace {

constexpr uint64_t kFormat = 1;
constexpr char kFormatKey[] = "format";
constexpr char kBarrierKey[] = "barrier";
constexpr size_t kProbeBytes = 1 << 20;
constexpr uint8_t kMarkVersion = 1;
constexpr uint8_t kDeltaVersion = 1;
// Sequences given out after the last barrier may be lost with power, and were perhaps told to
// somebody. Starting this much higher never gives one out twice.
constexpr uint64_t kSequenceGap = uint64_t{1} << 32;

rocksdb::Slice ToSlice(absl::string_view s) { return {s.data(), s.size()}; }
absl::string_view ToView(const rocksdb::Slice& s) { return {s.data(), s.size()}; }

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

}  // namespace

void Batch::Put(Family family, absl::string_view key, absl::string_view value) {
  changes_.push_back({Kind::kPut, family, std::string(key), std::string(value)});
}

void Batch::Delete(Family family, absl::string_view key) {
  changes_.push_back({Kind::kDelete, family, std::string(key), std::string()});
}

void Batch::MarkUnsettled(Family family, absl::string_view key) {
  marks_.emplace_back(Mark::kUnsettled, RowName{family, std::string(key)});
}

void Batch::MarkCommitted(Family family, absl::string_view key) {
  marks_.emplace_back(Mark::kCommitted, RowName{family, std::string(key)});
}

struct Cursor::State {
  absl::Status error;              // there is no iterator
  std::shared_ptr<Engine> engine;  // before the iterator: outlives it
  std::string prefix;
  std::string end;  // iterate_upper_bound: a scan does not walk over what follows the prefix
  rocksdb::Slice end_slice;
  std::unique_ptr<rocksdb::Iterator> iterator;
};

Cursor::Cursor(std::unique_ptr<State> state) : state_(std::move(state)) {}
Cursor::~Cursor() = default;
Cursor::Cursor(Cursor&&) noexcept = default;

bool Cursor::Valid() const {
  return state_->iterator != nullptr && state_->iterator->Valid() &&
         absl::StartsWith(ToView(state_->iterator->key()), state_->prefix);
}
void Cursor::Next() { state_->iterator->Next(); }
void Cursor::Seek(absl::string_view key) {
  if (state_->iterator != nullptr) state_->iterator->Seek(ToSlice(key));
}
absl::string_view Cursor::key() const { return ToView(state_->iterator->key()); }
absl::string_view Cursor::value() const { return ToView(state_->iterator->value()); }
absl::Status Cursor::status() const {
  if (state_->iterator == nullptr) return state_->error;
  return FromRocks(state_->iterator->status(), "scan the index");
}

struct Database::Impl {
  DatabaseOptions options;

  mutable Mutex mu;  // never held during I/O
  // Copies are made under mu only. Null while it is opened anew, and after that failed.
  std::shared_ptr<Engine> engine ABSL_GUARDED_BY(mu);
  absl::Status failure ABSL_GUARDED_BY(mu);  // of the last write; OK: writing works
  bool reopening ABSL_GUARDED_BY(mu) = false;
  mutable CondVar reopened;
  uint64_t last_sequence ABSL_GUARDED_BY(mu) = 0;
  std::set<uint64_t> writing ABSL_GUARDED_BY(mu);  // given out, not yet visible
  uint64_t trimmed ABSL_GUARDED_BY(mu) = 0;
  bool mark_is_ours ABSL_GUARDED_BY(mu) = false;  // the stored mark carries our boot id
  bool dirty ABSL_GUARDED_BY(mu) = false;         // written to since the last barrier
  bool recovering ABSL_GUARDED_BY(mu) = false;    // unsettled rows are not dropped yet
  bool stopping ABSL_GUARDED_BY(mu) = false;
  SteadyCondVar stop_changed;

  Mutex reopen_mu;   // one attempt to open anew after a failure at a time
  Mutex barrier_mu;  // one barrier at a time: held during its I/O, which is its purpose
  std::thread ticker;

  absl::StatusOr<std::shared_ptr<Engine>> Use() const {
    MutexLock lock(&mu);
    while (reopening) reopened.Wait(&mu);
    if (engine != nullptr) return engine;
    return failure.ok() ? absl::FailedPreconditionError("the index is closed") : failure;
  }
};

Database::Database(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Database::~Database() {
  if (absl::Status s = Close(); !s.ok()) spdlog::warn("close the index: {}", s.ToString());
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const DatabaseOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  KILN_ASSIGN_OR_RETURN(std::shared_ptr<Engine> engine, Engine::Open(options));
  {
    MutexLock lock(&impl->mu);
    impl->engine = std::move(engine);
  }
  std::unique_ptr<Database> database(new Database(std::move(impl)));
  if (absl::Status s = database->Load(); !s.ok()) {
    // Closed without a barrier: what could not be read must not be declared settled.
    MutexLock lock(&database->impl_->mu);
    database->impl_->engine = nullptr;
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
  {
    MutexLock lock(&impl_->mu);
    if (impl_->engine == nullptr) return impl_->failure;
  }
  const absl::Status status = Barrier();
  std::shared_ptr<Engine> last;
  MutexLock lock(&impl_->mu);
  last.swap(impl_->engine);  // closed when the lock is released
  return status;
}

void Database::RunTicker() {
  while (true) {
    {
      MutexLock lock(&impl_->mu);
      const Deadline next(impl_->options.barrier_interval);
      while (!impl_->stopping && !next.Passed()) impl_->stop_changed.WaitUntil(&impl_->mu, next);
      if (impl_->stopping) return;
    }
    // Nobody else would hear of it; the next one tries again.
    if (absl::Status s = Barrier(); !s.ok()) spdlog::warn("index barrier: {}", s.ToString());
  }
}

absl::StatusOr<std::optional<std::string>> Database::Get(Family family,
                                                         absl::string_view key) const {
  std::string value;
  KILN_ASSIGN_OR_RETURN(const std::shared_ptr<Engine> engine, impl_->Use());
  const rocksdb::Status s =
      engine->db()->Get(rocksdb::ReadOptions(), engine->handle(family), ToSlice(key), &value);
  if (s.IsNotFound()) return std::optional<std::string>();
  KILN_RETURN_IF_ERROR(FromRocks(s, absl::StrCat("read ", NameOf(family))));
  return std::optional<std::string>(std::move(value));
}

absl::StatusOr<bool> Database::Has(Family family, absl::string_view key) const {
  rocksdb::PinnableSlice value;
  KILN_ASSIGN_OR_RETURN(const std::shared_ptr<Engine> engine, impl_->Use());
  const rocksdb::Status s =
      engine->db()->Get(rocksdb::ReadOptions(), engine->handle(family), ToSlice(key), &value);
  if (s.IsNotFound()) return false;
  KILN_RETURN_IF_ERROR(FromRocks(s, absl::StrCat("read ", NameOf(family))));
  return true;
}

Cursor Database::Scan(Family family, absl::string_view prefix) const {
  auto state = std::make_unique<Cursor::State>();
  state->prefix = std::string(prefix);
  state->end = EndOfPrefix(prefix);
  rocksdb::ReadOptions options;
  const size_t filtered = FilteredPrefix(family);
  // The bloom filter may be asked only when the whole scan stays within one filtered prefix.
  options.total_order_seek = filtered == 0 || prefix.size() < filtered;
  if (!state->end.empty()) {
    state->end_slice = ToSlice(state->end);
    options.iterate_upper_bound = &state->end_slice;
  }
  absl::StatusOr<std::shared_ptr<Engine>> engine = impl_->Use();
  state->error = engine.status();
  if (engine.ok()) {
    state->engine = *std::move(engine);
    state->iterator.reset(state->engine->db()->NewIterator(options, state->engine->handle(family)));
    state->iterator->Seek(ToSlice(prefix));
  }
  return Cursor(std::move(state));
}

Cursor Database::Probe(Family family) const {
  auto state = std::make_unique<Cursor::State>();
  rocksdb::ReadOptions options;
  options.prefix_same_as_start = true;
  absl::StatusOr<std::shared_ptr<Engine>> engine = impl_->Use();
  state->error = engine.status();
  if (engine.ok()) {
    state->engine = *std::move(engine);
    state->iterator.reset(state->engine->db()->NewIterator(options, state->engine->handle(family)));
  }
  return Cursor(std::move(state));
}

// Writes and removes a file, to see whether the disk takes as much as opening may write.
absl::Status Database::ProbeDisk() const {
  rocksdb::Env* const env =
      impl_->options.env != nullptr ? impl_->options.env : rocksdb::Env::Default();
  const std::string path = absl::StrCat(impl_->options.path, "/probe.tmp");
  rocksdb::Status s = rocksdb::WriteStringToFile(env, std::string(kProbeBytes, 0), path, true);
  const rocksdb::Status removed = env->DeleteFile(path);
  if (s.ok()) s = removed;
  return FromRocks(s, "write the index");
}

// After a failed write RocksDB takes no more; its own Resume may go on with a log that cannot be
// appended to, or give up for good when it fails once (7.8). Opening anew needs neither trust nor
// luck: the log holds everything that was reported.
absl::Status Database::ReopenAfterFailure() {
  {
    MutexLock lock(&impl_->mu);
    if (impl_->failure.ok()) return absl::OkStatus();
  }
  MutexLock one_at_a_time(&impl_->reopen_mu);
  KILN_RETURN_IF_ERROR(ProbeDisk());
  std::shared_ptr<Engine> old;
  {
    MutexLock lock(&impl_->mu);
    if (impl_->failure.ok()) return absl::OkStatus();  // somebody else was faster
    // Readers are waited for, but not for long: one may be the caller's own cursor.
    const Deadline deadline(absl::Seconds(1));
    while (impl_->engine != nullptr && impl_->engine.use_count() > 1) {
      if (deadline.Passed()) return impl_->failure;
      impl_->reopened.WaitFor(&impl_->mu, absl::Milliseconds(1));
    }
    impl_->reopening = true;
    old.swap(impl_->engine);
  }
  old.reset();
  absl::StatusOr<std::shared_ptr<Engine>> engine = Engine::Open(impl_->options);
  MutexLock lock(&impl_->mu);
  impl_->reopening = false;
  impl_->failure = engine.status();
  if (engine.ok()) impl_->engine = *std::move(engine);
  impl_->reopened.SignalAll();
  return impl_->failure;
}

absl::Status Database::Write(const Batch& batch, Durability durability) {
  absl::Status status = Apply(batch, durability);
  // Afterwards: a barrier meanwhile may not have counted it.
  MutexLock lock(&impl_->mu);
  impl_->dirty = true;
  return status;
}

absl::Status Database::Apply(const Batch& batch, Durability durability) {
  KILN_RETURN_IF_ERROR(ReopenAfterFailure());
  KILN_ASSIGN_OR_RETURN(const std::shared_ptr<Engine> engine, impl_->Use());
  rocksdb::WriteBatch out;
  rocksdb::Status added;
  for (const Batch::Change& change : batch.changes_) {
    auto* const family = engine->handle(change.family);
    switch (change.kind) {
      case Batch::Kind::kPut:
        added = out.Put(family, change.key, change.value);
        break;
      case Batch::Kind::kDelete:
        added = out.Delete(family, change.key);
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
    added = out.Put(engine->handle(Family::kDelta), SequenceKey(sequence), delta);
  }

  rocksdb::WriteOptions options;
  options.sync = durability == Durability::kSynced;
  const rocksdb::Status written = added.ok() ? engine->db()->Write(options, &out) : added;
  absl::Status status = FromRocks(written, "write the index");
  MutexLock lock(&impl_->mu);
  if (sequence != 0) impl_->writing.erase(sequence);
  if (!status.ok()) impl_->failure = status;
  return status;
}

// Deletes the rows after `from` up to `to`, one by one: RocksDB 7.8 aborts when a compaction that
// is left with nothing but range deletions meets a full disk, and they slow down every scan.
absl::Status Database::TrimDeltas(uint64_t from, uint64_t to, Batch* batch) const {
  if (from >= to) return absl::OkStatus();
  const std::string last = SequenceKey(to);
  Cursor cursor = Scan(Family::kDelta, "");
  for (cursor.Seek(SequenceKey(from + 1)); cursor.Valid() && cursor.key() <= last; cursor.Next())
    batch->Delete(Family::kDelta, cursor.key());
  return cursor.status();
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
  status.Update(TrimDeltas(trim_from, mark.trimmed, &batch));
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
  KILN_ASSIGN_OR_RETURN(const std::shared_ptr<Engine> engine, impl_->Use());
  rocksdb::Checkpoint* made = nullptr;
  KILN_RETURN_IF_ERROR(FromRocks(rocksdb::Checkpoint::Create(engine->db(), &made), doing));
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
