#include "daemon/control/history_filter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/control/wire_time.h"
#include "proto/buildkit/control.pb.h"

namespace kiln::daemon {
namespace {

namespace pbc = moby::buildkit::v1;
const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

// Failed after 10 minutes, an hour ago.
pbc::BuildHistoryRecord Record() {
  pbc::BuildHistoryRecord record;
  record.set_ref("abc");
  SetTimestamp(kNow - absl::Hours(1), record.mutable_createdat());
  SetTimestamp(kNow - absl::Minutes(50), record.mutable_completedat());
  record.mutable_error()->set_code(2);
  (*record.mutable_frontendattrs())["vcs:source"] = "https://example.com/me/repo.git";
  return record;
}

TEST(HistoryFilterTest, Matches) {
  struct Case {
    std::vector<std::string> elements;
    bool want;
  };
  for (const Case& c : std::vector<Case>{{{}, true},
                                         {{""}, true},
                                         {{"ref==abc"}, true},
                                         {{"ref==x"}, false},
                                         {{"ref!=x"}, true},
                                         {{"ref==x", "status==error"}, true},
                                         {{"ref==abc,status==completed"}, false},
                                         {{"status==running"}, false},
                                         {{"repository~=example.com"}, true},
                                         {{"repository==https://example.com/me/repo.git"}, true},
                                         {{"startedAt<30m"}, true},  // before half an hour ago
                                         {{"startedAt>30m"}, false},
                                         {{"startedAt>=2h,completedAt<1m"}, true},
                                         {{"completedAt>2023-11-14T20:00:00Z"}, true},
                                         {{"completedAt<2023-11-14T20:00:00Z"}, false},
                                         {{"duration>5m"}, true},
                                         {{"duration<=10m"}, true},
                                         {{"duration<10m"}, false},
                                         {{"\"duration>5m\",ref==abc"}, true}}) {
    const auto filter = HistoryFilter::Parse(c.elements, kNow);
    ASSERT_TRUE(filter.ok()) << filter.status();
    EXPECT_EQ(filter->Matches(Record(), kNow), c.want) << (c.elements.empty() ? "" : c.elements[0]);
  }
}

TEST(HistoryFilterTest, StatusOfEachOutcome) {
  const auto status = [](const char* name) {
    return *HistoryFilter::Parse({std::string("status==") + name}, kNow);
  };
  pbc::BuildHistoryRecord record = Record();
  record.mutable_error()->set_code(1);
  EXPECT_TRUE(status("canceled").Matches(record, kNow));
  record.clear_error();
  EXPECT_TRUE(status("completed").Matches(record, kNow));
  record.clear_completedat();
  EXPECT_TRUE(status("running").Matches(record, kNow));
  EXPECT_TRUE(HistoryFilter::Parse({"duration>59m"}, kNow)->Matches(record, kNow));
  EXPECT_FALSE(HistoryFilter::Parse({"completedAt<1s"}, kNow)->Matches(record, kNow));
}

TEST(HistoryFilterTest, WhatIsWrongIsShown) {
  for (const char* wrong : {"startedAt<yesterday", "duration>2023-11-14T20:00:00Z", "duration==5m",
                            "\"ref==abc", "\"a\"b", "ref=="}) {
    EXPECT_EQ(HistoryFilter::Parse({wrong}, kNow).status().code(),
              absl::StatusCode::kInvalidArgument)
        << wrong;
  }
}

}  // namespace
}  // namespace kiln::daemon
