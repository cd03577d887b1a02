#include "daemon/remotecache/aws_signature.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/digest.h"

namespace kiln::daemon {
namespace {

using testing::EndsWith;
using testing::HasSubstr;

// The examples that AWS publishes: "Signature Version 4 test suite", and "Examples: Signature
// Calculations" of the S3 API reference.
struct Vector {
  const char* name;
  const char* service;
  const char* time;
  AwsSignedRequest request;
  const char* signed_headers;
  const char* signature;
};

constexpr char kSuiteTime[] = "2015-08-30T12:36:00Z";
constexpr char kS3Time[] = "2013-05-24T00:00:00Z";

std::string EmptyHash() { return Digest::Of("").hex(); }

std::vector<std::pair<std::string, std::string>> S3Headers(const std::string& hash) {
  return {{"host", "examplebucket.s3.amazonaws.com"},
          {"x-amz-content-sha256", hash},
          {"x-amz-date", "20130524T000000Z"}};
}

AwsSignedRequest S3Request(const char* method, const char* path,
                           std::vector<std::pair<std::string, std::string>> query,
                           std::vector<std::pair<std::string, std::string>> more,
                           const std::string& hash) {
  AwsSignedRequest request{method, path, std::move(query), S3Headers(hash), hash};
  request.headers.insert(request.headers.end(), more.begin(), more.end());
  return request;
}

std::vector<Vector> Vectors() {
  const std::vector<std::pair<std::string, std::string>> suite = {
      {"Host", "example.amazonaws.com"}, {"X-Amz-Date", "20150830T123600Z"}};
  const std::string welcome = Digest::Of("Welcome to Amazon S3.").hex();
  return {
      {"get_vanilla",
       "service",
       kSuiteTime,
       {"GET", "/", {}, suite, EmptyHash()},
       "host;x-amz-date",
       "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
      {"query_order",
       "service",
       kSuiteTime,
       {"GET", "/", {{"Param2", "value2"}, {"Param1", "value1"}}, suite, EmptyHash()},
       "host;x-amz-date",
       "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
      {"post_vanilla",
       "service",
       kSuiteTime,
       {"POST", "/", {}, suite, EmptyHash()},
       "host;x-amz-date",
       "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
      {"s3_get_range", "s3", kS3Time,
       S3Request("GET", "/test.txt", {}, {{"Range", "bytes=0-9"}}, EmptyHash()),
       "host;range;x-amz-content-sha256;x-amz-date",
       "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
      {"s3_put", "s3", kS3Time,
       S3Request("PUT", "/test%24file.text", {},
                 {{"Date", "Fri, 24 May 2013 00:00:00 GMT"},
                  {"x-amz-storage-class", "REDUCED_REDUNDANCY"}},
                 welcome),
       "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
       "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
      {"s3_lifecycle", "s3", kS3Time, S3Request("GET", "/", {{"lifecycle", ""}}, {}, EmptyHash()),
       "host;x-amz-content-sha256;x-amz-date",
       "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
      {"s3_list", "s3", kS3Time,
       S3Request("GET", "/", {{"prefix", "J"}, {"max-keys", "2"}}, {}, EmptyHash()),
       "host;x-amz-content-sha256;x-amz-date",
       "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
  };
}

class AwsSignatureTest : public testing::TestWithParam<Vector> {};

TEST_P(AwsSignatureTest, IsThePublishedOne) {
  const Vector& vector = GetParam();
  const bool s3 = std::string(vector.service) == "s3";
  const AwsCredentials credentials =
      s3 ? AwsCredentials{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", ""}
         : AwsCredentials{"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", ""};
  absl::Time now;
  ASSERT_TRUE(absl::ParseTime(absl::RFC3339_full, vector.time, &now, nullptr));
  const std::string text =
      AwsAuthorization(credentials, "us-east-1", vector.service, now, vector.request);
  EXPECT_THAT(text, HasSubstr(std::string("SignedHeaders=") + vector.signed_headers + ","));
  EXPECT_THAT(text, EndsWith(std::string("Signature=") + vector.signature));
}

INSTANTIATE_TEST_SUITE_P(Published, AwsSignatureTest, testing::ValuesIn(Vectors()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(AwsEncodeTest, AllButTheUnreserved) {
  EXPECT_EQ(AwsEncode("a-B_c.~9/ä:+ ", true), "a-B_c.~9/%C3%A4%3A%2B%20");
  EXPECT_EQ(AwsEncode("a/b", false), "a%2Fb");
  EXPECT_EQ(AwsQuery({{"b", "1"}, {"a", "="}, {"a", ""}}), "a=&a=%3D&b=1");
}

}  // namespace
}  // namespace kiln::daemon
