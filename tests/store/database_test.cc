#include "store/database.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/store/temp_dir.h"

namespace kiln::store {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;

class DatabaseTest : public testing::Test {
 protected:
  DatabaseOptions Options(const std::string& boot_id = "boot-1") {
    DatabaseOptions options;
    options.path = dir_.path() + "/index";
    options.boot_id = boot_id;
    options.sync_files = [this] {
      ++syncs_;
      return sync_status_;
    };
    return options;
  }

  static std::unique_ptr<Database> MustOpen(const DatabaseOptions& options) {
    auto db = Database::Open(options);
    EXPECT_TRUE(db.ok()) << db.status();
    return db.ok() ? *std::move(db) : nullptr;
  }

  static void PutRef(Database& db, const std::string& key) {
    Batch batch;
    batch.Put(Family::kRefs, key, "v");
    batch.MarkUnsettled(Family::kRefs, key);
    const absl::Status s = db.Write(batch);
    ASSERT_TRUE(s.ok()) << s;
  }

  // What a power loss would find if every byte so far had reached the disk: the running database's
  // folder, copied.
  DatabaseOptions CopyOf(const DatabaseOptions& options, const std::string& name,
                         const std::string& boot_id) {
    DatabaseOptions copy = options;
    copy.path = dir_.path() + "/" + name;
    copy.boot_id = boot_id;
    fs::copy(options.path, copy.path, fs::copy_options::recursive);
    return copy;
  }

  static std::vector<std::string> Keys(Cursor cursor) {
    std::vector<std::string> keys;
    for (; cursor.Valid(); cursor.Next()) keys.emplace_back(cursor.key());
    EXPECT_TRUE(cursor.status().ok());
    return keys;
  }

  static std::vector<std::string> Unsettled(const Database& db) {
    std::vector<std::string> keys;
    for (const RowName& row : db.unsettled()) {
      EXPECT_EQ(row.family, Family::kRefs);
      keys.push_back(row.key);
    }
    return keys;
  }

  TempDir dir_;
  std::atomic<int> syncs_{0};
  absl::Status sync_status_;
};

TEST_F(DatabaseTest, FamiliesAreApartAndBatchesAreWhole) {
  auto db = MustOpen(Options());
  Batch batch;
  batch.Put(Family::kRefs, "k", "ref");
  batch.Put(Family::kBlobs, "k", std::string("b\0b", 3));
  batch.Put(Family::kUsage, "gone", "x");
  batch.Delete(Family::kUsage, "gone");
  ASSERT_TRUE(db->Write(batch).ok());
  EXPECT_EQ(*db->Get(Family::kRefs, "k"), "ref");
  EXPECT_EQ(*db->Get(Family::kBlobs, "k"), std::string("b\0b", 3));
  EXPECT_EQ(*db->Get(Family::kUsage, "gone"), std::nullopt);
  EXPECT_FALSE(*db->Has(Family::kHistory, "k"));
  EXPECT_TRUE(*db->Has(Family::kBlobs, "k"));
  EXPECT_GT(db->DiskBytes(), 0);
}

TEST_F(DatabaseTest, ScanKeepsToItsPrefix) {
  auto db = MustOpen(Options());
  Batch batch;
  for (const char* key : {"a", "b", "b\x01", "b\xff", "b\xff\xff", "c", "\xff", "\xff\xff"})
    batch.Put(Family::kRefs, key, "");
  // Links are filtered by their first 32 bytes; shorter and longer prefixes must work alike.
  const std::string x(32, 'x'), y(32, 'y');
  for (const std::string& key : {x + "1", x + "2", y + "1"}) batch.Put(Family::kLinks, key, "");
  ASSERT_TRUE(db->Write(batch).ok());
  EXPECT_THAT(Keys(db->Scan(Family::kRefs, "b")), ElementsAre("b", "b\x01", "b\xff", "b\xff\xff"));
  EXPECT_THAT(Keys(db->Scan(Family::kRefs, "b\xff")), ElementsAre("b\xff", "b\xff\xff"));
  EXPECT_THAT(Keys(db->Scan(Family::kRefs, "\xff")), ElementsAre("\xff", "\xff\xff"));
  EXPECT_THAT(Keys(db->Scan(Family::kRefs, "d")), IsEmpty());
  EXPECT_THAT(Keys(db->Scan(Family::kLinks, x)), ElementsAre(x + "1", x + "2"));
  EXPECT_THAT(Keys(db->Scan(Family::kLinks, x + "2")), ElementsAre(x + "2"));
  EXPECT_THAT(Keys(db->Scan(Family::kLinks, "x")), ElementsAre(x + "1", x + "2"));
  EXPECT_THAT(Keys(db->Scan(Family::kLinks, "")), ElementsAre(x + "1", x + "2", y + "1"));
}

TEST_F(DatabaseTest, SameBootTrustsEverything) {
  auto db = MustOpen(Options());
  PutRef(*db, "r1");
  auto copy = MustOpen(CopyOf(Options(), "killed", "boot-1"));
  EXPECT_THAT(Keys(copy->Scan(Family::kRefs, "")), ElementsAre("r1"));
  // No barrier has named this boot yet, so the answer is on the safe side.
  EXPECT_THAT(Unsettled(*copy), ElementsAre("r1"));
  ASSERT_TRUE(db->Barrier().ok());
  PutRef(*db, "r2");
  copy = MustOpen(CopyOf(Options(), "killed-2", "boot-1"));
  EXPECT_THAT(Keys(copy->Scan(Family::kRefs, "")), ElementsAre("r1", "r2"));
  EXPECT_THAT(copy->unsettled(), IsEmpty());
}

TEST_F(DatabaseTest, OtherBootListsWhatIsNewerThanTheBarrier) {
  auto db = MustOpen(Options());
  PutRef(*db, "r1");
  ASSERT_TRUE(db->Barrier().ok());
  EXPECT_EQ(syncs_, 1);
  PutRef(*db, "r2");
  PutRef(*db, "r3");

  auto copy = MustOpen(CopyOf(Options(), "lost", "boot-2"));
  EXPECT_THAT(Unsettled(*copy), ElementsAre("r2", "r3"));
  // Killed before the owners were done, even with a barrier tried: listed again, with what is new.
  ASSERT_TRUE(copy->Barrier().ok());
  PutRef(*copy, "r4");
  const DatabaseOptions lost = CopyOf(Options(), "unused", "boot-2");
  DatabaseOptions at = lost;
  at.path = dir_.path() + "/lost";
  copy.reset();
  copy = MustOpen(at);
  EXPECT_THAT(Unsettled(*copy), ElementsAre("r2", "r3", "r4"));
  ASSERT_TRUE(copy->RecoveryDone().ok());
  copy.reset();
  copy = MustOpen(at);
  EXPECT_THAT(copy->unsettled(), IsEmpty());
}

TEST_F(DatabaseTest, CleanEndSettlesEverything) {
  auto db = MustOpen(Options());
  PutRef(*db, "r1");
  ASSERT_TRUE(db->Close().ok());
  EXPECT_TRUE(db->Close().ok());
  db = MustOpen(Options("boot-2"));
  EXPECT_THAT(db->unsettled(), IsEmpty());
  EXPECT_THAT(Keys(db->Scan(Family::kRefs, "")), ElementsAre("r1"));
}

TEST_F(DatabaseTest, FailedSyncSettlesNothing) {
  auto db = MustOpen(Options());
  PutRef(*db, "r0");
  ASSERT_TRUE(db->Barrier().ok());
  PutRef(*db, "r1");
  sync_status_ = absl::UnavailableError("disk says no");
  const absl::Status s = db->Barrier();
  EXPECT_EQ(s.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(s.message()), testing::HasSubstr("disk says no"));
  auto copy = MustOpen(CopyOf(Options(), "lost", "boot-2"));
  EXPECT_THAT(Unsettled(*copy), ElementsAre("r1"));
  sync_status_ = absl::OkStatus();
  EXPECT_TRUE(db->Barrier().ok());
  copy = MustOpen(CopyOf(Options(), "lost-2", "boot-2"));
  EXPECT_THAT(copy->unsettled(), IsEmpty());
}

TEST_F(DatabaseTest, AnIdleBarrierCostsNothing) {
  auto db = MustOpen(Options());
  PutRef(*db, "r1");
  ASSERT_TRUE(db->Barrier().ok());
  ASSERT_TRUE(db->Barrier().ok());
  EXPECT_EQ(syncs_, 1);
  Batch unmarked;
  unmarked.Put(Family::kUsage, "r1", "x");
  ASSERT_TRUE(db->Write(unmarked).ok());
  ASSERT_TRUE(db->Barrier().ok());
  EXPECT_EQ(syncs_, 2);
}

// Whatever length of the log a power loss leaves, the index opens, holds a prefix of what was
// written, and never lacks what the barrier covered.
TEST_F(DatabaseTest, AnyTornLogLeavesAPrefix) {
  auto db = MustOpen(Options());
  PutRef(*db, "r000");
  ASSERT_TRUE(db->Barrier().ok());
  fs::path log;
  for (const auto& entry : fs::directory_iterator(Options().path))
    if (entry.path().extension() == ".log") log = std::max(log, entry.path());
  const uintmax_t durable = fs::file_size(log);
  for (int i = 1; i < 20; ++i) PutRef(*db, absl::StrFormat("r%03d", i));
  const uintmax_t full = fs::file_size(log);
  ASSERT_GT(full, durable);
  size_t last_count = 0;
  for (uintmax_t size = durable; size <= full; size += 61) {
    const DatabaseOptions copy = CopyOf(Options(), "torn", "boot-2");
    fs::resize_file(fs::path(copy.path) / log.filename(), size);
    auto torn = MustOpen(copy);
    ASSERT_NE(torn, nullptr) << "log cut to " << size;
    const std::vector<std::string> keys = Keys(torn->Scan(Family::kRefs, ""));
    ASSERT_GE(keys.size(), 1u);
    for (size_t i = 0; i < keys.size(); ++i) ASSERT_EQ(keys[i], absl::StrFormat("r%03d", i));
    // Every surviving row beyond the barrier is named, no other.
    EXPECT_EQ(Unsettled(*torn), std::vector<std::string>(keys.begin() + 1, keys.end()));
    EXPECT_GE(keys.size(), last_count);
    last_count = keys.size();
    torn.reset();
    fs::remove_all(copy.path);
  }
  EXPECT_GT(last_count, 15u);
}

TEST_F(DatabaseTest, ListsCommittedWritesInOrder) {
  DatabaseOptions options = Options();
  options.retain_deltas = true;
  auto db = MustOpen(options);
  auto commit = [&](const std::string& key) {
    Batch batch;
    batch.Put(Family::kRecords, key, "");
    batch.MarkCommitted(Family::kRecords, key);
    ASSERT_TRUE(db->Write(batch).ok());
  };
  commit("a");
  PutRef(*db, "not a committed row");
  commit("b");
  ASSERT_TRUE(db->Barrier().ok());
  auto deltas = db->DeltasSince(0, 100);
  ASSERT_TRUE(deltas.ok()) << deltas.status();
  ASSERT_EQ(deltas->size(), 2u);
  EXPECT_EQ((*deltas)[0].rows[0].key, "a");
  const uint64_t after_first = (*deltas)[0].sequence;
  EXPECT_EQ(db->DeltasSince(0, 1)->size(), 1u);
  EXPECT_EQ(db->DeltasSince(after_first, 100)->size(), 1u);

  const uint64_t last = db->last_sequence();
  db.reset();
  db = MustOpen(options);
  EXPECT_EQ(db->DeltasSince(after_first, 100)->size(), 1u);
  commit("c");
  // A number that was given out before is never given out again, even if it was lost.
  EXPECT_GT(db->last_sequence(), last + 1000);
  deltas = db->DeltasSince(last, 100);
  ASSERT_EQ(deltas->size(), 1u);
  EXPECT_EQ((*deltas)[0].rows[0].key, "c");
}

TEST_F(DatabaseTest, DroppedDeltasAreAnErrorNotAGap) {
  auto db = MustOpen(Options());
  for (const char* key : {"a", "b"}) {
    Batch batch;
    batch.MarkCommitted(Family::kRecords, key);
    ASSERT_TRUE(db->Write(batch).ok());
  }
  ASSERT_EQ(db->DeltasSince(0, 10)->size(), 2u);
  ASSERT_TRUE(db->Barrier().ok());
  EXPECT_EQ(db->DeltasSince(0, 10).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(*db->DeltasSince(db->last_sequence(), 10), IsEmpty());
}

TEST_F(DatabaseTest, CheckpointIsAWholeCopy) {
  auto db = MustOpen(Options());
  PutRef(*db, "r1");
  uint64_t sequence = 0;
  DatabaseOptions copy = Options();
  copy.path = dir_.path() + "/checkpoint";
  ASSERT_TRUE(db->Checkpoint(copy.path, &sequence).ok());
  PutRef(*db, "r2");
  EXPECT_EQ(sequence, 1u);
  auto other = MustOpen(copy);
  EXPECT_THAT(Keys(other->Scan(Family::kRefs, "")), ElementsAre("r1"));
}

TEST_F(DatabaseTest, WritersAndBarriersTogether) {
  DatabaseOptions options = Options();
  options.barrier_interval = absl::Milliseconds(1);
  auto db = MustOpen(options);
  std::vector<std::thread> writers;
  for (int t = 0; t < 4; ++t)
    writers.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) PutRef(*db, absl::StrFormat("%d-%03d", t, i));
    });
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(db->last_sequence(), 800u);
  EXPECT_EQ(Keys(db->Scan(Family::kRefs, "")).size(), 800u);
  ASSERT_TRUE(db->Close().ok());
  db = MustOpen(Options("boot-2"));
  EXPECT_THAT(db->unsettled(), IsEmpty());
}

TEST_F(DatabaseTest, ANewerFormatIsRefused) {
  auto db = MustOpen(Options());
  Batch batch;
  batch.Put(Family::kMeta, "format", std::string("\0\0\0\0\0\0\0\x09", 8));
  ASSERT_TRUE(db->Write(batch).ok());
  db.reset();
  auto again = Database::Open(Options());
  EXPECT_EQ(again.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(again.status().message()), testing::HasSubstr("format 9"));
}

}  // namespace
}  // namespace kiln::store
