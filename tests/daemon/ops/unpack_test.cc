#include "daemon/ops/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/daemon/ops/op_fixture.h"

namespace kiln::daemon {
namespace {

using store::TreeWriter;
using ::testing::HasSubstr;

struct Item {
  std::string name;
  mode_t type = AE_IFREG;
  std::string data;  // content or link target
  bool hardlink = false;
  uint32_t uid = 0, gid = 0, mode = 0644;
  int64_t mtime = 100;
};

// `filter` as libarchive numbers compressions.
std::string Tar(const std::vector<Item>& items, int filter = ARCHIVE_FILTER_NONE) {
  std::string out(1 << 20, '\0');
  size_t used = 0;
  struct archive* a = archive_write_new();
  archive_write_set_format_pax_restricted(a);
  archive_write_add_filter(a, filter);
  archive_write_open_memory(a, out.data(), out.size(), &used);
  for (const Item& item : items) {
    struct archive_entry* entry = archive_entry_new();
    archive_entry_set_pathname(entry, item.name.c_str());
    archive_entry_set_filetype(entry, item.type);
    archive_entry_set_perm(entry, item.mode);
    archive_entry_set_uid(entry, item.uid);
    archive_entry_set_gid(entry, item.gid);
    archive_entry_set_mtime(entry, item.mtime, 0);
    if (item.hardlink) {
      archive_entry_set_hardlink(entry, item.data.c_str());
    } else if (item.type == AE_IFLNK) {
      archive_entry_set_symlink(entry, item.data.c_str());
    } else if (item.type == AE_IFREG) {
      archive_entry_set_size(entry, static_cast<int64_t>(item.data.size()));
    }
    archive_write_header(a, entry);
    if (item.type == AE_IFREG && !item.hardlink)
      archive_write_data(a, item.data.data(), item.data.size());
    archive_entry_free(entry);
  }
  archive_write_close(a);
  archive_write_free(a);
  out.resize(used);
  return out;
}

class Unpacking : public OpsTest {
 protected:
  absl::StatusOr<RefPtr> Unpacked(const std::string& bytes, const std::string& dest,
                                  RefPtr base = nullptr,
                                  const std::function<void(pb::FileActionCopy*)>& edit = nullptr) {
    return RunCopy(std::move(base), Make(nullptr, "/x.tar", bytes), "/x.tar", dest,
                   [&](pb::FileActionCopy* copy) {
                     copy->set_attemptunpackdockercompatibility(true);
                     copy->set_createdestpath(true);
                     if (edit) edit(copy);
                   });
  }
};

TEST_F(Unpacking, EveryCompression) {
  for (const int filter : {ARCHIVE_FILTER_NONE, ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_BZIP2,
                           ARCHIVE_FILTER_XZ, ARCHIVE_FILTER_ZSTD}) {
    const std::string bytes =
        Tar({{"d", AE_IFDIR, "", false, 0, 0, 0700}, {"d/f", AE_IFREG, "x"}}, filter);
    EXPECT_EQ(ShowOr(Unpacked(bytes, "/to")), "to/ to/d/ to/d/f=x ") << filter;
  }
}

TEST_F(Unpacking, WhatIsNoArchiveIsCopied) {
  EXPECT_EQ(ShowOr(Unpacked("just text", "/to/")), "to/ to/x.tar=just text ");
  EXPECT_EQ(ShowOr(Unpacked("", "/to")), "to= ");
  // Compressed, but no archive inside.
  const std::string gzip("\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\x4c\x4a\x06\0\xc2\x41\x24\x35\x03\0\0\0",
                         23);
  EXPECT_EQ(ShowOr(Unpacked(gzip, "/to")), "to=" + gzip + " ");
}

TEST_F(Unpacking, MetadataOfTheArchive) {
  const std::string bytes = Tar({{"d", AE_IFDIR, "", false, 1, 2, 0711, 50},
                                 {"d/f", AE_IFREG, "x", false, 3, 4, 04755, 60},
                                 {"d/h", AE_IFREG, "d/f", true},
                                 {"d/l", AE_IFLNK, "f", false, 5, 6},
                                 {"d/.wh.name", AE_IFREG, "an ordinary name"},
                                 {"implied/parent/f", AE_IFREG, "y"}});
  const auto result = Unpacked(bytes, "/");
  ASSERT_OK(result);
  EXPECT_EQ(Show(*result),
            "d/ d/.wh.name=an ordinary name d/f=x d/h=x d/l->f implied/ implied/parent/ "
            "implied/parent/f=y ");
  EXPECT_EQ(Stat(*result, "/d").st.st_mode, S_IFDIR | 0711u);
  EXPECT_EQ(Stat(*result, "/d").st.st_mtime, 50);
  EXPECT_EQ(Stat(*result, "/d/f").st.st_mode, S_IFREG | 04755u);
  EXPECT_EQ(Stat(*result, "/d/f").st.st_gid, 4u);
  EXPECT_EQ(Stat(*result, "/d/f").st.st_mtime, 60);
  EXPECT_EQ(Stat(*result, "/d/h").st.st_ino, Stat(*result, "/d/f").st.st_ino);
  EXPECT_EQ(Stat(*result, "/d/l").st.st_uid, 5u);
  const auto owned = Unpacked(bytes, "/", nullptr, [](pb::FileActionCopy* copy) {
    copy->mutable_owner()->mutable_user()->set_byid(9);
  });
  ASSERT_OK(owned);
  EXPECT_EQ(Stat(*owned, "/d/f").st.st_uid, 9u);
  EXPECT_EQ(Stat(*owned, "/d/l").st.st_gid, 9u);
}

TEST_F(Unpacking, ReplacesAndMerges) {
  const RefPtr base = Tree([](TreeWriter& w) {
    store::Must(w.MakeDir("/d", {.mode = 0700}));
    store::Must(w.WriteFile("/d/keep", "k", {}));
    store::Must(w.MakeDir("/f", {}));
    store::Must(w.WriteFile("/f/x", "", {}));
    store::Must(w.WriteFile("/e", "file", {}));
  });
  const std::string bytes = Tar({{"d", AE_IFDIR, "", false, 0, 0, 0755},
                                 {"f", AE_IFREG, "now a file"},
                                 {"e", AE_IFDIR, "", false, 0, 0, 0755}});
  const auto result = Unpacked(bytes, "/", base);
  EXPECT_EQ(ShowOr(result), "d/ d/keep=k e/ f=now a file ");
  EXPECT_EQ(Stat(*result, "/d").st.st_mode, S_IFDIR | 0755u);
}

TEST_F(Unpacking, NothingLeavesTheRoot) {
  const auto refused = [&](const std::vector<Item>& items, const std::string& why) {
    const auto result = Unpacked(Tar(items), "/to");
    EXPECT_TRUE(absl::IsInvalidArgument(result.status())) << result.status();
    EXPECT_THAT(std::string(result.status().message()), HasSubstr(why));
  };
  refused({{"../out", AE_IFREG, "x"}}, "\"../out\" is outside of \"/to\"");
  refused({{"a/../../out", AE_IFREG, "x"}}, "is outside of");
  refused({{"l", AE_IFLNK, "../../etc/passwd"}}, "invalid symlink \"/l\" -> \"../../etc/passwd\"");
  refused({{"h", AE_IFREG, "../x.tar", true}}, "invalid hardlink \"h\" -> \"../x.tar\"");
  // A link inside the archive confines what is written through it to the destination.
  const RefPtr base = Tree([](TreeWriter& w) { store::Must(w.MakeDir("/etc", {})); });
  EXPECT_EQ(ShowOr(Unpacked(Tar({{"l", AE_IFLNK, "/etc"}, {"l/f", AE_IFREG, "x"}}), "/to", base)),
            "etc/ to/ to/etc/ to/etc/f=x to/l->/etc ");
}

TEST_F(Unpacking, DamagedArchiveIsAnError) {
  std::string bytes = Tar({{"a", AE_IFREG, std::string(5000, 'a')}, {"b", AE_IFREG, "b"}});
  bytes.resize(2000);
  const auto result = Unpacked(bytes, "/to");
  EXPECT_TRUE(absl::IsDataLoss(result.status())) << result.status();
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("unpack /x.tar"));
}

}  // namespace
}  // namespace kiln::daemon
