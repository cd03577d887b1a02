#include "proto/status_details.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/buildkit/ops.pb.h"
#include "proto/google/status.pb.h"

namespace kiln {
namespace {

TEST(StatusDetails, RoundTripKeepsEveryByteAndRepeatedTypes) {
  google::rpc::Status proto;
  proto.set_code(2);
  proto.set_message("outer: inner");
  const std::vector<std::pair<std::string, std::string>> details = {
      {std::string(kStackDetail), R"({"pid":1})"},
      {std::string(kStackDetail), R"({"pid":2})"},
      {std::string(kSourceDetail), R"({ "info" : {}})"},
      {std::string(kSourceDetail), R"({"info":{"filename":"b"}})"},
      {"example.com/odd#7", std::string("\0\xff", 2)},
  };
  for (const auto& [url, value] : details) {
    proto.add_details()->set_type_url(url);
    proto.mutable_details(proto.details_size() - 1)->set_value(value);
  }
  const absl::Status status = ParseStatus(proto.SerializeAsString());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnknown);
  EXPECT_EQ(status.message(), "outer: inner");

  const absl::Status again = ParseStatus(SerializeStatus(status));
  EXPECT_EQ(again, status);
  google::rpc::Status out;
  ASSERT_TRUE(out.ParseFromString(SerializeStatus(again)));
  std::vector<std::pair<std::string, std::string>> got;
  for (const auto& any : out.details()) got.emplace_back(any.type_url(), any.value());
  EXPECT_THAT(got, testing::UnorderedElementsAreArray(details));
  EXPECT_EQ(got[0], details[0]);  // stacks first, in order
  EXPECT_EQ(got[1], details[1]);
}

TEST(StatusDetails, EqualDetailIsNotDoubled) {
  absl::Status status = absl::UnknownError("x");
  AddVertexDetail("sha256:aa", &status);
  AddVertexDetail("sha256:aa", &status);
  AddVertexDetail("sha256:bb", &status);
  const auto details = Details(status);
  ASSERT_EQ(details.size(), 2u);
  EXPECT_EQ(details[0].value, R"({"digest":"sha256:aa"})");
  EXPECT_EQ(details[1].value, R"({"digest":"sha256:bb"})");
  EXPECT_EQ(details[1].type_url, kVertexDetail);
}

TEST(StatusDetails, PayloadsOfOurOwnStayInside) {
  absl::Status status = absl::UnknownError("x");
  status.SetPayload("kiln/secret", absl::Cord("here"));
  EXPECT_TRUE(Details(status).empty());
  google::rpc::Status proto;
  proto.set_code(2);
  proto.add_details()->set_type_url("kiln/secret");
  EXPECT_FALSE(ParseStatus(proto.SerializeAsString()).GetPayload("kiln/secret").has_value());
  EXPECT_FALSE(MakeStatus(2, "x", proto.SerializeAsString()).GetPayload("kiln/secret").has_value());
}

TEST(StatusDetails, SourceHasBothEndsOfARange) {
  pb::SourceInfo info;
  info.set_filename("Dockerfile");
  info.set_data("FROM <x>");
  pb::Range range;
  range.mutable_start()->set_line(3);
  absl::Status status = absl::UnknownError("x");
  AddSourceDetail(info.SerializeAsString(), {range.SerializeAsString()}, &status);
  ASSERT_EQ(Details(status).size(), 1u);
  EXPECT_EQ(Details(status)[0].value, R"({"info":{"filename":"Dockerfile","data":"RlJPTSA8eD4="},)"
                                      R"("ranges":[{"start":{"line":3},"end":{}}]})");
}

TEST(StatusDetails, BrokenDetailsLeaveCodeAndMessage) {
  const absl::Status status = MakeStatus(5, "no such job X", "\xff\xff");
  EXPECT_EQ(status, absl::NotFoundError("no such job X"));
  EXPECT_EQ(MakeStatus(99, "odd", "").code(), absl::StatusCode::kUnknown);
  EXPECT_EQ(ParseStatus("\xff").code(), absl::StatusCode::kInternal);
}

// Go refuses a message whose text is not UTF-8, with all its details.
TEST(StatusDetails, BrokenTextIsRepaired) {
  google::rpc::Status out;
  ASSERT_TRUE(out.ParseFromString(SerializeStatus(absl::NotFoundError("no \xff\xfe here"))));
  EXPECT_EQ(out.message(), "no \uFFFD\uFFFD here");
}

}  // namespace
}  // namespace kiln
