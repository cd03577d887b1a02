#include "store/image_table.h"

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/root.h"
#include "tests/store/temp_dir.h"

namespace kiln::store {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

class ImageTableTest : public testing::Test {
 protected:
  void SetUp() override { Open(); }
  void Open() {
    table_.reset();
    blobs_.reset();
    database_.reset();
    root_.reset();
    root_ = *Root::Open(dir_.path(), "boot-1");
    DatabaseOptions options;
    options.path = root_->index_dir();
    options.boot_id = "boot-1";
    database_ = *Database::Open(options);
    blobs_ = *BlobStore::Open(root_.get(), database_.get(), {});
    table_ = *ImageTable::Open(database_.get(), blobs_.get());
  }
  Digest Store(const std::string& bytes) {
    auto writer = *blobs_->Ingest({}, "test");
    EXPECT_TRUE(writer->Append(bytes).ok());
    return *writer->Commit();
  }
  NamedImage Image(const std::string& name, const Digest& root) {
    NamedImage image;
    image.name = name;
    image.root = {"application/x", root, 3};
    image.created_at = absl::FromUnixSeconds(5);
    return image;
  }

  TempDir dir_;
  std::unique_ptr<Root> root_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<BlobStore> blobs_;
  std::unique_ptr<ImageTable> table_;
};

TEST_F(ImageTableTest, RowsSurviveARestart) {
  const Digest root = Store("one");
  NamedImage image = Image("r/a:1", root);
  image.remote_layers = {{{"t", Digest::Of("l"), 7}, Digest::Of("d"), "docker.io/x"}};
  ASSERT_TRUE(table_->Put(image, {root}).ok());
  Open();
  const auto read = table_->Get("r/a:1");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->root, image.root);
  EXPECT_EQ(read->created_at, image.created_at);
  ASSERT_THAT(read->remote_layers, SizeIs(1));
  EXPECT_EQ(read->remote_layers[0].origin, "docker.io/x");
  EXPECT_EQ(read->remote_layers[0].descriptor.size_bytes, 7);
}

TEST_F(ImageTableTest, ANameHoldsUntilItIsRemovedOrMoves) {
  const Digest one = Store("one"), two = Store("two");
  ASSERT_TRUE(table_->Put(Image("a", one), {one}).ok());
  ASSERT_TRUE(table_->Put(Image("b", two), {two}).ok());
  ASSERT_TRUE(blobs_->DropLease("test").ok());
  EXPECT_TRUE(blobs_->Size(one).ok());
  ASSERT_TRUE(table_->Tag("b", "a", absl::Now()).ok());
  EXPECT_TRUE(absl::IsNotFound(blobs_->Size(one).status()));
  ASSERT_TRUE(table_->Remove("b").ok());
  EXPECT_TRUE(blobs_->Size(two).ok());
  ASSERT_TRUE(table_->Remove("a").ok());
  EXPECT_EQ(blobs_->UsedBytes(), 0);
  EXPECT_THAT(*table_->List(), IsEmpty());
}

TEST_F(ImageTableTest, AMissingBlobLeavesEverythingAsItWas) {
  const Digest one = Store("one");
  ASSERT_TRUE(table_->Put(Image("a", one), {one}).ok());
  const auto status = table_->Put(Image("a", Digest::Of("gone")), {Digest::Of("gone")});
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_EQ(table_->Get("a")->root.digest, one);
  EXPECT_THAT(*blobs_->Leases("image:"), SizeIs(1));
}

TEST_F(ImageTableTest, UnknownNames) {
  EXPECT_EQ(table_->Get("x").status().message(), "no image \"x\"");
  EXPECT_TRUE(absl::IsNotFound(table_->Remove("x")));
  EXPECT_TRUE(absl::IsNotFound(table_->Tag("x", "y", absl::Now())));
}

TEST_F(ImageTableTest, HoldsOfAKilledProcessAreSwept) {
  const Digest one = Store("one");
  ASSERT_TRUE(table_->Put(Image("a@b", one), {one}).ok());
  ASSERT_TRUE(blobs_->Hold("image:a@b@" + Digest::Of("old").ToString(), one).ok());
  ASSERT_TRUE(blobs_->Hold("image:never named", one).ok());
  Open();
  EXPECT_THAT(*blobs_->Leases("image:"), SizeIs(1));
  EXPECT_TRUE(table_->Get("a@b").ok());
}

}  // namespace
}  // namespace kiln::store
