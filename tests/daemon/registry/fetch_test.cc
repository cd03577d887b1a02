#include <zlib.h>

#include <atomic>
#include <thread>

#include "daemon/image/media_types.h"
#include "tests/daemon/registry/registry_fixture.h"
#include "tests/daemon/source/reserved_port.h"

namespace kiln::daemon {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

// A body of which only the first `sent` bytes come.
std::string CutAnswer(const std::string& bytes, size_t start, size_t sent) {
  std::string head = start == 0 ? "HTTP/1.1 200 OK\r\n" : "HTTP/1.1 206 Partial Content\r\n";
  if (start > 0)
    absl::StrAppend(&head, "Content-Range: bytes ", start, "-", bytes.size() - 1, "/", bytes.size(),
                    "\r\n");
  return absl::StrCat(head, "Connection: close\r\nContent-Length: ", bytes.size() - start,
                      "\r\n\r\n", bytes.substr(start, sent));
}

size_t StartOf(const TestHttpRequest& request) {
  const std::string range = request.Header("range");
  return range.empty() ? 0 : std::stoul(range.substr(strlen("bytes=")));
}

class FetchTest : public RegistryFixture {
 protected:
  const std::string bytes_ = [] {
    std::string out;
    for (int i = 0; i < 100'000; ++i) absl::StrAppend(&out, i, ",");
    return out;
  }();
};

// ---- names ----

TEST_F(FetchTest, ResolvesATagByHead) {
  const auto manifest = registry_.AddManifest("a/b", "v1", "{}", kOciManifest);
  const auto found = client().Resolve(Ref("a/b:v1"), Call());
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, manifest);
  EXPECT_THAT(registry_.Seen(), ElementsAre("HEAD /v2/a/b/manifests/v1"));
  const TestHttpRequest request = registry_.server().requests()[0];
  EXPECT_EQ(request.Header("user-agent"), "kiln/test");
  EXPECT_THAT(request.Header("accept"), AllOf(HasSubstr(kOciIndex), HasSubstr("*/*")));
}

TEST_F(FetchTest, P1_DigestWinsOverTag) {
  const auto first = registry_.AddManifest("a", "v1", "{\"v\":1}", kOciManifest);
  registry_.AddManifest("a", "v2", "{\"v\":2}", kOciManifest);
  const auto found = client().Resolve(Ref("a:v2@" + first.digest.ToString()), Call());
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->digest, first.digest);
}

TEST_F(FetchTest, ResolvesWithoutHelpfulHeaders) {
  registry_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (request.method == "HEAD") return TestHttpServer::Answer("405 Method Not Allowed");
    return TestHttpServer::Answer(
        "200 OK", {absl::StrCat("Content-Type: ", kOciIndex, "; charset=utf-8")}, "{\"x\":1}");
  };
  const auto found = client().Resolve(Ref("a:v"), Call());
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->digest, Digest::Of("{\"x\":1}"));
  EXPECT_EQ(found->media_type, kOciIndex);
  EXPECT_EQ(found->size_bytes, 7);
}

TEST_F(FetchTest, AnotherDigestThanAskedForIsRefused) {
  const Digest wanted = Digest::Of("wanted");
  registry_.fault = [&](const TestHttpRequest&) -> std::optional<std::string> {
    return TestHttpServer::Answer("200 OK",
                                  {"Docker-Content-Digest: " + Digest::Of("{}").ToString()}, "{}");
  };
  const auto found = client().Resolve(Ref("a@" + wanted.ToString()), Call());
  EXPECT_TRUE(absl::IsDataLoss(found.status())) << found.status();
  EXPECT_THAT(Text(found.status()),
              AllOf(HasSubstr(wanted.ToString()), HasSubstr(Digest::Of("{}").ToString())));
}

TEST_F(FetchTest, ADigestIsLookedForAmongBlobsToo) {
  const auto blob = registry_.AddBlob("a", "config");
  registry_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (!absl::StrContains(request.path, "/blobs/")) return std::nullopt;
    return TestHttpServer::Answer("200 OK", {"Docker-Content-Digest: " + blob.digest.ToString()},
                                  "config");
  };
  EXPECT_TRUE(client().Resolve(Ref("a@" + blob.digest.ToString()), Call()).ok());
}

TEST_F(FetchTest, MissingNamesAreNotFound) {
  const auto found = client().Resolve(Ref("a:gone"), Call());
  EXPECT_TRUE(absl::IsNotFound(found.status()));
  EXPECT_THAT(Text(found.status()), HasSubstr("/a:gone: not found"));
  EXPECT_TRUE(waits_.empty()) << "there is nothing to wait for";
}

TEST_F(FetchTest, P10_Schema1AndLargeManifestsAreRefused) {
  registry_.AddManifest("a", "old", "{}",
                        "application/vnd.docker.distribution.manifest.v1+prettyjws");
  EXPECT_THAT(Text(client().Resolve(Ref("a:old"), Call()).status()), HasSubstr("schema 1"));
  registry_.AddManifest("a", "big", std::string(5 << 20, ' '), kOciManifest);
  const auto big = client().Resolve(Ref("a:big"), Call());
  EXPECT_TRUE(absl::IsResourceExhausted(big.status()));
  EXPECT_THAT(Text(big.status()), HasSubstr("5242880"));
}

TEST_F(FetchTest, A403TellsItsReason) {
  registry_.fault = [&](const TestHttpRequest&) -> std::optional<std::string> {
    return FakeRegistry::Error("403 Forbidden", "DENIED", "you are not on the list");
  };
  const auto found = client().Resolve(Ref("a:v"), Call());
  EXPECT_TRUE(absl::IsPermissionDenied(found.status()));
  EXPECT_THAT(Text(found.status()), HasSubstr("DENIED: you are not on the list"));
}

// ---- small objects ----

TEST_F(FetchTest, FetchesManifestsAndBlobsFromTheirPlaces) {
  const auto manifest = registry_.AddManifest("a", "", "{}", kOciManifest);
  const auto config = registry_.AddBlob("a", "{\"c\":1}", kOciConfig);
  EXPECT_EQ(client().FetchSmall(Ref("a"), manifest, Call()).value(), "{}");
  EXPECT_EQ(client().FetchSmall(Ref("a"), config, Call()).value(), "{\"c\":1}");
  EXPECT_THAT(registry_.Seen(), ElementsAre("GET /v2/a/manifests/" + manifest.digest.ToString(),
                                            "GET /v2/a/blobs/" + config.digest.ToString()));
}

TEST_F(FetchTest, P9_AFlippedByteIsNoManifest) {
  const auto manifest = registry_.AddManifest("a", "", "{\"a\":1}", kOciManifest);
  registry_.fault = [&](const TestHttpRequest&) -> std::optional<std::string> {
    return TestHttpServer::Answer("200 OK", {}, "{\"a\":2}");
  };
  const auto got = client().FetchSmall(Ref("a"), manifest, Call());
  EXPECT_TRUE(absl::IsDataLoss(got.status()));
  EXPECT_THAT(Text(got.status()), HasSubstr("digest mismatch"));
}

TEST_F(FetchTest, CompressedAnswersAreDecoded) {
  const std::string text(10'000, 'x');
  const auto manifest = registry_.AddManifest("a", "", text, kOciManifest);
  std::string packed(20'000, '\0');
  z_stream stream = {};
  ASSERT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  ASSERT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  registry_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    EXPECT_THAT(request.Header("accept-encoding"), HasSubstr("gzip"));
    return TestHttpServer::Answer("200 OK", {"Content-Encoding: gzip"}, packed);
  };
  EXPECT_EQ(client().FetchSmall(Ref("a"), manifest, Call()).value(), text);
}

TEST_F(FetchTest, AnEndlessManifestIsCutOff) {
  store::Descriptor manifest = registry_.AddManifest("a", "", "{}", kOciManifest);
  registry_.fault = [&](const TestHttpRequest&) -> std::optional<std::string> {
    return TestHttpServer::Answer("200 OK", {}, std::string(1 << 20, 'x'));
  };
  EXPECT_TRUE(absl::IsResourceExhausted(client().FetchSmall(Ref("a"), manifest, Call()).status()));
}

// ---- blobs ----

TEST_F(FetchTest, BlobWholeAndFromAnOffset) {
  const auto blob = registry_.AddBlob("a", bytes_);
  EXPECT_EQ(Fetch(Ref("a"), blob).value(), bytes_);
  EXPECT_EQ(Fetch(Ref("a"), blob, 1000).value(), bytes_.substr(1000));
  EXPECT_EQ(registry_.server().requests()[1].Header("range"), "bytes=1000-");
}

TEST_F(FetchTest, P7_ResumesADownloadThatIsCutThreeTimes) {
  const auto blob = registry_.AddBlob("a", bytes_);
  std::atomic<int> cuts = 0;
  registry_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (cuts++ >= 3) return std::nullopt;
    const size_t start = StartOf(request);
    return CutAnswer(bytes_, start, (bytes_.size() - start) * 6 / 10);
  };
  EXPECT_EQ(Fetch(Ref("a"), blob).value(), bytes_);
  const auto requests = registry_.server().requests();
  ASSERT_EQ(requests.size(), 4u);
  EXPECT_EQ(requests[0].Header("range"), "");
  for (size_t i = 1; i < requests.size(); ++i) EXPECT_GT(StartOf(requests[i]), 0u);
}

TEST_F(FetchTest, P8_A200ToARangeRequestLosesItsBeginning) {
  const auto blob = registry_.AddBlob("a", bytes_);
  registry_.ignore_ranges = true;
  std::atomic<int> cuts = 0;
  registry_.fault = [&](const TestHttpRequest&) -> std::optional<std::string> {
    if (cuts++ >= 1) return std::nullopt;
    return CutAnswer(bytes_, 0, 1234);
  };
  EXPECT_EQ(Fetch(Ref("a"), blob).value(), bytes_);
}

TEST_F(FetchTest, P9_AFlippedByteIsNoBlob) {
  const auto blob = registry_.AddBlob("a", bytes_);
  registry_.fault = [&](const TestHttpRequest&) -> std::optional<std::string> {
    std::string wrong = bytes_;
    wrong[77] ^= 1;
    return TestHttpServer::Answer("200 OK", {}, wrong);
  };
  const auto got = Fetch(Ref("a"), blob);
  EXPECT_TRUE(absl::IsDataLoss(got.status())) << got.status();
  EXPECT_THAT(Text(got.status()),
              AllOf(HasSubstr("digest mismatch"), HasSubstr(blob.digest.ToString()),
                    HasSubstr(registry_.host())));
}

TEST_F(FetchTest, TooManyBytesAreAnError) {
  const auto blob = registry_.AddBlob("a", bytes_);
  registry_.fault = [&](const TestHttpRequest&) -> std::optional<std::string> {
    return TestHttpServer::Answer("200 OK", {}, bytes_ + "more");
  };
  EXPECT_TRUE(absl::IsDataLoss(Fetch(Ref("a"), blob).status()));
}

TEST_F(FetchTest, ARegistryThatCutsWithoutEndIsGivenUp) {
  const auto blob = registry_.AddBlob("a", bytes_);
  registry_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    return CutAnswer(bytes_, StartOf(request), StartOf(request) == 0 ? 100 : 0);
  };
  const auto got = Fetch(Ref("a"), blob);
  EXPECT_FALSE(got.ok());
  EXPECT_THAT(Text(got.status()), HasSubstr(blob.digest.ToString()));
  // One that gets further and four tries that do not, of two requests each.
  EXPECT_EQ(registry_.Seen().size(), 9u);
  const absl::Duration again = absl::Milliseconds(50);
  EXPECT_THAT(waits_, ElementsAre(again, absl::Seconds(1), again, absl::Seconds(2), again,
                                  absl::Seconds(4), again));
}

// The registry goes away in mid-blob and comes back on the same port a while later.
TEST_F(FetchTest, SurvivesARestartInMidBlob) {
  const ReservedPort port;
  auto first = std::make_unique<FakeRegistry>(port.number());
  const auto blob = first->AddBlob("a", bytes_);
  first->fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    return StartOf(request) == 0 ? CutAnswer(bytes_, 0, 5000)
                                 : "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
                                   "Content-Length: 0\r\n\r\n";
  };
  const Reference repository = Ref("a", first.get());
  std::unique_ptr<FakeRegistry> second;
  on_wait_ = [&] {
    if (waits_.size() == 3) first->server().Stop();
    if (waits_.size() == 5) {
      second = std::make_unique<FakeRegistry>(port.number());
      second->AddBlob("a", bytes_);
    }
  };
  const auto got = Fetch(repository, blob);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(*got, bytes_);
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(second->server().requests()[0].Header("range"), "bytes=5000-");
}

TEST_F(FetchTest, AnErrorOfTheTakerIsTheAnswer) {
  const auto blob = registry_.AddBlob("a", bytes_);
  const absl::Status status = client().FetchBlob(Ref("a"), blob, 0, Call(), [](absl::string_view) {
    return absl::UnavailableError("disk on fire");
  });
  EXPECT_EQ(status, absl::UnavailableError("disk on fire"));
  EXPECT_EQ(registry_.Seen().size(), 1u);
}

TEST_F(FetchTest, SlowRegistryIsCancelledAtOnce) {
  const auto blob = registry_.AddBlob("a", bytes_);
  registry_.fault = [&](const TestHttpRequest&) -> std::optional<std::string> {
    cancel_.Cancel(absl::CancelledError("enough"));
    return "";
  };
  EXPECT_EQ(Fetch(Ref("a"), blob).status(), absl::CancelledError("enough"));
}

TEST_F(FetchTest, BlobOfUnknownSize) {
  store::Descriptor blob = registry_.AddBlob("a", bytes_);
  blob.size_bytes = 0;
  EXPECT_EQ(Fetch(Ref("a"), blob).value(), bytes_);
}

// ---- tries ----

TEST_F(FetchTest, P18_WaitsAsLongAsItIsTold) {
  registry_.AddManifest("a", "v", "{}", kOciManifest);
  std::atomic<int> asked = 0;
  registry_.fault = [&](const TestHttpRequest&) -> std::optional<std::string> {
    if (asked++ >= 2) return std::nullopt;
    return FakeRegistry::Error("429 Too Many Requests", "TOOMANYREQUESTS", "slow down",
                               {"Retry-After: 7"});
  };
  EXPECT_TRUE(client().Resolve(Ref("a:v"), Call()).ok());
  EXPECT_EQ(registry_.Seen().size(), 3u);
  EXPECT_THAT(waits_, ElementsAre(absl::Seconds(7), absl::Seconds(7)));
}

TEST_F(FetchTest, RetryAfterIsBounded) {
  registry_.AddManifest("a", "v", "{}", kOciManifest);
  std::atomic<int> asked = 0;
  registry_.fault = [&](const TestHttpRequest&) -> std::optional<std::string> {
    if (asked++ >= 1) return std::nullopt;
    return FakeRegistry::Error("503 Service Unavailable", "UNKNOWN", "", {"Retry-After: 86400"});
  };
  EXPECT_TRUE(client().Resolve(Ref("a:v"), Call()).ok());
  EXPECT_THAT(waits_, ElementsAre(absl::Minutes(1)));
}

TEST_F(FetchTest, ServerErrorsAreTriedAgainAndThenTold) {
  registry_.fault = [&](const TestHttpRequest&) -> std::optional<std::string> {
    return FakeRegistry::Error("500 Internal Server Error", "UNKNOWN", "disk full");
  };
  const auto found = client().Resolve(Ref("a:v"), Call());
  EXPECT_TRUE(absl::IsUnavailable(found.status()));
  EXPECT_THAT(Text(found.status()), AllOf(HasSubstr("500"), HasSubstr("a:v")));
  EXPECT_THAT(log_, testing::IsSupersetOf({"retrying in 1s", "retrying in 2s", "retrying in 4s"}));
}

TEST_F(FetchTest, NobodyThereIsToldAtOnce) {
  registry_.server().Stop();
  const auto found = client().Resolve(Ref("a:v"), Call());
  EXPECT_TRUE(absl::IsUnavailable(found.status()));
  EXPECT_TRUE(log_.empty());
}

// ---- redirects ----

TEST_F(FetchTest, CredentialsDoNotFollowARedirectToAnotherHost) {
  FakeRegistry storage;
  const auto blob = storage.AddBlob("s", bytes_);
  registry_.AddBlob("a", bytes_);
  registry_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (!absl::StrContains(request.path, "/blobs/")) return std::nullopt;
    return TestHttpServer::Answer(
        "307 Temporary Redirect",
        {absl::StrCat("Location: http://localhost:", storage.server().port(), "/v2/s/blobs/",
                      blob.digest.ToString())});
  };
  EXPECT_EQ(Fetch(Ref("a"), blob).value(), bytes_);
  EXPECT_EQ(storage.server().requests()[0].Header("authorization"), "");
}

TEST_F(FetchTest, RedirectsWithoutEndAreGivenUp) {
  const auto blob = registry_.AddBlob("a", bytes_);
  registry_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    return TestHttpServer::Answer("302 Found", {"Location: " + request.path});
  };
  EXPECT_TRUE(absl::IsFailedPrecondition(Fetch(Ref("a"), blob).status()));
  EXPECT_LE(registry_.Seen().size(), 12u);
}

TEST_F(FetchTest, ForeignAddressesMayNotBeLocalOnes) {
  FakeRegistry elsewhere;
  store::Descriptor blob = elsewhere.AddBlob("x", bytes_);
  blob.urls = {elsewhere.server().Url("/v2/x/blobs/" + blob.digest.ToString())};
  // From a registry on loopback they may: it is the user's own machine.
  EXPECT_EQ(Fetch(Ref("a"), blob).value(), bytes_);
  EXPECT_TRUE(registry_.Seen().empty());
  elsewhere.server().Forget();
  config_["registry.invalid"].mirrors = {registry_.host()};
  client_.reset();
  registry_.AddBlob("a", bytes_);
  EXPECT_EQ(Fetch(*Reference::ParseFamiliar("registry.invalid/a"), blob).value(), bytes_);
  EXPECT_TRUE(elsewhere.Seen().empty());
}

// ---- mirrors ----

TEST_F(FetchTest, P16_MirrorDownThenUp) {
  FakeRegistry mirror;
  config_[registry_.host()].mirrors = {mirror.host() + "/some/prefix"};
  const auto blob = registry_.AddBlob("a", bytes_);
  const auto manifest = registry_.AddManifest("a", "v", "{}", kOciManifest);
  bool down = true;
  mirror.fault = [&](const TestHttpRequest&) -> std::optional<std::string> {
    if (!down) return std::nullopt;
    return TestHttpServer::Answer("502 Bad Gateway");
  };
  EXPECT_EQ(client().Resolve(Ref("a:v"), Call()).value(), manifest);
  EXPECT_EQ(Fetch(Ref("a"), blob).value(), bytes_);
  EXPECT_FALSE(registry_.Seen().empty());

  down = false;
  mirror.AddBlob("some/prefix/a", bytes_);
  mirror.AddManifest("some/prefix/a", "v", "{}", kOciManifest);
  mirror.server().Forget();
  registry_.server().Forget();
  EXPECT_EQ(client().Resolve(Ref("a:v"), Call()).value(), manifest);
  EXPECT_EQ(Fetch(Ref("a"), blob).value(), bytes_);
  EXPECT_TRUE(registry_.Seen().empty());
  EXPECT_THAT(mirror.Seen(),
              ElementsAre("HEAD /v2/some/prefix/a/manifests/v?ns=" + registry_.host(),
                          "GET /v2/some/prefix/a/blobs/" + blob.digest.ToString() +
                              "?ns=" + registry_.host()));
}

TEST_F(FetchTest, AMirrorThatBreaksOffIsContinuedUpstream) {
  FakeRegistry mirror;
  config_[registry_.host()].mirrors = {mirror.host()};
  const auto blob = registry_.AddBlob("a", bytes_);
  mirror.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    return CutAnswer(bytes_, StartOf(request), StartOf(request) == 0 ? 4000 : 0);
  };
  EXPECT_EQ(Fetch(Ref("a"), blob).value(), bytes_);
  EXPECT_EQ(registry_.server().requests()[0].Header("range"), "bytes=4000-");
}

TEST_F(FetchTest, AMirrorThatSendsOtherBytesIsNotAskedAgain) {
  FakeRegistry mirror;
  config_[registry_.host()].mirrors = {mirror.host()};
  const auto blob = registry_.AddBlob("a", bytes_);
  mirror.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    return CutAnswer(std::string(bytes_.size(), 'x'), StartOf(request), bytes_.size());
  };
  const absl::Status wrong = Fetch(Ref("a"), blob).status();
  EXPECT_TRUE(absl::IsAborted(wrong)) << wrong;
  EXPECT_THAT(std::string(wrong.message()),
              AllOf(HasSubstr("digest mismatch"), HasSubstr(mirror.host())));
  EXPECT_EQ(Fetch(Ref("a"), blob).value(), bytes_);
  EXPECT_EQ(mirror.Seen().size(), 1u);
  // Other blobs are still asked for there.
  const auto other = registry_.AddBlob("a", "other");
  Fetch(Ref("a"), other).status().IgnoreError();
  EXPECT_EQ(mirror.Seen().size(), 2u);
}

// ---- hosts ----

TEST_F(FetchTest, P17_NoPlainHttpBeyondLoopbackUnlessConfigured) {
  registry_.AddManifest("a", "v", "{}", kOciManifest);
  EXPECT_TRUE(client().Resolve(Ref("a:v"), Call()).ok());
  // The same server under a configuration that wants https.
  config_[registry_.host()].http = false;
  client_.reset();
  const auto refused = client().Resolve(Ref("a:v"), Call());
  EXPECT_TRUE(absl::IsUnavailable(refused.status())) << refused.status();
  EXPECT_THAT(Text(refused.status()), AllOf(HasSubstr("https://"), HasSubstr("SSL")));
  EXPECT_THAT(registry_.Seen(), testing::SizeIs(1)) << "nothing in the clear";
  config_[registry_.host()].http = true;
  client_.reset();
  EXPECT_TRUE(client().Resolve(Ref("a:v"), Call()).ok());
  config_[registry_.host()].insecure = true;
  client_.reset();
  EXPECT_TRUE(client().Resolve(Ref("a:v"), Call()).ok()) << "falls back to plain http";
}

TEST_F(FetchTest, AnInsecureCallFallsBackToPlainHttp) {
  registry_.AddManifest("a", "v", "{}", kOciManifest);
  config_[registry_.host()].http = false;
  RegistryCall call = Call();
  call.insecure = true;
  EXPECT_TRUE(client().Resolve(Ref("a:v"), call).ok());
}

TEST_F(FetchTest, FourAtATimeFromOneHostAndOneMoreForJson) {
  std::atomic<int> now = 0, most = 0;
  CancelSource release;
  const auto blob = registry_.AddBlob("a", bytes_);
  const auto manifest = registry_.AddManifest("a", "", "{}", kOciManifest);
  registry_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (absl::StrContains(request.path, "/manifests/")) return std::nullopt;
    const int running = ++now;
    for (int seen = most; seen < running && !most.compare_exchange_weak(seen, running);) {
    }
    (void)release.token().SleepFor(absl::Seconds(20));
    --now;
    return std::nullopt;
  };
  client();
  std::vector<std::thread> threads;
  for (int i = 0; i < 7; ++i)
    threads.emplace_back([&] { EXPECT_EQ(Fetch(Ref("a"), blob).value(), bytes_); });
  while (most < 4) std::this_thread::yield();
  EXPECT_TRUE(client().FetchSmall(Ref("a"), manifest, Call()).ok()) << "passes by the downloads";
  release.Cancel();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(most, 4);
}

TEST_F(FetchTest, HasBlob) {
  const auto blob = registry_.AddBlob("a", bytes_);
  EXPECT_TRUE(client().HasBlob(Ref("a"), blob, Call()).value());
  EXPECT_FALSE(client().HasBlob(Ref("b"), blob, Call()).value());
  EXPECT_THAT(registry_.Seen(), testing::Each(HasSubstr("HEAD ")));
}

}  // namespace
}  // namespace kiln::daemon
