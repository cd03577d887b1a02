#include "store/parallel_files.h"

#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "store/base/fd.h"
#include "store/base/mutex.h"
#include "tests/store/temp_tree.h"

namespace kiln::store {
namespace {

class ParallelFilesTest : public ::testing::Test {
 protected:
  ParallelFilesTest() : top_(temp_.Dir("top")), writer_(NewTreeWriter({}, top_, false, nullptr)) {
    for (int d = 0; d < kDirs; ++d)
      EXPECT_TRUE(writer_->MakeDir(absl::StrCat("/d", d), Attributes()).ok());
  }

  // File `f` of every directory holds its own path.
  absl::Status PostAll(ParallelFiles& files) {
    for (int d = 0; d < kDirs; ++d) {
      for (int f = 0; f < kFiles; ++f) {
        const std::string dir = absl::StrCat("/d", d), path = absl::StrCat(dir, "/f", f);
        const absl::Status status = files.Post(dir, path.size(), [this, path](TreeWriter& writer) {
          {
            MutexLock lock(&mu_);
            threads_.insert(std::this_thread::get_id());
          }
          return writer.WriteFile(path, path, Attributes());
        });
        if (!status.ok()) return status;
      }
    }
    return absl::OkStatus();
  }
  void ExpectAll() {
    for (int d = 0; d < kDirs; ++d) {
      for (int f = 0; f < kFiles; ++f) {
        const std::string path = absl::StrCat("/d", d, "/f", f);
        ASSERT_EQ(ReadFileToString(top_ + path).value_or("missing"), path);
      }
    }
  }

  static constexpr int kDirs = 7, kFiles = 150;
  TempDir temp_;
  const std::string top_;
  const std::unique_ptr<TreeWriter> writer_;
  Mutex mu_;
  std::set<std::thread::id> threads_ ABSL_GUARDED_BY(mu_);
};

TEST_F(ParallelFilesTest, MakesAllOfThem) {
  ParallelFiles files(*writer_, 3);
  ASSERT_TRUE(PostAll(files).ok());
  ASSERT_TRUE(files.Drain().ok());
  ExpectAll();
  MutexLock lock(&mu_);
  EXPECT_GE(threads_.size(), 2u);  // the caller, and at least one more
  EXPECT_LE(threads_.size(), 4u);
}

TEST_F(ParallelFilesTest, DrainedItStartsAnew) {
  ParallelFiles files(*writer_, 2);
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(PostAll(files).ok());  // from the second round on they replace files
    ASSERT_TRUE(files.Drain().ok());
  }
  ExpectAll();
}

TEST_F(ParallelFilesTest, FewAreMadeByTheCaller) {
  ParallelFiles files(*writer_, 4);
  for (int f = 0; f < 10; ++f) {
    const std::string path = absl::StrCat("/d0/f", f);
    std::thread::id on;
    ASSERT_TRUE(files
                    .Post("/d0", 0,
                          [&](TreeWriter& writer) {
                            on = std::this_thread::get_id();
                            return writer.WriteFile(path, "x", Attributes());
                          })
                    .ok());
    EXPECT_EQ(on, std::this_thread::get_id());
  }
}

TEST_F(ParallelFilesTest, TheFirstErrorIsToldAndEndsTheWork) {
  ParallelFiles files(*writer_, 2);
  ASSERT_TRUE(PostAll(files).ok());
  ASSERT_TRUE(files.Drain().ok());
  std::atomic<int> ran{0};
  absl::Status status;
  for (int i = 0; i < 5000 && status.ok(); ++i) {
    status = files.Post("/d0", 0, [&ran, i](TreeWriter&) {
      ++ran;
      return i < 100 ? absl::OkStatus() : absl::DataLossError("no good");
    });
  }
  const absl::Status drained = files.Drain();
  EXPECT_EQ(drained.message(), "no good") << drained;
  EXPECT_LT(ran.load(), 5000);
  EXPECT_TRUE(files.Drain().ok());  // told once
}

TEST_F(ParallelFilesTest, MemoryIsBounded) {
  constexpr size_t kBytes = 1 << 20;
  ParallelFiles files(*writer_, 2);
  std::atomic<int> held{0}, most{0};
  for (int i = 0; i < 400; ++i) {
    const int now = ++held;
    most = std::max(most.load(), now);
    ASSERT_TRUE(files
                    .Post(absl::StrCat("/d", i % kDirs), kBytes,
                          [&held](TreeWriter&) {
                            --held;
                            return absl::OkStatus();
                          })
                    .ok());
  }
  ASSERT_TRUE(files.Drain().ok());
  EXPECT_EQ(held.load(), 0);
  // 8 MiB, a batch being collected, and one that each thread may be at.
  EXPECT_LE(most.load(), 8 + 4 * 16 + 2);
}

TEST_F(ParallelFilesTest, DroppedWithWorkQueued) {
  auto files = std::make_unique<ParallelFiles>(*writer_, 2);
  ASSERT_TRUE(PostAll(*files).ok());
  files.reset();  // joins
}

}  // namespace
}  // namespace kiln::store
