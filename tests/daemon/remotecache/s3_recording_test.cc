// Requests that a server of others has accepted: testdata/s3/swift.json is what went between this
// test and OpenStack Swift 2.30.1 (s3api over tempauth; account test:tester with the key testing,
// buckets "bucket" and none other, storage_domain s3.example, min_segment_size 1000).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "daemon/remotecache/s3_client.h"
#include "tests/daemon/remotecache/recorded_server.h"

namespace kiln::daemon {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class S3RecordingTest : public testing::Test {
 protected:
  // `name` of a file in testdata/s3.
  void Start(const std::string& name) {
    server_.emplace(absl::StrCat(KILN_TESTDATA, "/s3/swift_", name, ".json"));
  }
  S3Options Options() {
    S3Options options;
    options.bucket = "bucket";
    options.region = "us-east-1";
    options.endpoint_url = "http://s3.example";
    options.use_path_style = true;
    options.credentials = As("testing");
    options.retry.max_attempts = 2;
    options.part_bytes = 1000;
    options.parts_at_once = 1;
    options.max_copy_bytes = 2000;
    options.now = [this] { return server_->time(); };
    options.sleep = [](absl::Duration, const CancelToken&) { return absl::OkStatus(); };
    return options;
  }
  static std::shared_ptr<AwsCredentialSource> As(const std::string& secret,
                                                 const std::string& token = "") {
    return std::make_shared<AwsCredentialSource>(AwsCredentials{"test:tester", secret, token});
  }
  static std::unique_ptr<S3Client> Open(S3Options options) {
    return S3Client::Create(std::move(options)).value();
  }
  static CacheObject ObjectOf(const std::string& bytes) {
    return {Digest::Of(bytes), static_cast<int64_t>(bytes.size()),
            [bytes](int64_t offset, char* out, size_t size) -> absl::StatusOr<size_t> {
              return bytes.copy(out, size, static_cast<size_t>(offset));
            }};
  }
  static absl::StatusOr<std::string> Get(S3Client& client, const std::string& key) {
    std::string out;
    const absl::Status status = client.Get(key, {}, [&](absl::string_view data) {
      out.append(data.data(), data.size());
      return absl::OkStatus();
    });
    if (!status.ok()) return status;
    return out;
  }

  std::optional<RecordedServer> server_;
};

TEST_F(S3RecordingTest, ObjectsGoAndComeBack) {
  Start("objects");
  const auto client = Open(Options());
  const std::string small = "some bytes";
  const std::string large = std::string(1000, 'a') + std::string(1000, 'b') + "end";
  // Every kind of byte that one party might write another way.
  const std::string odd = "a prefix/\xC3\xBC+&=~*'()!@$,;:%2F blobs/sha256:1";
  EXPECT_FALSE(client->Head(odd, {}).value().has_value());
  EXPECT_EQ(Get(*client, odd).status().code(), absl::StatusCode::kNotFound);
  for (const auto& [key, bytes] : {std::pair(odd, small), {std::string("large"), large}}) {
    EXPECT_EQ(client->Put(key, ObjectOf(bytes), {}), absl::OkStatus());
    EXPECT_EQ(client->Head(key, {}).value()->size_bytes, static_cast<int64_t>(bytes.size()));
    EXPECT_EQ(Get(*client, key).value(), bytes);
    EXPECT_EQ(client->Touch(key, static_cast<int64_t>(bytes.size()), {}), absl::OkStatus());
    EXPECT_EQ(Get(*client, key).value(), bytes);
  }
  server_->CutNext(1500);
  EXPECT_EQ(Get(*client, "large").value(), large);
}

TEST_F(S3RecordingTest, AnUploadThatFailsIsAborted) {
  Start("abort");
  const auto client = Open(Options());
  CacheObject object = ObjectOf(std::string(2500, 'x'));
  object.read = [read = object.read](int64_t offset, char* out,
                                     size_t size) -> absl::StatusOr<size_t> {
    if (offset >= 1000) return absl::DataLossError("the disk is gone");
    return read(offset, out, size);
  };
  EXPECT_EQ(client->Put("torn", object, {}).message(), "the disk is gone");
  EXPECT_FALSE(client->Head("torn", {}).value().has_value());
}

TEST_F(S3RecordingTest, BucketsInTheHostName) {
  Start("host");
  S3Options options = Options();
  options.use_path_style = false;
  const auto client = Open(std::move(options));
  EXPECT_EQ(client->Put("by/host name", ObjectOf("bytes"), {}), absl::OkStatus());
  EXPECT_EQ(Get(*client, "by/host name").value(), "bytes");
}

TEST_F(S3RecordingTest, SessionTokensAreSigned) {
  Start("token");
  S3Options options = Options();
  options.credentials = As("testing", "a/token+of=sorts");
  const auto client = Open(std::move(options));
  EXPECT_EQ(client->Put("with token", ObjectOf("bytes"), {}), absl::OkStatus());
}

TEST_F(S3RecordingTest, RefusalsAreTold) {
  Start("refusals");
  S3Options wrong = Options();
  wrong.credentials = As("not the one");
  const auto forger = Open(std::move(wrong));
  for (const absl::Status& status : {forger->Head("key", {}).status(), Get(*forger, "key").status(),
                                     forger->Put("key", ObjectOf("bytes"), {})}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("/bucket/key"), HasSubstr("403"),
                      HasSubstr("SignatureDoesNotMatch: The request signature")));
  }
  S3Options nowhere = Options();
  nowhere.bucket = "nowhere";
  const auto client = Open(std::move(nowhere));
  EXPECT_FALSE(client->Head("key", {}).value().has_value());
  for (const absl::Status& status :
       {Get(*client, "key").status(), client->Put("key", ObjectOf("bytes"), {})}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("/nowhere/key"), HasSubstr("NoSuchBucket")));
  }
}

}  // namespace
}  // namespace kiln::daemon
