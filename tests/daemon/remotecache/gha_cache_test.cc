#include "daemon/remotecache/gha_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "absl/strings/str_cat.h"
#include "tests/daemon/remotecache/actions_server.h"
#include "tests/daemon/remotecache/object_bytes.h"

namespace kiln::daemon {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// The keys are those of BuildKit: a scope's first 8 hex digits.
std::string ConfigKey(const std::string& ref, int number) {
  return absl::StrCat("index-buildkit-1-", Digest::Of(ref).hex().substr(0, 8), "#", number);
}
std::string BlobKey(const std::string& bytes) {
  return "buildkit-blob-1-" + Digest::Of(bytes).ToString();
}

class GhaCacheTest : public testing::Test {
 protected:
  std::unique_ptr<CacheObjects> Open(const std::map<std::string, int>& scopes,
                                     const CacheAttrs& more = {}) {
    CacheAttrs attrs = {{"url_v2", server_.url() + "/"}, {"token", ActionsServer::Token(scopes)}};
    for (const auto& [key, value] : more) attrs[key] = value;
    auto config = ReadGhaCacheConfig(attrs, absl::Now());
    EXPECT_TRUE(config.ok()) << config.status();
    config->api_url = server_.url();
    config->service.block_bytes = 1000;
    config->service.sleep = [this](absl::Duration wait, const CancelToken& cancel) {
      MutexLock lock(&mu_);
      waits_.push_back(wait);
      return cancel.status();
    };
    return NewGhaObjects(*std::move(config));
  }
  std::unique_ptr<CacheObjects> Open() { return Open({{"refs/heads/main", 3}}); }
  ActionsServer server_;
  Mutex mu_;
  std::vector<absl::Duration> waits_;
};

TEST_F(GhaCacheTest, BlobsGoAndComeBack) {
  const auto objects = Open();
  for (const std::string& bytes : {std::string("small"), std::string(1500, 'a') + "b"}) {
    EXPECT_FALSE(objects->HasBlob(Digest::Of(bytes), {}).value());
    EXPECT_EQ(ReadBlob(*objects, Digest::Of(bytes)).status().code(), absl::StatusCode::kNotFound);
    ASSERT_TRUE(objects->PutBlob(ObjectOf(bytes), {}).ok());
    EXPECT_TRUE(objects->KeepBlob(Digest::Of(bytes), {}).value());
    EXPECT_EQ(ReadBlob(*objects, Digest::Of(bytes)).value(), bytes);
    EXPECT_EQ(server_.Get(BlobKey(bytes)), bytes);
    // Somebody else was faster.
    EXPECT_TRUE(objects->PutBlob(ObjectOf(bytes), {}).ok());
  }
}

TEST_F(GhaCacheTest, ConfigsAreNumberedAndReadFromAllScopes) {
  const auto main = Open(), branch = Open({{"refs/heads/main", 1}, {"refs/heads/b", 3}});
  EXPECT_THAT(branch->GetConfigs(100, {}).value(), IsEmpty());
  ASSERT_TRUE(main->PutConfig("one", {}).ok());
  ASSERT_TRUE(main->PutConfig("two", {}).ok());
  ASSERT_TRUE(branch->PutConfig("three", {}).ok());
  EXPECT_THAT(server_.Keys(),
              ElementsAre(ConfigKey("refs/heads/main", 1), ConfigKey("refs/heads/main", 2),
                          ConfigKey("refs/heads/b", 1)));
  EXPECT_THAT(main->GetConfigs(100, {}).value(), ElementsAre("two"));
  EXPECT_THAT(branch->GetConfigs(100, {}).value(), ElementsAre("three", "two"));
  EXPECT_EQ(branch->GetConfigs(3, {}).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(GhaCacheTest, ADeadWriterIsPassedBy) {
  server_.Reserve(ConfigKey("refs/heads/main", 1));
  ASSERT_TRUE(Open()->PutConfig("config", {}).ok());
  EXPECT_EQ(server_.Get(ConfigKey("refs/heads/main", 2)), "config");
  EXPECT_EQ(waits_.size(), 8u);
  EXPECT_THAT(waits_, Each(absl::Seconds(2)));
}

TEST_F(GhaCacheTest, ATokenForReadingWritesNothing) {
  const auto objects = Open({{"refs/heads/main", 1}});
  EXPECT_EQ(objects->PutBlob(ObjectOf("x"), {}).code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(objects->PutConfig("x", {}).code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(server_.server().requests(), IsEmpty());
}

TEST_F(GhaCacheTest, KeysAreListedOnce) {
  ASSERT_TRUE(Open()->PutBlob(ObjectOf("x"), {}).ok());
  server_.server().Forget();
  const auto objects =
      Open({{"refs/heads/main", 3}}, {{"repository", "o/r"}, {"ghtoken", "gh-token"}});
  EXPECT_TRUE(objects->KeepBlob(Digest::Of("x"), {}).value());
  EXPECT_FALSE(objects->KeepBlob(Digest::Of("y"), {}).value());
  ASSERT_EQ(server_.server().requests().size(), 1u);
  EXPECT_EQ(server_.server().requests()[0].path,
            "/repos/o/r/actions/caches?key=buildkit-blob-1-&page=1&per_page=100"
            "&ref=refs%2Fheads%2Fmain");
  EXPECT_EQ(server_.server().requests()[0].Header("authorization"), "Bearer gh-token");
  // A list that cannot be had saves nothing and costs nothing.
  server_.fault = [](const TestHttpRequest& request) -> std::optional<std::string> {
    if (request.method != "GET") return std::nullopt;
    return TestHttpServer::Answer("403 Forbidden");
  };
  EXPECT_TRUE(Open({{"refs/heads/main", 3}}, {{"repository", "o/r"}, {"ghtoken", "t"}})
                  ->KeepBlob(Digest::Of("x"), {})
                  .value());
}

TEST_F(GhaCacheTest, TooManyRequestsAreWaitedOut) {
  std::atomic<int> left = 20;
  server_.fault = [&](const TestHttpRequest&) -> std::optional<std::string> {
    if (left-- <= 0) return std::nullopt;
    return TestHttpServer::Answer("429 Too Many Requests", {"Retry-After: 30"});
  };
  EXPECT_FALSE(Open()->HasBlob(Digest::Of("x"), {}).value());
  EXPECT_EQ(waits_.size(), 20u);
  EXPECT_THAT(waits_, Each(absl::Seconds(30)));
  // But not for longer than is said.
  left = 20;
  waits_.clear();
  const absl::Status status =
      Open({{"refs/heads/main", 3}}, {{"timeout", "2m"}})->HasBlob(Digest::Of("x"), {}).status();
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(BlobKey("x")), HasSubstr("429 Too Many Requests")));
  EXPECT_EQ(waits_.size(), 4u);
}

TEST_F(GhaCacheTest, OtherTroubleEndsSooner) {
  server_.fault = [](const TestHttpRequest&) { return TestHttpServer::Answer("502 Bad Gateway"); };
  EXPECT_EQ(Open()->HasBlob(Digest::Of("x"), {}).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(server_.server().requests().size(), 5u);
}

TEST_F(GhaCacheTest, AnOldUrlIsAskedForAgain) {
  const std::string bytes(5000, 'x');
  const auto objects = Open();
  ASSERT_TRUE(objects->PutBlob(ObjectOf(bytes), {}).ok());
  std::atomic<int> gets = 0;
  server_.fault = [&](const TestHttpRequest& request) -> std::optional<std::string> {
    if (request.method != "GET" || ++gets > 1) return std::nullopt;
    server_.EndUrls();
    return "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + bytes.substr(0, 3000);
  };
  EXPECT_EQ(ReadBlob(*objects, Digest::Of(bytes)).value(), bytes);
  EXPECT_EQ(gets, 3) << "cut, refused, and the rest";
  EXPECT_EQ(server_.server().requests().back().Header("range"), "bytes=3000-");
}

TEST_F(GhaCacheTest, ErrorsShowNeitherTokenNorSignature) {
  const std::string token = ActionsServer::Token({{"refs/heads/main", 3}});
  server_.token = "another";
  const absl::Status refused = Open()->HasBlob(Digest::Of("x"), {}).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(std::string(refused.message()),
              AllOf(HasSubstr("unauthenticated: who are you"), Not(HasSubstr(token))));
  server_.token = "";
  server_.fault = [](const TestHttpRequest& request) -> std::optional<std::string> {
    if (request.method != "PUT") return std::nullopt;
    return TestHttpServer::Answer("400 Bad Request", {}, "<Error><Code>Bad</Code></Error>");
  };
  const absl::Status failed = Open()->PutBlob(ObjectOf("x"), {});
  EXPECT_THAT(
      std::string(failed.message()),
      AllOf(HasSubstr(BlobKey("x")), HasSubstr("400 Bad Request: Bad"), Not(HasSubstr("sig="))));
}

struct BadGhaAttr {
  const char* name;
  CacheAttrs attrs;
  const char* message;
};
class BadGhaAttrTest : public testing::TestWithParam<BadGhaAttr> {};

TEST_P(BadGhaAttrTest, IsNamed) {
  const std::string token = ActionsServer::Token({{"refs/heads/main", 3}});
  CacheAttrs attrs = {{"url_v2", "https://results.example/"}, {"token", token}};
  ASSERT_TRUE(ReadGhaCacheConfig(attrs, absl::Now()).ok());
  for (const auto& [key, value] : GetParam().attrs) attrs[key] = value;
  EXPECT_THAT(std::string(ReadGhaCacheConfig(attrs, absl::Now()).status().message()),
              HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Attributes, BadGhaAttrTest,
    testing::ValuesIn<BadGhaAttr>(
        {{"no_token", {{"token", ""}}, "token not set for github actions cache"},
         {"no_jwt", {{"token", "a.b"}}, "not a JSON web token"},
         {"no_json", {{"token", "a.bbbb.c"}}, "not a JSON web token"},
         {"no_scopes", {{"token", "a.eyJleHAiOjk5OTk5OTk5OTksIm5iZiI6MX0.c"}}, "access controls"},
         {"expired",
          {{"token", ActionsServer::Token({{"r", 3}}, -absl::Seconds(1))}},
          "cache token expired at"},
         {"no_url", {{"url_v2", ""}}, "url not set for github actions cache"},
         {"version_1", {{"version", "1"}, {"url", "https://x"}}, "version 1"},
         {"old_url", {{"url_v2", ""}, {"url", "https://x"}}, "set url_v2"},
         {"version", {{"version", "x"}}, "failed to parse api version \"x\""},
         {"timeout", {{"timeout", "x"}}, "failed to parse timeout"}}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(GhaConfigTest, TheUrlTellsTheVersion) {
  const auto config =
      ReadGhaCacheConfig({{"url", "https://results-receiver.actions.githubusercontent.com/"},
                          {"token", ActionsServer::Token({{"r", 3}, {"s", 1}})},
                          {"scope", "mine"}},
                         absl::Now());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->scope, "mine");
  ASSERT_EQ(config->scopes.size(), 2u);
  EXPECT_TRUE(config->scopes[0].may_write);
  EXPECT_FALSE(config->scopes[1].may_write);
  EXPECT_EQ(config->service.timeout, absl::Minutes(10));
}

}  // namespace
}  // namespace kiln::daemon
