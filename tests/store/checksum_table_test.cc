#include "store/checksum_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "absl/strings/str_cat.h"
#include "store/database.h"
#include "tests/store/temp_tree.h"

namespace kiln::store {
namespace {

Digest D(int i) { return Digest::Of(absl::StrCat(i)); }

TEST(ChecksumFile, RoundTrip) {
  const std::vector<std::pair<std::string, Digest>> first = {
      {"f/a", D(1)}, {"f/a/b", D(2)}, {"f/b", D(3)}};
  const std::vector<std::pair<std::string, Digest>> second = {{"f/a/b", D(4)}, {"f/c", D(5)}};
  const std::string bytes =
      absl::StrCat(ChecksumFileMagic(), EncodeChecksumBlock(first), EncodeChecksumBlock(second));
  const ChecksumFile file = DecodeChecksumFile(bytes);
  EXPECT_FALSE(file.damaged);
  const std::vector<std::pair<std::string, Digest>> want = {
      {"f/a", D(1)}, {"f/a/b", D(4)}, {"f/b", D(3)}, {"f/c", D(5)}};
  EXPECT_EQ(file.entries, want);
}

// Cut short or altered anywhere, a file gives nothing that was not written.
TEST(ChecksumFile, DamageIsNoticed) {
  const std::string whole =
      absl::StrCat(ChecksumFileMagic(), EncodeChecksumBlock({{"f/a", D(1)}, {"f/b", D(2)}}),
                   EncodeChecksumBlock({{"f/c", D(3)}}));
  const std::map<std::string, Digest> written = {{"f/a", D(1)}, {"f/b", D(2)}, {"f/c", D(3)}};
  const auto check = [&](const std::string& bytes) {
    const ChecksumFile file = DecodeChecksumFile(bytes);
    for (const auto& [key, digest] : file.entries) {
      const auto found = written.find(key);
      ASSERT_TRUE(found != written.end());
      EXPECT_EQ(found->second, digest);
    }
  };
  for (size_t i = 0; i < whole.size(); ++i) {
    check(whole.substr(0, i));
    std::string altered = whole;
    altered[i] = static_cast<char>(altered[i] ^ 0x20);
    EXPECT_TRUE(DecodeChecksumFile(altered).damaged) << i;
    check(altered);
  }
  EXPECT_EQ(DecodeChecksumFile(whole.substr(0, whole.size() - 1)).entries.size(), 2u);
}

TEST(ChecksumTable, SavesAndComesBack) {
  TempDir temp;
  const std::string path = temp.path() + "/sums";
  for (int round = 0; round < 20; ++round) {
    ChecksumTable table({path});
    for (int i = 0; i < round * 10; ++i)
      ASSERT_EQ(table.Find(ChecksumTable::FileKey(absl::StrCat("/", i))), D(i)) << round;
    for (int i = round * 10; i < round * 10 + 10; ++i)
      table.Set(ChecksumTable::FileKey(absl::StrCat("/", i)), D(i));
    ASSERT_TRUE(table.Save().ok());
    ASSERT_TRUE(table.Save().ok());
  }
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
}

TEST(ChecksumTable, DamagedFileIsMended) {
  TempDir temp;
  const std::string path = temp.path() + "/sums";
  {
    ChecksumTable table({path});
    table.Set("f/a", D(1));
    ASSERT_TRUE(table.Save().ok());
  }
  PutFile(path, Slurp(path) + "garbage");
  {
    ChecksumTable table({path});
    EXPECT_EQ(table.Find("f/a"), D(1));
    table.Set("f/b", D(2));
    ASSERT_TRUE(table.Save().ok());
  }
  EXPECT_FALSE(DecodeChecksumFile(Slurp(path)).damaged);
  EXPECT_EQ(ChecksumTable({path}).Find("f/b"), D(2));
}

TEST(ChecksumTable, SmallOnesAreRowsUntilTheyGrow) {
  TempDir temp;
  DatabaseOptions options;
  options.path = temp.path() + "/index";
  options.boot_id = "boot";
  const auto database = Database::Open(options);
  ASSERT_TRUE(database.ok()) << database.status();
  const ChecksumTable::Place place{temp.path() + "/sums", database->get(), "row"};
  const auto in_row = [&] { return *(*database)->Has(Family::kChecksums, "row"); };
  const auto in_file = [&] { return std::filesystem::exists(place.file); };
  {
    ChecksumTable table(place, /*is_new=*/true);
    table.Set("f/a", D(1));
    Batch batch;
    ASSERT_TRUE(table.SaveWith(&batch).ok());
    EXPECT_FALSE(in_row());
    ASSERT_TRUE((*database)->Write(batch).ok());
  }
  EXPECT_TRUE(in_row());
  EXPECT_FALSE(in_file());
  {
    ChecksumTable table(place);
    EXPECT_EQ(table.Find("f/a"), D(1));
    for (int i = 0; i < 1000; ++i) table.Set(absl::StrCat("f/", i), D(i));
    ASSERT_TRUE(table.Save().ok());
  }
  EXPECT_FALSE(in_row());
  EXPECT_TRUE(in_file());
  {
    ChecksumTable table(place);
    EXPECT_EQ(table.Find("f/a"), D(1));
    EXPECT_EQ(table.Find("f/999"), D(999));
    ASSERT_TRUE(table.RemoveKept().ok());
    table.Clear();
    table.Set("f/b", D(2));
    ASSERT_TRUE(table.Save().ok());
  }
  EXPECT_TRUE(in_row());
  EXPECT_FALSE(in_file());
  {
    ChecksumTable table(place);
    EXPECT_EQ(table.Find("f/b"), D(2));
    EXPECT_FALSE(table.Find("f/a"));
    ASSERT_TRUE(table.RemoveKept().ok());
  }
  EXPECT_FALSE(in_row());
}

TEST(ChecksumTable, ForgettingTakesTheDirectoriesAbove) {
  TempDir temp;
  for (const bool saved : {false, true}) {
    ChecksumTable table({temp.path() + "/sums"});
    const auto dir = [](const char* path) { return ChecksumTable::DirKey(path, 7); };
    const auto file = [](const char* path) { return ChecksumTable::FileKey(path); };
    for (const char* path : {"/", "/a", "/a/b", "/ab", "/c"}) table.Set(dir(path), D(1));
    for (const char* path : {"/a", "/a/b", "/a/b/f", "/ab", "/c"}) table.Set(file(path), D(2));
    if (saved) {
      ASSERT_TRUE(table.Save().ok());
    }
    table.Forget("/a/b/f");
    for (const char* path : {"/", "/a", "/a/b"}) EXPECT_FALSE(table.Find(dir(path))) << path;
    EXPECT_FALSE(table.Find(file("/a/b/f")));
    EXPECT_TRUE(table.Find(file("/a/b")));
    EXPECT_TRUE(table.Find(dir("/ab")));
    table.ForgetBelow("/a");
    EXPECT_FALSE(table.Find(file("/a")));
    EXPECT_FALSE(table.Find(file("/a/b")));
    EXPECT_TRUE(table.Find(file("/ab")));
    EXPECT_TRUE(table.Find(dir("/ab")));
    ASSERT_TRUE(table.Save().ok());
    ChecksumTable again({temp.path() + "/sums"});
    EXPECT_FALSE(again.Find(file("/a")));
    EXPECT_TRUE(again.Find(file("/ab")));
    ASSERT_TRUE(table.RemoveKept().ok());
  }
}

class ChecksumTableModel : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(InARow, ChecksumTableModel, testing::Bool());

TEST_P(ChecksumTableModel, AgreesWithAMap) {
  TempDir temp;
  std::mt19937 random(7);
  std::map<std::string, Digest> model;
  DatabaseOptions options;
  options.path = temp.path() + "/index";
  options.boot_id = "boot";
  const auto database = Database::Open(options);
  ASSERT_TRUE(database.ok()) << database.status();
  const ChecksumTable::Place place{temp.path() + "/sums", GetParam() ? database->get() : nullptr,
                                   "row"};
  auto table = std::make_unique<ChecksumTable>(place);
  for (int step = 0; step < 5000; ++step) {
    const std::string path = absl::StrCat("/", random() % 20, "/", random() % 20);
    switch (random() % 40) {
      case 0:
        ASSERT_TRUE(table->Save().ok());
        break;
      case 1:
        ASSERT_TRUE(table->Save().ok());
        table = std::make_unique<ChecksumTable>(place);
        break;
      case 2:
      case 3:
        table->Forget(path);
        model.erase(path);
        break;
      default:
        table->Set(ChecksumTable::FileKey(path), D(step));
        model[path] = D(step);
    }
    const std::string probe = absl::StrCat("/", random() % 20, "/", random() % 20);
    const auto found = table->Find(ChecksumTable::FileKey(probe));
    const auto want = model.find(probe);
    ASSERT_EQ(found.has_value(), want != model.end()) << step;
    if (found) {
      ASSERT_EQ(*found, want->second) << step;
    }
  }
}

}  // namespace
}  // namespace kiln::store
