#include "store/layer/tar_reader.h"

#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include "store/layer/tar_clamp.h"
#include "tests/store/layer/layer_bytes.h"
#include "tests/store/layer/tar_builder.h"

namespace kiln::store {
namespace {

using testing::HasSubstr;

// A header with fields as given, sealed.
std::string Header(char type, const std::string& name, int64_t size = 0,
                   const std::function<void(RawTarHeader*)>& edit = {}) {
  TarEntry entry;
  entry.name = name;
  entry.size = size;
  RawTarHeader raw;
  const std::string bytes = EncodeTarHeader(entry);
  std::memcpy(&raw, bytes.data(), sizeof raw);
  raw.typeflag = type;
  if (edit) edit(&raw);
  std::memset(raw.checksum, ' ', sizeof raw.checksum);
  unsigned sum = 0;
  for (size_t i = 0; i < sizeof raw; ++i) sum += reinterpret_cast<unsigned char*>(&raw)[i];
  std::snprintf(raw.checksum, sizeof raw.checksum, "%06o", sum);
  return std::string(reinterpret_cast<char*>(&raw), sizeof raw);
}

std::string Padded(std::string bytes) {
  bytes += std::string(TarPadding(static_cast<int64_t>(bytes.size())));
  return bytes;
}

std::string PaxRecord(const std::string& key, const std::string& value) {
  const size_t rest = key.size() + value.size() + 3;
  size_t size = rest;
  while (std::to_string(size).size() + rest != size) size = std::to_string(size).size() + rest;
  return std::to_string(size) + " " + key + "=" + value + "\n";
}
std::string Pax(char type, const std::string& records) {
  return Header(type, "pax", static_cast<int64_t>(records.size())) + Padded(records);
}

struct Read {
  TarEntry entry;
  std::string data;
};
absl::StatusOr<std::vector<Read>> ReadAllEntries(const std::string& archive, size_t piece) {
  StringStream in(archive, piece);
  TarReader tar(&in);
  std::vector<Read> out;
  for (;;) {
    Read read;
    absl::StatusOr<bool> more = tar.Next(&read.entry);
    if (!more.ok()) return more.status();
    if (!*more) break;
    for (;;) {
      absl::StatusOr<absl::string_view> data = tar.Data();
      if (!data.ok()) return data.status();
      if (data->empty()) break;
      read.data.append(data->data(), data->size());
    }
    out.push_back(std::move(read));
  }
  const absl::Status drained = tar.Drain();
  if (!drained.ok()) return drained;
  EXPECT_EQ(tar.position(), static_cast<int64_t>(archive.size()));
  return out;
}

Read One(const std::string& archive) {
  Read first;
  // Whatever the pieces in which the bytes come.
  for (const size_t piece : {1, 7, 512, 100000}) {
    auto read = ReadAllEntries(archive, piece);
    EXPECT_TRUE(read.ok()) << read.status();
    if (!read.ok()) return {};
    EXPECT_EQ(read->size(), 1u);
    if (read->size() == 1) first = (*read)[0];
  }
  return first;
}

TEST(TarReader, ReadsWhatTheWriterWrites) {
  TarEntry entry = TarBuilder::Entry(TarType::kFile, std::string(200, 'x') + "/ä", 04755);
  entry.uid = 3000000;
  entry.gid = 5;
  entry.mtime = {1700000000, 123456789};
  entry.xattrs["security.capability"] = std::string("\1\0\n=", 4);
  const Read read = One(TarBuilder().Add(entry, "hello").Build());
  EXPECT_EQ(read.entry.name, entry.name);
  EXPECT_EQ(read.entry.mode, 04755u);
  EXPECT_EQ(read.entry.uid, 3000000u);
  EXPECT_EQ(read.entry.gid, 5u);
  EXPECT_EQ(read.entry.mtime.tv_nsec, 123456789);
  EXPECT_EQ(read.entry.xattrs, entry.xattrs);
  EXPECT_EQ(read.data, "hello");
}

TEST(TarReader, Base256NumbersOfAnySign) {
  const std::string big = Header('0', "a", 0, [](RawTarHeader* raw) {
    std::memcpy(raw->uid, "\x80\0\0\0\0\x20\0\1", 8);
    std::memset(raw->mtime, 0xff, sizeof raw->mtime);
  });
  const Read read = One(big + std::string(TarEnd()));
  EXPECT_EQ(read.entry.uid, 0x200001u);
  EXPECT_EQ(read.entry.mtime.tv_sec, 0) << "times before 1970 are moved to it";
}

TEST(TarReader, GnuLongNamesAndLinks) {
  const std::string name(300, 'n'), link(200, 'l');
  const std::string archive =
      Header('L', "././@LongLink", 301) + Padded(name + std::string(1, '\0')) +
      Header('K', "././@LongLink", 201) + Padded(link + std::string(1, '\0')) +
      Header('2', "short") + std::string(TarEnd());
  const Read read = One(archive);
  EXPECT_EQ(read.entry.name, name);
  EXPECT_EQ(read.entry.link, link);
}

TEST(TarReader, PaxValuesWinAndGlobalOnesAreIgnored) {
  const std::string archive =
      Pax('g', PaxRecord("path", "global") + PaxRecord("uid", "77")) +
      Pax('x', PaxRecord("path", "own") + PaxRecord("size", "3") + PaxRecord("atime", "5") +
                   PaxRecord("comment", "none") + PaxRecord("gid", "12")) +
      Header('0', "field", 0) + Padded("abc") + std::string(TarEnd());
  const Read read = One(archive);
  EXPECT_EQ(read.entry.name, "own");
  EXPECT_EQ(read.entry.uid, 0u);
  EXPECT_EQ(read.entry.gid, 12u);
  EXPECT_EQ(read.data, "abc");
}

TEST(TarReader, UstarPrefixAndOldDirectories) {
  const std::string prefixed =
      Header('0', "name", 0, [](RawTarHeader* raw) { std::memcpy(raw->prefix, "some/where", 10); });
  EXPECT_EQ(One(prefixed + std::string(TarEnd())).entry.name, "some/where/name");
  const std::string old = Header('\0', "dir/", 0, [](RawTarHeader* raw) {
    std::memset(raw->magic, 0, sizeof raw->magic);
    std::memset(raw->version, 0, sizeof raw->version);
  });
  EXPECT_EQ(One(old + std::string(TarEnd())).entry.type, TarType::kDirectory);
}

TEST(TarReader, HeadersOfLinksHaveNoContentWhateverTheirSize) {
  const std::string archive =
      Header('1', "a", 512, [](RawTarHeader* raw) { raw->linkname[0] = 'b'; }) +
      std::string(TarEnd());
  EXPECT_EQ(One(archive).entry.link, "b");
}

TEST(TarReader, SparseFilesOfAllGnuForms) {
  // 0.1: the map in a record.
  std::string archive =
      Pax('x', PaxRecord("GNU.sparse.major", "0") + PaxRecord("GNU.sparse.minor", "1") +
                   PaxRecord("GNU.sparse.name", "real") + PaxRecord("GNU.sparse.size", "5000") +
                   PaxRecord("GNU.sparse.map", "0,2,4000,3")) +
      Header('0', "GNUSparseFile.0/real", 5) + Padded("abcde");
  Read read = One(archive + std::string(TarEnd()));
  EXPECT_EQ(read.entry.name, "real");
  EXPECT_EQ(read.entry.size, 5000);
  EXPECT_EQ(read.entry.stored_size, 5);
  ASSERT_EQ(read.entry.extents.size(), 2u);
  EXPECT_EQ(read.entry.extents[1].offset, 4000);
  EXPECT_EQ(read.data, "abcde");
  // 1.0: before the data.
  const std::string map = Padded("1\n10\n4\n");
  archive =
      Pax('x', PaxRecord("GNU.sparse.major", "1") + PaxRecord("GNU.sparse.minor", "0") +
                   PaxRecord("GNU.sparse.name", "real") + PaxRecord("GNU.sparse.realsize", "20")) +
      Header('0', "x", 516) + Padded(map + "abcd");
  read = One(archive + std::string(TarEnd()));
  EXPECT_EQ(read.entry.size, 20);
  EXPECT_EQ(read.data, "abcd");
  // The old form, in the header.
  archive = Header('S', "old", 3,
                   [](RawTarHeader* raw) {
                     std::memcpy(raw->magic, "ustar ", 6);
                     std::memcpy(raw->version, " ", 2);
                     auto* bytes = reinterpret_cast<char*>(raw);
                     std::memset(bytes + 345, 0, 155 + 12);
                     std::memcpy(bytes + 386, "00000000100", 11);
                     std::memcpy(bytes + 398, "00000000003", 11);
                     std::memcpy(bytes + 483, "00000001000", 11);
                   }) +
            Padded("abc");
  read = One(archive + std::string(TarEnd()));
  EXPECT_EQ(read.entry.size, 512);
  EXPECT_EQ(read.entry.extents.at(0).offset, 64);
  EXPECT_EQ(read.data, "abc");
}

TEST(TarReader, TheEndIsTwoZeroBlocksOrTheEndOfTheStream) {
  const std::string file = TarBuilder().File("a", "1").bytes();
  EXPECT_EQ(One(file).data, "1");
  EXPECT_EQ(One(file + std::string(512, '\0')).data, "1");
  EXPECT_EQ(One(file + std::string(TarEnd()) + "anything at all").data, "1");
}

std::string Clamp(const std::string& archive, int64_t latest, size_t piece) {
  StringStream in(archive, piece);
  std::string out;
  const absl::Status status =
      ClampTarTimes(in, absl::FromUnixSeconds(latest), {}, [&](absl::string_view bytes) {
        out.append(bytes.data(), bytes.size());
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

TEST(ClampTarTimes, LateTimesAreCutAndNothingElseChanges) {
  TarEntry early = TarBuilder::Entry(TarType::kFile, "early", 0644);
  early.mtime = {100, 5};
  TarEntry late = TarBuilder::Entry(TarType::kFile, "late", 04711);
  late.mtime = {2000, 5};
  late.xattrs["user.note"] = "mtime=9999";
  const std::string archive =
      TarBuilder()
          .Add(early, std::string(1000, 'e'))
          .Raw(Pax('x', PaxRecord("atime", "3000.5") + PaxRecord("path", "named") +
                            PaxRecord("size", "3") + PaxRecord("ctime", "7")))
          .Raw(Header('0', "field", 0,
                      [](RawTarHeader* raw) { std::memcpy(raw->mtime, "00000007777", 11); }) +
               Padded("abc"))
          .Add(late, "hello")
          .Build() +
      "trailing";
  for (const size_t piece : {1, 511, 100000}) {
    EXPECT_EQ(Clamp(archive, 5000, piece), archive) << "nothing is later";
    const std::string cut = Clamp(archive, 1000, piece);
    const auto before = ReadAllEntries(archive, piece), after = ReadAllEntries(cut, piece);
    ASSERT_TRUE(after.ok()) << after.status();
    ASSERT_EQ(after->size(), 3u);
    for (size_t i = 0; i < 3; ++i) {
      const TarEntry &a = (*after)[i].entry, &b = (*before)[i].entry;
      EXPECT_EQ(a.name, b.name);
      EXPECT_EQ(a.mode, b.mode);
      EXPECT_EQ(a.xattrs, b.xattrs);
      EXPECT_EQ((*after)[i].data, (*before)[i].data);
      EXPECT_EQ(a.mtime.tv_sec, std::min<time_t>(b.mtime.tv_sec, 1000)) << a.name;
      EXPECT_LE(a.atime.tv_sec, 1000);
    }
    EXPECT_EQ((*after)[0].entry.mtime.tv_nsec, 5);
    EXPECT_EQ(cut.substr(cut.size() - 8), "trailing");
    EXPECT_EQ(Clamp(cut, 1000, piece), cut);
  }
}

struct BadCase {
  const char* name;
  std::string archive;
  const char* says;
};
class TarReaderBad : public testing::TestWithParam<BadCase> {};

TEST_P(TarReaderBad, IsRefusedByName) {
  for (const size_t piece : {1, 512, 100000}) {
    const auto read = ReadAllEntries(GetParam().archive, piece);
    ASSERT_FALSE(read.ok());
    EXPECT_THAT(std::string(read.status().message()), HasSubstr(GetParam().says));
  }
}

std::string Spoiled() {
  std::string bytes = Header('0', "a");
  bytes[0] = 'b';
  return bytes;
}

INSTANTIATE_TEST_SUITE_P(
    Archives, TarReaderBad,
    testing::ValuesIn<BadCase>({
        {"Checksum", Spoiled(), "wrong checksum"},
        {"HeaderCutShort", Header('0', "a").substr(0, 300), "ends within"},
        {"ContentCutShort", Header('0', "a", 1000) + "abc", "ends within"},
        {"PaddingCutShort", Header('0', "a", 3) + "abc", "ends within"},
        {"OnlyAnExtension", Pax('x', PaxRecord("path", "a")), "ends within"},
        {"HeaderAfterZeros", std::string(512, '\0') + Header('0', "a"), "follows a block"},
        {"UnknownType", Header('7', "a"), "unknown type 55"},
        {"HugePax", Header('x', "a", 2 << 20), "the limit is 1048576"},
        {"HugeLongName", Header('L', "a", 2 << 20), "the limit is 1048576"},
        {"PaxLength", Pax('x', "99 path=a\n") + Header('0', "a"), "wrong length"},
        {"PaxLengthSign", Pax('x', "+9 path=a\n") + Header('0', "a"), "wrong length"},
        {"PaxNoKey", Pax('x', "4 =\n") + Header('0', "a"), "no key"},
        {"PaxNul", Pax('x', PaxRecord("path", std::string("a\0b", 3))) + Header('0', "a"), "NUL"},
        {"PaxNumber", Pax('x', PaxRecord("size", "0x10")) + Header('0', "a"), "pax record size"},
        {"NegativeSize", Pax('x', PaxRecord("size", "-1")) + Header('0', "a"), "negative"},
        {"NegativeOwner", Pax('x', PaxRecord("uid", "-1")) + Header('0', "a"), "out of range"},
        {"LargeOwner", Pax('x', PaxRecord("gid", "4294967296")) + Header('0', "a"), "out of range"},
        {"LinkWithoutTarget", Header('2', "a"), "no target"},
        {"NotOctal", Header('0', "a", 0, [](RawTarHeader* raw) { raw->mode[3] = '9'; }), "mode"},
        {"SparseOverlap",
         Pax('x', PaxRecord("GNU.sparse.size", "10") + PaxRecord("GNU.sparse.map", "5,3,2,1")) +
             Header('0', "a", 4) + Padded("abcd"),
         "sparse map"},
        {"SparseBeyondTheEnd",
         Pax('x', PaxRecord("GNU.sparse.size", "10") +
                      PaxRecord("GNU.sparse.map", "9,9223372036854775807")) +
             Header('0', "a", 4) + Padded("abcd"),
         "sparse map"},
        {"SparseLies",
         Pax('x', PaxRecord("GNU.sparse.size", "10") + PaxRecord("GNU.sparse.map", "0,3")) +
             Header('0', "a", 4) + Padded("abcd"),
         "bytes of its map"},
    }),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace kiln::store
