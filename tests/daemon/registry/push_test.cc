#include <atomic>

#include "daemon/image/media_types.h"
#include "tests/daemon/registry/registry_fixture.h"

namespace kiln::daemon {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using Outcome = Registry::PushOutcome;
constexpr auto kUnlessThere = Registry::PutManifest::kUnlessThere;

class PushTest : public RegistryFixture {
 protected:
  static store::Descriptor Of(const std::string& bytes) {
    store::Descriptor out;
    out.media_type = "application/octet-stream";
    out.digest = Digest::Of(bytes);
    out.size_bytes = static_cast<int64_t>(bytes.size());
    return out;
  }
  absl::StatusOr<Outcome> Push(const std::string& repository, const std::string& bytes,
                               const std::string& from = "") {
    return client().PushBlob(
        Ref(repository), Of(bytes), from, Call(),
        [&]() -> absl::StatusOr<Registry::BlobReader> {
          ++opened_;
          return Registry::BlobReader(
              [&bytes, at = size_t{0}](char* out, size_t size) mutable -> absl::StatusOr<size_t> {
                const size_t n = bytes.copy(out, size, at);
                at += n;
                return n;
              });
        },
        [this](int64_t sent) { sent_ = sent; });
  }

  std::atomic<int> opened_ = 0;
  std::atomic<int64_t> sent_ = 0;
};

TEST_F(PushTest, UploadsWhatIsMissing) {
  const std::string bytes(3 << 20, 'x');
  EXPECT_EQ(Push("a", bytes).value(), Outcome::kUploaded);
  EXPECT_EQ(registry_.Blob("a", Digest::Of(bytes)), bytes);
  EXPECT_EQ(sent_, static_cast<int64_t>(bytes.size()));
  EXPECT_EQ(opened_, 1);
  EXPECT_EQ(Push("a", bytes).value(), Outcome::kExisted);
  EXPECT_EQ(opened_, 1);
}

TEST_F(PushTest, P19_MountsWhatTheRegistryHas) {
  registry_.AddBlob("from", "layer");
  EXPECT_EQ(Push("to", "layer", "from").value(), Outcome::kMounted);
  EXPECT_EQ(registry_.Blob("to", Digest::Of("layer")), "layer");
  EXPECT_EQ(opened_, 0);
  EXPECT_EQ(registry_.Count("GET "), 0u);
  EXPECT_EQ(Push("to", "other layer", "from").value(), Outcome::kUploaded)
      << "not there to be mounted";
}

TEST_F(PushTest, MountsFromAClosedRepositoryBecomeUploads) {
  registry_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (!absl::StrContains(request.path, "mount=")) return std::nullopt;
    return FakeRegistry::Error("401 Unauthorized", "UNAUTHORIZED", "no");
  };
  EXPECT_EQ(Push("to", "layer", "closed").value(), Outcome::kUploaded);
}

TEST_F(PushTest, TooLargeForOneRequestGoesInPieces) {
  std::string bytes(40 << 20, '\0');
  for (size_t i = 0; i < bytes.size(); i += 4096) bytes[i] = static_cast<char>(i >> 12);
  registry_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (request.method != "PUT" || request.body.empty()) return std::nullopt;
    return TestHttpServer::Answer("413 Payload Too Large");
  };
  EXPECT_EQ(Push("a", bytes).value(), Outcome::kUploaded);
  EXPECT_EQ(registry_.Blob("a", Digest::Of(bytes)), bytes);
  EXPECT_EQ(registry_.Count("PATCH "), 3u);
}

TEST_F(PushTest, ABrokenUploadStartsOver) {
  std::atomic<int> broken = 0;
  registry_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (request.method != "PUT" || broken++ >= 2) return std::nullopt;
    return FakeRegistry::Error("502 Bad Gateway", "UNKNOWN", "storage");
  };
  EXPECT_EQ(Push("a", "layer").value(), Outcome::kUploaded);
  EXPECT_EQ(opened_, 3);
  EXPECT_THAT(log_, Contains("retrying in 2s"));
}

TEST_F(PushTest, UploadsElsewhereCarryNoCredentials) {
  FakeRegistry storage;
  registry_.authorization = "Bearer t";
  registry_.challenge = absl::StrCat("Bearer realm=\"", storage.server().Url("/token"), "\"");
  std::string seen = "nothing";
  storage.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (absl::StartsWith(request.path, "/token"))
      return TestHttpServer::Answer("200 OK", {}, R"({"token":"t"})");
    seen = request.Header("authorization");
    return TestHttpServer::Answer("201 Created");
  };
  registry_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (request.method != "POST" || request.Header("authorization").empty()) return std::nullopt;
    return TestHttpServer::Answer("202 Accepted",
                                  {"Location: " + storage.server().Url("/put?k=1")});
  };
  EXPECT_EQ(Push("a", "layer").value(), Outcome::kUploaded);
  EXPECT_EQ(seen, "");
  EXPECT_THAT(storage.Seen(), Contains(HasSubstr("PUT /put?k=1&digest=sha256:")));
  EXPECT_THAT(storage.Seen(), Contains(HasSubstr("scope=repository%3Aa%3Apull%2Cpush")));
}

TEST_F(PushTest, WhatIsStoredMustBeWhatWasSent) {
  registry_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (request.method != "PUT") return std::nullopt;
    return TestHttpServer::Answer("201 Created",
                                  {"Docker-Content-Digest: " + Digest::Of("else").ToString()});
  };
  EXPECT_TRUE(absl::IsDataLoss(Push("a", "layer").status()));
}

TEST_F(PushTest, AReaderThatEndsEarlyIsToldAsSuch) {
  const absl::StatusOr<Outcome> outcome = client().PushBlob(
      Ref("a"), Of("layer"), "", Call(),
      []() -> absl::StatusOr<Registry::BlobReader> {
        return Registry::BlobReader([](char*, size_t) -> absl::StatusOr<size_t> { return 0; });
      },
      nullptr);
  EXPECT_TRUE(absl::IsDataLoss(outcome.status())) << outcome.status();
}

TEST_F(PushTest, ManifestsByTagAndByDigest) {
  const std::string bytes = "{\"schemaVersion\":2}";
  store::Descriptor manifest = Of(bytes);
  manifest.media_type = kOciManifest;
  EXPECT_TRUE(client().PushManifest(Ref("a:v"), manifest, bytes, false, kUnlessThere, Call()).ok());
  EXPECT_EQ(registry_.Manifest("a", "v"), bytes);
  EXPECT_TRUE(client().PushManifest(Ref("a:v"), manifest, bytes, false, kUnlessThere, Call()).ok());
  EXPECT_EQ(registry_.Count("PUT "), 1u) << "it is there already";
  EXPECT_TRUE(
      client()
          .PushManifest(Ref("a:w"), manifest, bytes, false, Registry::PutManifest::kAtOnce, Call())
          .ok());
  EXPECT_EQ(registry_.Manifest("a", "w"), bytes);
  EXPECT_EQ(registry_.Count("HEAD "), 2u) << "not asked for the second tag";
  EXPECT_TRUE(client().PushManifest(Ref("b:v"), manifest, bytes, true, kUnlessThere, Call()).ok());
  EXPECT_EQ(registry_.Manifest("b", "v"), "");
  EXPECT_EQ(registry_.Manifest("b", manifest.digest.ToString()), bytes);
  EXPECT_TRUE(absl::IsDataLoss(
      client().PushManifest(Ref("a:v"), manifest, "{}", false, kUnlessThere, Call())));
}

// "Expect: 100-continue" would cost a round trip more.
TEST_F(PushTest, AManifestIsSentWithItsHeadersAndAgainAfterARedirect) {
  const std::string bytes = "{\"schemaVersion\":2}";
  store::Descriptor manifest = Of(bytes);
  manifest.media_type = kOciManifest;
  registry_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (request.method != "PUT" || absl::StrContains(request.path, "elsewhere"))
      return std::nullopt;
    return TestHttpServer::Answer("307 Temporary Redirect",
                                  {"Location: /v2/elsewhere/manifests/v1"});
  };
  EXPECT_TRUE(client()
                  .PushManifest(Ref("app:v1"), manifest, bytes, false,
                                Registry::PutManifest::kAtOnce, Call())
                  .ok());
  EXPECT_EQ(registry_.Manifest("elsewhere", "v1"), bytes);
  EXPECT_THAT(registry_.Seen(),
              ElementsAre("PUT /v2/app/manifests/v1", "PUT /v2/elsewhere/manifests/v1"));
  for (const TestHttpRequest& request : registry_.server().requests()) {
    EXPECT_EQ(request.Header("expect"), "");
    EXPECT_EQ(request.body, bytes);
  }
}

TEST_F(PushTest, WhatSpeaksOfAnotherIsListedWhereTheRegistryDoesNot) {
  const Digest subject = Digest::Of("subject");
  const std::string tag = "sha256-" + subject.hex();
  const auto push = [&](const std::string& type, const std::string& more = "") {
    const std::string bytes = absl::StrCat(
        R"({"schemaVersion":2,"artifactType":")", type, R"(","annotations":{"k":"v"},"subject":)",
        R"({"digest":")", subject.ToString(), R"(","size":1})", more, "}");
    store::Descriptor manifest = Of(bytes);
    manifest.media_type = kOciManifest;
    EXPECT_TRUE(client().PushManifest(Ref("a"), manifest, bytes, true, kUnlessThere, Call()).ok());
    return absl::StrCat(R"({"mediaType":")", kOciManifest, R"(","digest":")",
                        manifest.digest.ToString(), R"(","size":)", bytes.size(),
                        R"(,"annotations":{"k":"v"},"artifactType":")", type, R"("})");
  };
  const std::string begin =
      absl::StrCat(R"({"schemaVersion":2,"mediaType":")", kOciIndex, R"(","manifests":[)");
  const std::string one = push("t/one");
  EXPECT_EQ(registry_.Manifest("a", tag), absl::StrCat(begin, one, "]}"));
  const std::string two = push("t/two");
  EXPECT_EQ(registry_.Manifest("a", tag), absl::StrCat(begin, one, ",", two, "]}"));
  // A registry that keeps the list says so.
  registry_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (request.method != "PUT") return std::nullopt;
    return TestHttpServer::Answer("201 Created", {"OCI-Subject: " + subject.ToString()});
  };
  push("t/three");
  EXPECT_EQ(registry_.Manifest("a", tag), absl::StrCat(begin, one, ",", two, "]}"));
}

TEST_F(PushTest, AThrottledPushWaitsAsLongAsItIsTold) {
  std::atomic<int> left = 3;
  registry_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (request.method == "HEAD" || left-- <= 0) return std::nullopt;
    return FakeRegistry::Error("429 Too Many Requests", "TOOMANYREQUESTS", "slow down",
                               {"Retry-After: 7"});
  };
  EXPECT_EQ(Push("a", "layer").value(), Outcome::kUploaded);
  EXPECT_THAT(waits_, ElementsAre(absl::Seconds(7), absl::Seconds(7), absl::Seconds(7)));
  EXPECT_EQ(registry_.Blob("a", Digest::Of("layer")), "layer");
}

TEST_F(PushTest, ServerErrorsAreTriedAgainAndThenTold) {
  std::atomic<int> left = 2;
  registry_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (request.method != "PUT" || left-- <= 0) return std::nullopt;
    return FakeRegistry::Error("503 Service Unavailable", "UNAVAILABLE", "storage is away");
  };
  store::Descriptor manifest = Of("{}");
  EXPECT_TRUE(client().PushManifest(Ref("a:v"), manifest, "{}", false, kUnlessThere, Call()).ok());
  EXPECT_EQ(registry_.Manifest("a", "v"), "{}");
  left = 1000;
  const absl::Status status =
      client().PushManifest(Ref("a:w"), manifest, "{}", false, kUnlessThere, Call());
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(HasSubstr(registry_.host() + "/a:w"), HasSubstr("storage is away")));
}

TEST_F(PushTest, ASlowRegistryIsLeftAtOnce) {
  registry_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (request.method != "PUT") return std::nullopt;
    cancel_.Cancel(absl::CancelledError("enough"));
    return "";
  };
  EXPECT_EQ(Push("a", "layer").status(), absl::CancelledError("enough"));
}

TEST_F(PushTest, AListOfReferrersThatIsNoneStaysAsItIs) {
  const Digest subject = Digest::Of("subject");
  registry_.AddManifest("a", "sha256-" + subject.hex(), "{\"config\":{}}", kOciManifest);
  const std::string bytes = absl::StrCat(R"({"subject":{"digest":")", subject.ToString(), R"("}})");
  store::Descriptor manifest = Of(bytes);
  manifest.media_type = kOciManifest;
  const absl::Status status =
      client().PushManifest(Ref("a"), manifest, bytes, true, kUnlessThere, Call());
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(HasSubstr("list of referrers"), HasSubstr("no index")));
  EXPECT_EQ(registry_.Manifest("a", "sha256-" + subject.hex()), "{\"config\":{}}");
}

TEST_F(PushTest, WarningsOfTheRegistryAreTold) {
  registry_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (request.method != "PUT") return std::nullopt;
    return TestHttpServer::Answer("201 Created", {"Warning: 299 - \"this tag is old\""});
  };
  store::Descriptor manifest = Of("{}");
  EXPECT_TRUE(client().PushManifest(Ref("a:v"), manifest, "{}", false, kUnlessThere, Call()).ok());
  EXPECT_THAT(log_, ElementsAre(HasSubstr("this tag is old")));
}

TEST_F(PushTest, RefusalsNameTheRepositoryAndTheReason) {
  registry_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (request.method == "HEAD") return TestHttpServer::Answer("403 Forbidden", {});
    return FakeRegistry::Error("403 Forbidden", "DENIED", "read only");
  };
  const auto outcome = Push("team/app", "layer");
  EXPECT_TRUE(absl::IsPermissionDenied(outcome.status()));
  EXPECT_THAT(std::string(outcome.status().message()),
              testing::AllOf(HasSubstr(registry_.host() + "/team/app"), HasSubstr("read only"),
                             HasSubstr(Digest::Of("layer").ToString())));
}

}  // namespace
}  // namespace kiln::daemon
