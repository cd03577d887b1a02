#include "store/blob_store.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/store/temp_dir.h"

namespace kiln::store {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class BlobStoreTest : public testing::Test {
 protected:
  void SetUp() override { Open(); }

  void Open(const std::string& boot_id = "boot-1") {
    blobs_.reset();
    database_.reset();
    root_.reset();
    auto root = Root::Open(dir_.path(), boot_id);
    ASSERT_TRUE(root.ok()) << root.status();
    root_ = *std::move(root);
    DatabaseOptions options;
    options.path = root_->index_dir();
    options.boot_id = boot_id;
    auto database = Database::Open(options);
    ASSERT_TRUE(database.ok()) << database.status();
    database_ = *std::move(database);
    auto blobs = BlobStore::Open(root_.get(), database_.get(), options_);
    ASSERT_TRUE(blobs.ok()) << blobs.status();
    blobs_ = *std::move(blobs);
  }

  absl::StatusOr<Digest> Put(const std::string& bytes, const std::string& lease,
                             const BlobWant& want = {}) {
    auto writer = blobs_->Ingest(want, lease);
    if (!writer.ok()) return writer.status();
    for (size_t at = 0; at < bytes.size(); at += 3)
      if (absl::Status s = (*writer)->Append(bytes.substr(at, 3)); !s.ok()) return s;
    return (*writer)->Commit();
  }

  std::string Get(const Digest& digest) {
    std::string out(64, '\0');
    auto n = blobs_->ReadAt(digest, 0, absl::MakeSpan(&out[0], out.size()));
    if (!n.ok()) return n.status().ToString();
    out.resize(*n);
    return out;
  }

  size_t Files() {
    size_t files = 0;
    for (const std::string& folder : {root_->blobs_dir(), root_->tmp_dir()})
      for (const auto& entry : fs::recursive_directory_iterator(folder))
        files += entry.is_regular_file();
    return files;
  }
  std::string PathOf(const Digest& digest) {
    return absl::StrCat(root_->blobs_dir(), "/sha256/", digest.hex());
  }

  TempDir dir_;
  BlobStoreOptions options_;
  std::unique_ptr<Root> root_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<BlobStore> blobs_;
};

TEST_F(BlobStoreTest, BytesComeBackUnderTheirDigest) {
  auto digest = Put("hello world", "l", {Digest::Of("hello world"), 11});
  ASSERT_TRUE(digest.ok()) << digest.status();
  EXPECT_EQ(*digest, Digest::Of("hello world"));
  EXPECT_EQ(*blobs_->Size(*digest), 11);
  EXPECT_EQ(Get(*digest), "hello world");
  char part[4];
  EXPECT_EQ(*blobs_->ReadAt(*digest, 6, absl::MakeSpan(part)), 4u);
  EXPECT_EQ(std::string(part, 4), "worl");
  EXPECT_EQ(*blobs_->ReadAt(*digest, 9, absl::MakeSpan(part)), 2u);
  EXPECT_EQ(*blobs_->ReadAt(*digest, 11, absl::MakeSpan(part)), 0u);
  EXPECT_FALSE(blobs_->ReadAt(*digest, -1, absl::MakeSpan(part)).ok());
  EXPECT_EQ(blobs_->UsedBytes(), 11);
  Open();
  EXPECT_EQ(Get(*digest), "hello world");
  EXPECT_EQ(blobs_->UsedBytes(), 11);
}

TEST_F(BlobStoreTest, TheEmptyBlobIsABlob) {
  auto digest = Put("", "l");
  ASSERT_TRUE(digest.ok()) << digest.status();
  EXPECT_EQ(*blobs_->Size(*digest), 0);
}

TEST_F(BlobStoreTest, WrongBytesAreNeverVisible) {
  const Digest wanted = Digest::Of("right");
  EXPECT_EQ(Put("wrong", "l", {wanted, 5}).status().code(), absl::StatusCode::kDataLoss);
  const absl::Status longer = Put("right!", "l", {wanted, 5}).status();
  EXPECT_EQ(longer.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(longer.message()), HasSubstr("more than the 5 bytes"));
  EXPECT_EQ(Put("righ", "l", {std::nullopt, 5}).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(blobs_->Size(wanted).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Files(), 0u);
  EXPECT_EQ(blobs_->UsedBytes(), 0);
}

TEST_F(BlobStoreTest, ADroppedWriterLeavesNothing) {
  {
    auto writer = blobs_->Ingest({}, "l");
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE((*writer)->Append("bytes").ok());
    EXPECT_EQ(blobs_->UsedBytes(), 5);
  }
  EXPECT_EQ(blobs_->UsedBytes(), 0);
  EXPECT_EQ(Files(), 0u);
}

TEST_F(BlobStoreTest, ABlobLivesAsLongAsALeaseHoldsIt) {
  const Digest digest = *Put("bytes", "one");
  EXPECT_EQ(Put("bytes", "two", {digest, 5}).status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(*blobs_->Held("two"), ElementsAre(digest));
  ASSERT_TRUE(blobs_->DropLease("one").ok());
  EXPECT_EQ(Get(digest), "bytes");
  auto open = blobs_->OpenBlob(digest);
  ASSERT_TRUE(blobs_->DropLease("two").ok());
  EXPECT_EQ(blobs_->Size(digest).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Files(), 0u);
  EXPECT_EQ(blobs_->UsedBytes(), 0);
  EXPECT_EQ(*ReadAll(open->get()), "bytes") << "readers keep what they opened";
  EXPECT_TRUE(blobs_->DropLease("never").ok());
  EXPECT_EQ(blobs_->Hold("three", digest).code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(Put("x", "").ok());
}

TEST_F(BlobStoreTest, LeasesWhoseNamesBeginAlikeAreApart) {
  const Digest digest = *Put("bytes", "a");
  const Digest other = *Put("other", "ab");
  ASSERT_TRUE(blobs_->DropLease("a").ok());
  EXPECT_FALSE(blobs_->Size(digest).ok());
  EXPECT_EQ(Get(other), "other");
  EXPECT_THAT(*blobs_->Held("a"), IsEmpty());
}

TEST_F(BlobStoreTest, TwoAtOnceMakeOneBlob) {
  auto first = blobs_->Ingest({}, "one"), second = blobs_->Ingest({}, "two");
  ASSERT_TRUE((*first)->Append("same").ok());
  ASSERT_TRUE((*second)->Append("same").ok());
  ASSERT_TRUE((*first)->Commit().ok());
  const Digest digest = *(*second)->Commit();
  EXPECT_EQ(Files(), 1u);
  EXPECT_EQ(blobs_->UsedBytes(), 4);
  ASSERT_TRUE(blobs_->DropLease("one").ok());
  EXPECT_EQ(Get(digest), "same");
}

TEST_F(BlobStoreTest, TheQuotaCountsWhatIsBeingWritten) {
  options_.quota_bytes = 10;
  Open();
  ASSERT_TRUE(Put("12345", "l").ok());
  auto writer = blobs_->Ingest({}, "l");
  ASSERT_TRUE((*writer)->Append("abc").ok());
  const absl::Status full = Put("xyz", "l").status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.message()), HasSubstr("quota of 10 bytes"));
  EXPECT_TRUE((*writer)->Commit().ok());
  ASSERT_TRUE(blobs_->DropLease("l").ok());
  EXPECT_TRUE(Put("0123456789", "l").ok());
}

TEST_F(BlobStoreTest, AMissingOrShortFileIsDataLoss) {
  const Digest digest = *Put("bytes", "l");
  fs::resize_file(PathOf(digest), 3);
  EXPECT_EQ(blobs_->Size(digest).status().code(), absl::StatusCode::kDataLoss);
  fs::remove(PathOf(digest));
  const absl::Status gone = blobs_->OpenBlob(digest).status();
  EXPECT_EQ(gone.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(gone.message()), HasSubstr(digest.ToString()));
}

TEST_F(BlobStoreTest, SweepRemovesWhatTheIndexDoesNotName) {
  const Digest digest = *Put("bytes", "l");
  std::ofstream(PathOf(Digest::Of("orphan"))) << "orphan";
  std::ofstream(root_->blobs_dir() + "/sha256/not a digest") << "x";
  EXPECT_EQ(*blobs_->SweepFiles(), 2);
  EXPECT_EQ(*blobs_->SweepFiles(), 0);
  EXPECT_EQ(Get(digest), "bytes");
}

TEST_F(BlobStoreTest, APowerLossTakesWhatIsNewerThanTheBarrier) {
  const Digest settled = *Put("settled", "l");
  ASSERT_TRUE(database_->Barrier().ok());
  const Digest doubtful = *Put("doubtful", "l");
  // What the machine would find: a copy of the folder, as of another boot.
  TempDir copy;
  fs::copy(dir_.path(), copy.path(), fs::copy_options::recursive);
  blobs_.reset();
  database_.reset();
  root_.reset();
  for (const auto& entry : fs::directory_iterator(dir_.path())) fs::remove_all(entry.path());
  fs::copy(copy.path(), dir_.path(), fs::copy_options::recursive);
  Open("boot-2");
  EXPECT_EQ(Get(settled), "settled");
  EXPECT_EQ(blobs_->Size(doubtful).status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(fs::exists(PathOf(doubtful)));
  EXPECT_THAT(*blobs_->Held("l"), ElementsAre(settled));
  EXPECT_EQ(blobs_->UsedBytes(), 7);
  ASSERT_TRUE(database_->RecoveryDone().ok());
}

TEST_F(BlobStoreTest, LeasesAreFoundByPrefix) {
  for (const char* lease : {"a", "image:b", "image:a", "images", "z"}) {
    ASSERT_TRUE(Put("one", lease).ok());
    ASSERT_TRUE(Put("two", lease).ok());
  }
  EXPECT_THAT(*blobs_->Leases("image:"), ElementsAre("image:a", "image:b"));
  EXPECT_THAT(*blobs_->Leases(""), ElementsAre("a", "image:a", "image:b", "images", "z"));
  ASSERT_TRUE(blobs_->DropLease("image:a").ok());
  EXPECT_THAT(*blobs_->Leases("image:"), ElementsAre("image:b"));
  EXPECT_THAT(*blobs_->Leases("x"), IsEmpty());
}

}  // namespace
}  // namespace kiln::store
