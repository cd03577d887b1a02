#include "store/engine.h"

#include <rocksdb/cache.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/listener.h>
#include <rocksdb/slice_transform.h>
#include <rocksdb/table.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/digest.h"
#include "spdlog/spdlog.h"
#include "store/base/status_macros.h"

namespace kiln::store {
namespace {

struct FamilySpec {
  absl::string_view name;
  // Leading bytes by which rows are scanned and which enter the bloom filter; 0 = whole keys only.
  size_t prefix_bytes;
};
// By number of Family. The first is always "default".
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

// Keeps RocksDB from waiting on its own, some seconds at a time, for a full disk to have room
// again: the next write tries at once (Database::ResumeAfterFailure).
class NoWaiting : public rocksdb::EventListener {
 public:
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason /*reason*/, rocksdb::Status /*error*/,
                            bool* auto_recovery) override {
    *auto_recovery = false;
  }
};

rocksdb::DBOptions EngineOptions(rocksdb::Env* env) {
  rocksdb::DBOptions options;
  if (env != nullptr) options.env = env;
  options.create_if_missing = true;
  // After a torn tail: the longest whole prefix of what was written.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  options.max_open_files = 256;
  options.max_file_opening_threads = 2;
  options.max_background_jobs = 2;
  options.db_write_buffer_size = 24 << 20;
  options.max_total_wal_size = 32 << 20;  // bounds the replay at a start
  options.listeners = {std::make_shared<NoWaiting>()};
  options.max_bgerror_resume_count = 0;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.keep_log_file_num = 2;
  options.skip_stats_update_on_db_open = true;  // it reads a block of every table
  return options;
}

}  // namespace

absl::string_view NameOf(Family family) { return kFamilies[static_cast<size_t>(family)].name; }

size_t FilteredPrefix(Family family) { return kFamilies[static_cast<size_t>(family)].prefix_bytes; }

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

// What is there is opened with one call and what is missing made with another: letting Open create
// them rewrites RocksDB's options file once for each, which takes longer than all the rest.
absl::StatusOr<std::shared_ptr<Engine>> Engine::Open(const DatabaseOptions& options) {
  const std::string doing = absl::StrCat("open the index in ", options.path);
  const rocksdb::DBOptions db_options = EngineOptions(options.env);
  std::vector<std::string> names = {std::string(kFamilies[0].name)};
  const rocksdb::Status current = db_options.env->FileExists(options.path + "/CURRENT");
  if (current.ok())
    KILN_RETURN_IF_ERROR(
        FromRocks(rocksdb::DB::ListColumnFamilies(db_options, options.path, &names), doing));

  // Not sharded: a shard would be smaller than a busy table's index block.
  const std::shared_ptr<rocksdb::Cache> cache = rocksdb::NewLRUCache(8 << 20, 0);
  std::array<bool, kFamilyCount> present = {};
  std::vector<rocksdb::ColumnFamilyDescriptor> old, missing;
  std::vector<size_t> numbers;  // of old, then of missing
  for (const std::string& name : names) {
    const auto it = std::find_if(kFamilies.begin(), kFamilies.end(),
                                 [&](const FamilySpec& spec) { return spec.name == name; });
    if (it == kFamilies.end())
      return absl::FailedPreconditionError(absl::StrCat(
          "the index in ", options.path, " was written by a newer kilnd: it has \"", name, "\""));
    const auto number = static_cast<size_t>(it - kFamilies.begin());
    present[number] = true;
    numbers.push_back(number);
    old.emplace_back(name, FamilyOptions(number, cache));
  }
  for (size_t i = 0; i < kFamilyCount; ++i) {
    if (present[i]) continue;
    numbers.push_back(i);
    missing.emplace_back(std::string(kFamilies[i].name), FamilyOptions(i, cache));
  }

  std::vector<rocksdb::ColumnFamilyHandle*> handles, made;
  rocksdb::DB* opened = nullptr;
  KILN_RETURN_IF_ERROR(
      FromRocks(rocksdb::DB::Open(db_options, options.path, old, &handles, &opened), doing));
  std::shared_ptr<Engine> engine(new Engine());
  engine->db_.reset(opened);
  rocksdb::Status created;
  if (!missing.empty()) created = opened->CreateColumnFamilies(missing, &made);
  handles.insert(handles.end(), made.begin(), made.end());
  for (size_t i = 0; i < handles.size(); ++i) engine->families_[numbers[i]] = handles[i];
  KILN_RETURN_IF_ERROR(FromRocks(created, doing));
  return engine;
}

Engine::~Engine() {
  absl::Status status;
  for (rocksdb::ColumnFamilyHandle* handle : families_)
    if (handle != nullptr)
      status.Update(FromRocks(db_->DestroyColumnFamilyHandle(handle), "close a column family"));
  status.Update(FromRocks(db_->Close(), "close the index"));
  // Everything that was reported is in the log already; after a failed write this is expected.
  if (!status.ok()) spdlog::debug("{}", status.ToString());
}

}  // namespace kiln::store
