#include <sys/mount.h>

#include "absl/strings/str_cat.h"
#include "tests/store/ref/invariants.h"
#include "tests/store/ref/store_fixture.h"

namespace kiln::store {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

// A store on a file system of 24 MiB.
class RefStoreFullDisk : public RefStoreTest {
 protected:
  void SetUp() override {
    RefStoreTest::SetUp();
    Close();
    std::filesystem::remove_all(dir_ + "/root");
    std::filesystem::create_directory(dir_ + "/root");
    disk_ = Must(Mount::Tmpfs(dir_ + "/root", "size=24m,nr_inodes=1500"));
    Open();
  }
  void TearDown() override {
    Close();
    Must(disk_.Close());
    RefStoreTest::TearDown();
  }

  Mount disk_;
};

TEST_F(RefStoreFullDisk, WritesFailWithThePathAndTheStoreStaysUsable) {
  RefPtr base = Make(nullptr, "/base", "kept");
  const std::string id = base->id();
  {
    auto tree = Must(store_->New(base, {}));
    absl::Status status;
    int i = 0;
    for (; status.ok() && i < 100; ++i)
      status = tree->writer().WriteFile(absl::StrCat("/big", i), std::string(1 << 20, 'x'), {});
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("/big", i - 1)));
    // Full: new folders and records may fail, but only like this.
    for (int n = 0; n < 3; ++n) {
      absl::StatusOr<std::unique_ptr<MutableRef>> other = store_->New(base, {.retain = true});
      if (other.ok()) continue;
      EXPECT_EQ(other.status().code(), absl::StatusCode::kResourceExhausted) << other.status();
      EXPECT_THAT(std::string(other.status().message()), HasSubstr(dir_));
    }
    EXPECT_EQ(Show(base), "base=kept ") << "reading goes on";
  }
  store_->Drain();
  RefPtr child = Make(base, "/more", std::string(1 << 20, 'y'));
  EXPECT_EQ(Show(Must(store_->Get(id))), "base=kept ");
  child.reset();
  base.reset();
  Restart();
  store_->Drain();
  EXPECT_EQ(Show(Must(store_->Get(id))), "base=kept ");
  EXPECT_THAT(Violations(*root_, *database_, *store_), IsEmpty());
}

TEST_F(RefStoreFullDisk, AMergeThatDoesNotFitLeavesNothingBehind) {
  // Files would be links; directories need inodes.
  auto tree = Must(store_->New(nullptr, {}));
  for (int i = 0; i < 900; ++i) Must(tree->writer().MakeDir(absl::StrCat("/d", i), {}));
  RefPtr many = Must(tree->Commit());
  RefPtr x = Make(nullptr, "/x", "1");
  RefPtr diff = Must(store_->Diff(x, Delete(x, "/x"), {}));
  RefPtr merged = Must(store_->Merge(std::vector<RefPtr>{diff, many}, {}));
  const auto before = Folders();
  const absl::Status status = merged->Materialize({}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(dir_));
  EXPECT_EQ(Folders(), before);
  ASSERT_EQ(::mount("tmpfs", disk_.target().c_str(), "tmpfs", MS_REMOUNT, "nr_inodes=9000"), 0);
  EXPECT_OK(merged->Materialize({}));
}

}  // namespace
}  // namespace kiln::store
