// Start, sweep and numbers.
#include <dirent.h>
#include <sys/stat.h>

#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "store/base/status_macros.h"
#include "store/ref/node.h"

namespace kiln::store {

using internal::IdOfKey;
using internal::SettingKey;
using internal::SnapshotKey;

namespace {

constexpr uint64_t kNumbersAtOnce = 1024;
constexpr size_t kMaxCachedDigests = 1 << 20;
// Layers fetched and unpacked at the same time, over all builds. They wait for network and disk as
// much as for a processor.
constexpr size_t kUnpackThreads = 6;

DriverKind KindOf(absl::string_view name) {
  if (name == "overlay") return DriverKind::kOverlay;
  return name == "native" ? DriverKind::kNative : DriverKind::kAuto;
}

}  // namespace

LocalRefStore::LocalRefStore(const LocalRefStoreOptions& options,
                             std::unique_ptr<SnapshotDriver> driver)
    : root_(*options.root),
      database_(*options.database),
      driver_(std::move(driver)),
      max_layers_(options.max_layers == 0 ? driver_->max_layers() : options.max_layers),
      mounts_dir_(options.root->tmp_dir() + "/mounts"),
      on_removed_(options.on_removed),
      checksums_(kMaxCachedDigests, options.database),
      fill_pool_("layer-unpack", kUnpackThreads),
      reaper_("ref-reaper", 1) {}

LocalRefStore::~LocalRefStore() {
  MutexLock lock(&mu_);
  stopping_ = true;
  hurry_.SignalAll();
}

absl::StatusOr<std::unique_ptr<LocalRefStore>> LocalRefStore::Open(
    const LocalRefStoreOptions& options) {
  const Root& root = *options.root;
  // A killed daemon's mounts keep its snapshots busy, and a sweep would reach through them.
  KILN_RETURN_IF_ERROR(DetachMountsBelow(root.path() + "/tmp"));
  KILN_ASSIGN_OR_RETURN(const auto made_with,
                        options.database->Get(Family::kRefs, SettingKey("driver")));
  const DriverKind before = made_with.has_value() ? KindOf(*made_with) : DriverKind::kAuto;
  if (before != DriverKind::kAuto && options.driver != DriverKind::kAuto &&
      before != options.driver)
    return absl::FailedPreconditionError(
        absl::StrCat("folder ", root.path(), " holds snapshots of the ", *made_with,
                     " driver; choose that one or another folder"));
  KILN_ASSIGN_OR_RETURN(std::unique_ptr<SnapshotDriver> driver,
                        OpenSnapshotDriver(before == DriverKind::kAuto ? options.driver : before,
                                           root.snapshots_dir(), root.tmp_dir()));
  std::unique_ptr<LocalRefStore> store(new LocalRefStore(options, std::move(driver)));
  if (!made_with.has_value()) {
    Batch batch;
    batch.Put(Family::kRefs, SettingKey("driver"), store->driver_->name());
    KILN_RETURN_IF_ERROR(options.database->Write(batch));
  }
  KILN_RETURN_IF_ERROR(store->Start());
  return store;
}

absl::Status LocalRefStore::Start() {
  if (::mkdir(mounts_dir_.c_str(), 0711) != 0)
    return ErrnoStatus(errno, absl::StrCat("create ", mounts_dir_));
  KILN_RETURN_IF_ERROR(LoadNumbers());
  // After a power loss some records may have outlived their files.
  std::vector<std::string> unsettled;
  for (const RowName& row : database_.unsettled()) {
    if (row.family == Family::kRefs && !row.key.empty() && row.key[0] == internal::kRecordRow)
      unsettled.emplace_back(IdOfKey(row.key));
  }
  DropBroken(std::move(unsettled));
  std::vector<std::string> temporaries;
  Cursor cursor = database_.Scan(Family::kRefs, absl::string_view(&internal::kTemporaryRow, 1));
  for (; cursor.Valid(); cursor.Next()) temporaries.emplace_back(IdOfKey(cursor.key()));
  KILN_RETURN_IF_ERROR(cursor.status());
  uint64_t before;
  {
    MutexLock lock(&numbers_mu_);
    before = next_number_;
  }
  reaper_.Post([this, before, temporaries = std::move(temporaries)]() mutable {
    RemoveUnwanted(std::move(temporaries));
    SweepSnapshots(before);
  });
  return absl::OkStatus();
}

absl::Status LocalRefStore::LoadNumbers() {
  KILN_ASSIGN_OR_RETURN(const auto next, database_.Get(Family::kRefs, SettingKey("next")));
  uint64_t number = 1;
  if (next.has_value() && !absl::SimpleAtoi(*next, &number))
    return absl::DataLossError(absl::StrCat("the next snapshot number is damaged: ", *next));
  MutexLock lock(&numbers_mu_);
  next_number_ = number_limit_ = number;
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> LocalRefStore::NextNumber() {
  MutexLock lock(&numbers_mu_);
  if (next_number_ == number_limit_) {
    Batch batch;
    batch.Put(Family::kRefs, SettingKey("next"), absl::StrCat(number_limit_ + kNumbersAtOnce));
    KILN_RETURN_IF_ERROR(database_.Write(batch));
    number_limit_ += kNumbersAtOnce;
  }
  return next_number_++;
}

absl::StatusOr<uint64_t> LocalRefStore::CreateSnapshot(const Layers& parent) {
  for (;;) {
    KILN_ASSIGN_OR_RETURN(const uint64_t number, NextNumber());
    const absl::Status created = driver_->Create(number, parent);
    if (created.ok()) return number;
    // A power loss took the newest limit of numbers but not the folders: pass over them.
    if (!absl::IsAlreadyExists(created)) return created;
  }
}

// Removes folders below `before` that no record names: what a kill left half made or half removed.
// Newer ones belong to this run. O(folders), on the reaper.
void LocalRefStore::SweepSnapshots(uint64_t before) {
  DIR* dir = ::opendir(root_.snapshots_dir().c_str());
  if (dir == nullptr) {
    spdlog::warn("{}", ErrnoStatus(errno, absl::StrCat("list ", root_.snapshots_dir())).ToString());
    return;
  }
  std::vector<std::string> doomed;
  Batch rows;
  while (const struct dirent* entry = ::readdir(dir)) {
    if (stopping_) break;
    const absl::string_view name(entry->d_name);
    uint64_t number = 0;
    if (absl::EndsWith(name, ".removed")) {
      doomed.emplace_back(name);
    } else if (absl::SimpleAtoi(name, &number) && number < before) {
      absl::StatusOr<bool> named = database_.Has(Family::kRefs, SnapshotKey(number));
      if (!named.ok() || *named) continue;
      doomed.emplace_back(name);
      ChecksumStore::EraseRow(driver_->FilesDir(number), &rows);
    }
  }
  ::closedir(dir);
  if (absl::Status status = rows.empty() ? absl::OkStatus() : database_.Write(rows); !status.ok())
    spdlog::warn("sweep snapshots: {}", status.ToString());
  for (const std::string& name : doomed) {
    if (stopping_) return;
    if (absl::Status status = RemoveTree(absl::StrCat(root_.snapshots_dir(), "/", name));
        !status.ok())
      spdlog::warn("sweep snapshots: {}", status.ToString());
  }
}

void LocalRefStore::Drain() {
  Mutex mu;
  CondVar changed;
  bool done = false;
  {
    MutexLock lock(&mu_);
    ++hurries_;
    hurry_.SignalAll();
  }
  reaper_.Post([&] {
    MutexLock lock(&mu);
    done = true;
    changed.Signal();
  });
  {
    MutexLock lock(&mu);
    while (!done) changed.Wait(&mu);
  }
  MutexLock lock(&mu_);
  --hurries_;
}

}  // namespace kiln::store
