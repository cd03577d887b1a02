#include "daemon/remotecache/s3_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/daemon/remotecache/object_bytes.h"
#include "tests/daemon/remotecache/s3_server.h"

namespace kiln::daemon {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

std::optional<std::string> NoEnv(const char*) { return std::nullopt; }

class S3CacheTest : public testing::Test {
 protected:
  CacheAttrs Attrs() {
    return {{"bucket", S3Server::kBucket},    {"region", S3Server::kRegion},
            {"endpoint_url", server_.url()},  {"use_path_style", "true"},
            {"access_key_id", S3Server::kId}, {"secret_access_key", S3Server::kSecret},
            {"prefix", "some prefix/"}};
  }
  std::unique_ptr<CacheObjects> Open(const CacheAttrs& more = {}) {
    CacheAttrs attrs = Attrs();
    for (const auto& [key, value] : more) attrs[key] = value;
    auto config = ReadS3CacheConfig(attrs, NoEnv);
    EXPECT_TRUE(config.ok()) << config.status();
    config->client.part_bytes = 1000;
    config->client.max_copy_bytes = 2000;
    config->client.sleep = [this](absl::Duration wait, const CancelToken& cancel) {
      MutexLock lock(&mu_);
      waits_.push_back(wait);
      return cancel.status();
    };
    return NewS3Objects(*std::move(config)).value();
  }
  static std::string KeyOf(const std::string& bytes) {
    return "some prefix/blobs/" + Digest::Of(bytes).ToString();
  }

  S3Server server_;
  Mutex mu_;
  std::vector<absl::Duration> waits_;
};

TEST_F(S3CacheTest, BlobsGoAndComeBack) {
  const auto objects = Open();
  for (const std::string& bytes : {std::string("small"), std::string(3500, 'x')}) {
    const Digest digest = Digest::Of(bytes);
    EXPECT_FALSE(objects->HasBlob(digest, {}).value());
    EXPECT_EQ(ReadBlob(*objects, digest).status().code(), absl::StatusCode::kNotFound);
    ASSERT_TRUE(objects->PutBlob(ObjectOf(bytes), {}).ok());
    EXPECT_TRUE(objects->HasBlob(digest, {}).value());
    EXPECT_EQ(ReadBlob(*objects, digest).value(), bytes);
    EXPECT_EQ(server_.Get(KeyOf(bytes))->bytes, bytes);
  }
  EXPECT_EQ(server_.open_uploads(), 0u);
}

TEST_F(S3CacheTest, ConfigsUnderAllNamesAreReadByTheFirst) {
  const auto objects = Open({{"name", "one;two"}});
  EXPECT_THAT(objects->GetConfigs(100, {}).value(), IsEmpty());
  ASSERT_TRUE(objects->PutConfig("{}", {}).ok());
  EXPECT_EQ(server_.Get("some prefix/manifests/one")->bytes, "{}");
  EXPECT_EQ(server_.Get("some prefix/manifests/two")->bytes, "{}");
  EXPECT_THAT(objects->GetConfigs(100, {}).value(), ElementsAre("{}"));
  EXPECT_EQ(objects->GetConfigs(1, {}).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(S3CacheTest, NoBucketIsNotAnEmptyOne) {
  const absl::Status status = Open({{"bucket", "nowhere"}})->GetConfigs(100, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("NoSuchBucket"));
}

TEST_F(S3CacheTest, C16_NoChecksumsAndNoCopyBeforeItIsTime) {
  const auto objects = Open();
  const std::string small = "small", large(3500, 'x');
  for (const std::string& bytes : {small, large})
    ASSERT_TRUE(objects->PutBlob(ObjectOf(bytes), {}).ok());
  for (const TestHttpRequest& request : server_.server().requests()) {
    EXPECT_EQ(request.Header("x-amz-sdk-checksum-algorithm"), "");
    EXPECT_EQ(request.Header("x-amz-trailer"), "");
    EXPECT_EQ(request.Header("content-encoding"), "");
    EXPECT_EQ(request.Header("transfer-encoding"), "");
  }
  server_.server().Forget();
  for (const std::string& bytes : {small, large})
    EXPECT_TRUE(objects->KeepBlob(Digest::Of(bytes), {}).value());
  EXPECT_THAT(server_.Seen(), ElementsAre(StartsWith("HEAD "), StartsWith("HEAD ")));
  // A day later.
  for (const std::string& bytes : {small, large}) {
    server_.Set(KeyOf(bytes), bytes, absl::Now() - absl::Hours(25));
    EXPECT_TRUE(objects->KeepBlob(Digest::Of(bytes), {}).value());
    EXPECT_EQ(server_.Get(KeyOf(bytes))->bytes, bytes);
    EXPECT_GT(server_.Get(KeyOf(bytes))->modified, absl::Now() - absl::Hours(1));
  }
  EXPECT_EQ(server_.open_uploads(), 0u);
}

TEST_F(S3CacheTest, ABrokenDownloadIsContinued) {
  const std::string bytes = std::string(5000, 'a') + std::string(5000, 'b');
  std::atomic<int> tries = 0;
  server_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (request.method != "GET" || ++tries > 1) return std::nullopt;
    return "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + bytes.substr(0, 6000);
  };
  server_.Set(KeyOf(bytes), bytes, absl::Now());
  const auto objects = Open();
  EXPECT_EQ(ReadBlob(*objects, Digest::Of(bytes)).value(), bytes);
  EXPECT_EQ(server_.server().requests().back().Header("range"), "bytes=6000-");
}

TEST_F(S3CacheTest, TroubleIsTriedAgainAndThenTold) {
  std::atomic<int> left = 2;
  server_.fault = [&](const TestHttpRequest&) -> std::optional<std::string> {
    if (left-- <= 0) return std::nullopt;
    return S3Server::Error("503 Slow Down", "SlowDown", "reduce your rate", {"Retry-After: 7"});
  };
  const auto objects = Open();
  ASSERT_TRUE(objects->PutBlob(ObjectOf("small"), {}).ok());
  EXPECT_THAT(waits_, ElementsAre(absl::Seconds(7), absl::Seconds(7)));
  left = 3;
  const absl::Status status = objects->PutBlob(ObjectOf("other"), {});
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("blobs/sha256"), HasSubstr("503"),
                                                   HasSubstr("SlowDown: reduce your rate")));
}

TEST_F(S3CacheTest, AFailedUploadIsAborted) {
  const std::string large(3500, 'x');
  server_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (!absl::StrContains(request.path, "partNumber=3")) return std::nullopt;
    return S3Server::Error("403 Forbidden", "AccessDenied", "no more");
  };
  const absl::Status status = Open()->PutBlob(ObjectOf(large), {});
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("AccessDenied: no more"));
  EXPECT_EQ(server_.open_uploads(), 0u);
}

TEST_F(S3CacheTest, AnErrorAfter200IsOne) {
  server_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (request.method != "POST" || absl::StrContains(request.path, "uploads="))
      return std::nullopt;
    return S3Server::Error("200 OK", "InternalError", "could not complete");
  };
  const absl::Status status = Open()->PutBlob(ObjectOf(std::string(3500, 'x')), {});
  EXPECT_THAT(std::string(status.message()), HasSubstr("InternalError: could not complete"));
}

TEST_F(S3CacheTest, WrongKeysAreRefusedWithoutShowingThem) {
  const auto objects = Open({{"secret_access_key", "wrongsecret"}, {"session_token", "sometoken"}});
  const absl::Status status = objects->HasBlob(Digest::Of("x"), {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("403 Forbidden"), Not(HasSubstr("wrongsecret")),
                    Not(HasSubstr("sometoken"))));
  EXPECT_EQ(server_.server().requests().at(0).Header("x-amz-security-token"), "sometoken");
}

TEST_F(S3CacheTest, RedirectsAreNotFollowed) {
  S3Server other;
  server_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    return TestHttpServer::Answer("307 Temporary Redirect",
                                  {"Location: " + other.server().Url(request.path)});
  };
  EXPECT_FALSE(Open()->HasBlob(Digest::Of("x"), {}).ok());
  EXPECT_THAT(other.Seen(), IsEmpty());
}

TEST_F(S3CacheTest, BucketsAreHostNamesUnlessTheyCannotBe) {
  const auto url = [&](const CacheAttrs& more) {
    CacheAttrs attrs = Attrs();
    for (const auto& [key, value] : more) attrs[key] = value;
    auto config = ReadS3CacheConfig(attrs, NoEnv);
    EXPECT_TRUE(config.ok()) << config.status();
    const auto client = S3Client::Create(config->client);
    if (!client.ok()) return std::string(client.status().message());
    return (*client)->UrlOf("k y");
  };
  EXPECT_EQ(url({{"endpoint_url", ""}}), "https://bucket.s3.test-1.amazonaws.com/k%20y");
  EXPECT_EQ(url({{"endpoint_url", ""}, {"region", "cn-north-1"}}),
            "https://bucket.s3.cn-north-1.amazonaws.com.cn/k%20y");
  EXPECT_EQ(url({{"endpoint_url", "https://e:9000/base/"}}), "https://e:9000/base/bucket/k%20y");
  EXPECT_EQ(url({{"endpoint_url", "https://e"}, {"use_path_style", "false"}}),
            "https://bucket.e/k%20y");
  EXPECT_EQ(url({{"endpoint_url", "http://10.0.0.1:9000"}, {"use_path_style", "false"}}),
            "http://10.0.0.1:9000/bucket/k%20y");
  EXPECT_EQ(url({{"endpoint_url", ""}, {"bucket", "with.dots"}}),
            "https://s3.test-1.amazonaws.com/with.dots/k%20y");
  EXPECT_THAT(url({{"endpoint_url", "ftp://e"}}), HasSubstr("not an http or https URL"));
}

struct BadAttr {
  const char* key;
  const char* value;
  const char* message;
};
class BadS3AttrTest : public testing::TestWithParam<BadAttr> {};

TEST_P(BadS3AttrTest, IsNamed) {
  CacheAttrs attrs = {
      {"bucket", "b"}, {"region", "r"}, {"access_key_id", "i"}, {"secret_access_key", "s"}};
  ASSERT_TRUE(ReadS3CacheConfig(attrs, NoEnv).ok());
  attrs[GetParam().key] = GetParam().value;
  EXPECT_THAT(std::string(ReadS3CacheConfig(attrs, NoEnv).status().message()),
              HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Attributes, BadS3AttrTest,
    testing::ValuesIn<BadAttr>(
        {{"bucket", "", "bucket ($AWS_BUCKET) not set for s3 cache"},
         {"region", "", "region ($AWS_REGION) not set for s3 cache"},
         {"upload_parallelism", "0", "upload_parallelism must be a positive integer"},
         {"retry_max_attempts", "x", "retry_max_attempts must be a positive integer"},
         {"retry_mode", "never", "retry_mode must be"},
         {"prefix", "a/../b/", "no segment may be .."}}),
    [](const auto& test) { return std::string(test.param.key); });

TEST(S3ConfigTest, TheEnvironmentOfTheDaemonFillsIn) {
  const auto env = [](const char* name) -> std::optional<std::string> {
    const std::map<std::string, std::string> values = {{"AWS_BUCKET", "b"},
                                                       {"AWS_REGION", "r"},
                                                       {"AWS_ACCESS_KEY_ID", "i"},
                                                       {"AWS_SECRET_ACCESS_KEY", "s"}};
    const auto found = values.find(name);
    if (found == values.end()) return std::nullopt;
    return found->second;
  };
  const auto config = ReadS3CacheConfig({{"touch_refresh", "1h30m"}}, env);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->client.bucket, "b");
  EXPECT_EQ(config->client.credentials->Get({})->secret_access_key, "s");
  EXPECT_EQ(config->touch_refresh, absl::Minutes(90));
  EXPECT_EQ(config->blobs_prefix, "blobs/");
  EXPECT_THAT(config->names, ElementsAre("buildkit"));
}

}  // namespace
}  // namespace kiln::daemon
