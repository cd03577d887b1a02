#include "store/cache_rows.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace kiln::store {
namespace {

std::vector<LinkRow> SomeLinks() {
  std::vector<LinkRow> links;
  const std::vector<std::string> selectors = {"", "s", std::string("s\0t", 3), "\xff",
                                              "sha256:0123"};
  for (const char* from : {"a", "b"})
    for (const char* op : {"x", "y"})
      for (const uint32_t input : {0u, 1u, 255u, 256u, 0xffffffffu})
        for (const std::string& selector : selectors)
          for (const char* to : {"p", "q"})
            links.push_back({Digest::Of(from), Digest::Of(op), input, selector, Digest::Of(to)});
  return links;
}

TEST(CacheRows, LinksRoundTripBothWays) {
  for (const LinkRow& link : SomeLinks()) {
    EXPECT_EQ(*DecodeLinkKey(LinkKey(link)), link);
    EXPECT_EQ(*DecodeBackLinkKey(BackLinkKey(link)), link);
    EXPECT_TRUE(
        absl::StartsWith(LinkKey(link), LinkPrefix(link.from, link.op, link.input, link.selector)));
    EXPECT_TRUE(absl::StartsWith(LinkKey(link), link.from.raw()));
    EXPECT_TRUE(absl::StartsWith(BackLinkKey(link), link.to.raw()));
  }
}

TEST(CacheRows, TargetsOfOneInputAreTogetherAndInOrder) {
  std::vector<LinkRow> links = SomeLinks();
  std::sort(links.begin(), links.end(),
            [](const LinkRow& a, const LinkRow& b) { return LinkKey(a) < LinkKey(b); });
  for (size_t i = 0; i < links.size(); ++i) {
    const std::string prefix =
        LinkPrefix(links[i].from, links[i].op, links[i].input, links[i].selector);
    size_t matching = 0;
    for (const LinkRow& link : links) matching += absl::StartsWith(LinkKey(link), prefix);
    // Just the two targets: no prefix takes in the rows of another selector or input.
    EXPECT_EQ(matching, 2u) << i;
    if (i % 2 == 1) {
      EXPECT_LT(links[i - 1].to, links[i].to);
    }
  }
}

TEST(CacheRows, BackLinksAreOrderedByInput) {
  std::vector<LinkRow> links = SomeLinks();
  std::sort(links.begin(), links.end(),
            [](const LinkRow& a, const LinkRow& b) { return BackLinkKey(a) < BackLinkKey(b); });
  for (size_t i = 1; i < links.size(); ++i)
    EXPECT_LE(std::tie(links[i - 1].to, links[i - 1].input), std::tie(links[i].to, links[i].input));
}

TEST(CacheRows, RecordsAreInTheOrderOfChoice) {
  const KeyId node = Digest::Of("n");
  std::vector<CacheRecord> records;
  for (const int64_t nanos : {std::numeric_limits<int64_t>::min(), int64_t{-1}, int64_t{0},
                              int64_t{1}, std::numeric_limits<int64_t>::max()})
    for (const uint8_t priority : {0, 1, 255})
      for (const char* id : {"", "a", "ab", "b"})
        records.push_back({id, absl::FromUnixNanos(nanos), priority});
  std::sort(records.begin(), records.end());
  for (size_t i = 0; i < records.size(); ++i) {
    KeyId decoded;
    auto record = DecodeRecordKey(RecordKey(node, records[i]), &decoded);
    ASSERT_TRUE(record.ok()) << record.status();
    EXPECT_EQ(decoded, node);
    EXPECT_EQ(*record, records[i]);
    if (i > 0) {
      EXPECT_LT(RecordKey(node, records[i - 1]), RecordKey(node, records[i]));
    }
    CacheRecord value = *DecodeResultValue(ResultValue(records[i]));
    value.result_id = records[i].result_id;
    EXPECT_EQ(value, records[i]);
  }
}

TEST(CacheRows, ResultsRoundTripAndAreApart) {
  const KeyId node = Digest::Of("n");
  const std::vector<std::string> ids = {"", "w::1", "w::12", std::string("w\0", 2)};
  for (const std::string& id : ids) {
    KeyId decoded;
    EXPECT_EQ(*DecodeResultKey(ResultKey(id, node), &decoded), id);
    EXPECT_EQ(decoded, node);
    for (const std::string& other : ids)
      EXPECT_EQ(absl::StartsWith(ResultKey(id, node), ResultPrefix(other)), id == other);
  }
}

TEST(CacheRows, NodesAndAliasesRoundTrip) {
  const NodeRow node = {3, 0xffffffffu, {"sha256:op", -1}};
  EXPECT_EQ(*DecodeNodeValue(NodeValue(node)), node);
  EXPECT_EQ(*DecodeNodeValue(NodeValue(NodeRow())), NodeRow());
  const KeyId a = Digest::Of("a"), n = Digest::Of("n");
  EXPECT_EQ(*DecodeNodeAliasKey(NodeAliasKey(n, a)), a);
  EXPECT_TRUE(absl::StartsWith(NodeAliasKey(n, a), NodeAliasPrefix(n)));
  EXPECT_FALSE(absl::StartsWith(NodeAliasKey(n, a), AliasKey(n)));
  EXPECT_EQ(*DecodeAliasValue(n.raw()), n);
}

// Every row cut short or with something behind it is refused, and none crashes.
TEST(CacheRows, DamagedRowsAreDataLoss) {
  const KeyId a = Digest::Of("a");
  const std::string link = LinkKey({a, a, 1, "sel", a});
  const std::string back = BackLinkKey({a, a, 1, "sel", a});
  const std::string node = NodeValue({1, 2, {"op", 3}});
  const std::string result = ResultKey("r", a);
  KeyId ignored;
  for (size_t size = 0; size < link.size(); ++size)
    EXPECT_EQ(DecodeLinkKey(link.substr(0, size)).status().code(), absl::StatusCode::kDataLoss);
  for (size_t size = 0; size < back.size(); ++size)
    EXPECT_EQ(DecodeBackLinkKey(back.substr(0, size)).status().code(), absl::StatusCode::kDataLoss);
  for (size_t size = 0; size < node.size(); ++size)
    EXPECT_EQ(DecodeNodeValue(node.substr(0, size)).status().code(), absl::StatusCode::kDataLoss);
  for (size_t size = 0; size < result.size(); ++size)
    EXPECT_EQ(DecodeResultKey(result.substr(0, size), &ignored).status().code(),
              absl::StatusCode::kDataLoss);
  EXPECT_FALSE(DecodeLinkKey(link + "x").ok());
  EXPECT_FALSE(DecodeBackLinkKey(back + "x").ok());
  EXPECT_FALSE(DecodeNodeValue(node + "x").ok());
  EXPECT_FALSE(DecodeNodeValue("\x02" + node.substr(1)).ok()) << "another version";
  EXPECT_FALSE(DecodeResultValue("").ok());
  EXPECT_FALSE(DecodeRecordKey(a.raw(), &ignored).ok());
}

}  // namespace
}  // namespace kiln::store
