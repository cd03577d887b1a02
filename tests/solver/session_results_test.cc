#include "solver/internal/session_results.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace kiln::solver {
namespace {

store::KeyId Key(size_t n) { return store::CacheIndex::RootKey({absl::StrCat("random:", n), 0}); }

TEST(SessionResultsTest, TheOldestKeyGoesFirst) {
  SessionResults results;
  const size_t count = SessionResults::kMaxResults;
  for (size_t i = 0; i < count; ++i) results.Save(Key(i), {absl::StrCat("r", i), absl::Time()});
  results.Save(Key(0), {"again", absl::Time()});  // no new key: nothing goes
  ASSERT_TRUE(results.Find(Key(0)).has_value());
  EXPECT_EQ(results.Find(Key(0))->result_id, "again");
  results.Save(Key(count), {"new", absl::Time()});
  EXPECT_FALSE(results.Find(Key(0)).has_value());
  EXPECT_TRUE(results.Find(Key(1)).has_value());
  EXPECT_EQ(results.Find(Key(count))->result_id, "new");
}

}  // namespace
}  // namespace kiln::solver
