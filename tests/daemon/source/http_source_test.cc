#include "daemon/source/http_source.h"

#include <optional>

#include "daemon/source/http_names.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/digest.h"
#include "tests/daemon/session/fake_client.h"
#include "tests/daemon/session/fake_session.h"
#include "tests/daemon/source/fake_op_context.h"
#include "tests/daemon/source/fake_ref_store.h"
#include "tests/daemon/source/test_http_server.h"

namespace kiln::daemon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Server = TestHttpServer;

constexpr char kDate[] = "Sun, 06 Nov 1994 08:49:37 GMT";

class HttpSourceTest : public testing::Test {
 protected:
  std::shared_ptr<SourceInstance> Make(const std::string& url,
                                       std::map<std::string, std::string> attrs = {}) {
    auto instance = source_.Resolve({url, std::move(attrs)});
    EXPECT_TRUE(instance.ok()) << instance.status();
    return instance.ok() ? *instance : nullptr;
  }
  // A new job: nothing is remembered but the store.
  std::unique_ptr<FakeOpContext> NewJob() {
    auto context = std::make_unique<FakeOpContext>();
    context->session_ids = {"s1"};
    return context;
  }
  void Attach() {
    client_.emplace();
    sessions_.sessions["s1"] = std::make_shared<FakeSession>("s1", client_->Channel());
  }
  struct stat StatOf(const store::RefPtr& ref, const std::string& name) {
    struct stat st = {};
    EXPECT_EQ(::lstat((FakeRefStore::Dir(ref) + "/" + name).c_str(), &st), 0) << name;
    return st;
  }

  std::optional<FakeClient> client_;
  FakeSessions sessions_;
  FakeRefStore refs_;
  HttpSource source_{&refs_, &sessions_, "kiln/test"};
};

TEST_F(HttpSourceTest, DownloadsOneFile) {
  Server server([](const TestHttpRequest&) {
    return Server::Answer("200 OK", {std::string("Last-Modified: ") + kDate}, "hello");
  });
  auto job = NewJob();
  auto instance = Make(server.Url("/dir/file.txt?x=1"));
  auto key = instance->Key(*job, 0);
  ASSERT_TRUE(key.ok()) << key.status();
  EXPECT_EQ(key->pin, Digest::Of("hello").ToString());
  EXPECT_EQ(key->key, Digest::Of(absl::StrCat(R"({"Filename":"file.txt","Perm":0,"UID":0,"GID":0,)",
                                              R"("Checksum":")", key->pin, R"(","LastModTime":")",
                                              kDate, R"("})"))
                          .ToString());
  auto ref = instance->Snapshot(*job);
  ASSERT_TRUE(ref.ok()) << ref.status();
  EXPECT_EQ(FakeRefStore::Read(*ref, "file.txt"), "hello");
  const struct stat st = StatOf(*ref, "file.txt");
  EXPECT_EQ(st.st_mode & 07777, 0600u);
  EXPECT_EQ(st.st_mtim.tv_sec, 784111777);
  ASSERT_EQ(server.requests().size(), 1u);  // the key's download is the snapshot
  EXPECT_EQ(server.requests()[0].headers.at("user-agent"), "kiln/test");
}

TEST_F(HttpSourceTest, DetailsTellTheNameAndTheTime) {
  std::vector<std::string> headers = {std::string("Last-Modified: ") + kDate};
  Server server([&](const TestHttpRequest&) { return Server::Answer("200 OK", headers, "x"); });
  auto job = NewJob();
  auto details = Make(server.Url("/dir/file.txt"))->Details(*job, true);
  ASSERT_TRUE(details.ok()) << details.status();
  EXPECT_EQ(details->filename, "file.txt");
  EXPECT_EQ(details->changed, absl::FromUnixSeconds(784111777));
  headers.clear();
  details = Make(server.Url("/other"))->Details(*job, true);
  ASSERT_TRUE(details.ok()) << details.status();
  EXPECT_FALSE(details->changed.has_value());
}

// The hashes are those of coreutils over "hello" and "hello!".
TEST_F(HttpSourceTest, ChecksumsAreOverTheFileAndASuffix) {
  Server server([](const TestHttpRequest&) {
    return Server::Answer("200 OK", {"Content-Disposition: attachment; filename=named"}, "hello");
  });
  auto job = NewJob();
  auto instance = Make(server.Url("/f"));
  EXPECT_EQ(instance->Checksum(*job, {FileHash::kSha256, ""}).value(),
            Digest::Of("hello").ToString());
  EXPECT_EQ(instance->Checksum(*job, {FileHash::kSha256, "!"}).value(),
            Digest::Of("hello!").ToString());
  EXPECT_EQ(instance->Checksum(*job, {FileHash::kSha384, ""}).value(),
            "sha384:59e1748777448c69de6b800d7a33bbfb9ff1b463e44354c3553bcdb9c666fa90"
            "125a3c79f90397bdf5f6a13de828684f");
  EXPECT_EQ(instance->Checksum(*job, {FileHash::kSha512, ""}).value(),
            "sha512:9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca7"
            "2323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043");
  EXPECT_EQ(server.requests().size(), 1u);
  // A pinned source delivers its file for it; what arrives must be what the pin says.
  auto fresh = NewJob();
  const std::string pin = Digest::Of("hello").ToString();
  EXPECT_EQ(Make(server.Url("/g"), {{"http.checksum", pin}})
                ->Checksum(*fresh, {FileHash::kSha256, "!"})
                .value(),
            Digest::Of("hello!").ToString());
  const std::string wrong = Digest::Of("other").ToString();
  EXPECT_THAT(std::string(Make(server.Url("/g"), {{"http.checksum", wrong}})
                              ->Checksum(*fresh, {})
                              .status()
                              .message()),
              HasSubstr("digest mismatch"));
}

TEST_F(HttpSourceTest, Llb6_60_ABodyThatWasPrunedIsFetchedAndVerified) {
  std::string body = "first";
  Server server([&](const TestHttpRequest&) { return Server::Answer("200 OK", {}, body); });
  auto job = NewJob();
  const auto pruned_after_key = [&] {
    // The key of another vertex of the job, which nobody holds any more.
    auto key = Make(server.Url("/f"))->Key(*job, 0);
    EXPECT_TRUE(key.ok()) << key.status();
    refs_.DropAll();
    auto instance = Make(server.Url("/f"));
    EXPECT_EQ(instance->Key(*job, 0)->pin, Digest::Of("first").ToString());
    return instance;
  };
  auto ref = pruned_after_key()->Snapshot(*job);
  ASSERT_TRUE(ref.ok()) << ref.status();
  EXPECT_EQ(FakeRefStore::Read(*ref, "f"), "first");
  EXPECT_EQ(server.requests().size(), 2u);
  // Another body than the key's is refused.
  ref = absl::NotFoundError("dropped");
  auto instance = pruned_after_key();
  body = "second";
  EXPECT_THAT(std::string(instance->Snapshot(*job).status().message()),
              HasSubstr(Digest::Of("second").ToString() +
                        " (expected: " + Digest::Of("first").ToString() + ")"));
}

TEST_F(HttpSourceTest, ShapeFromAttributes) {
  Server server([](const TestHttpRequest&) { return Server::Answer("200 OK", {}, "x"); });
  auto job = NewJob();
  auto instance = Make(server.Url("/f"), {{"http.filename", "sub/../name"},
                                          {"http.perm", "0755"},
                                          {"http.header.Accept", "text/plain"},
                                          {"http.header.cookie", "secret"},
                                          {"http.header.User-Agent", "mine"}});
  auto ref = instance->Snapshot(*job);
  ASSERT_TRUE(ref.ok()) << ref.status();
  const struct stat st = StatOf(*ref, "name");
  EXPECT_EQ(st.st_mode & 07777, 0755u);
  EXPECT_EQ(st.st_mtim.tv_sec, 0);
  const auto headers = server.requests()[0].headers;
  EXPECT_EQ(headers.at("accept"), "text/plain");
  EXPECT_EQ(headers.at("user-agent"), "mine");
  EXPECT_EQ(headers.count("cookie"), 0u);
  const std::string digest = Digest::Of("x").ToString();
  EXPECT_EQ(
      instance->Key(*job, 0)->key,
      Digest::Of(absl::StrCat(R"({"Filename":"name","Perm":493,"UID":0,"GID":0,"Checksum":")",
                              digest, R"(","Header":[{"Name":"Accept","Value":"text/plain"},)",
                              R"({"Name":"User-Agent","Value":"mine"}]})"))
          .ToString());
}

TEST_F(HttpSourceTest, Llb6_58_PinnedDigestAsksNothingForTheKey) {
  const std::string digest = Digest::Of("body").ToString();
  std::string body = "body";
  Server server([&](const TestHttpRequest&) { return Server::Answer("200 OK", {}, body); });
  auto job = NewJob();
  auto instance = Make(server.Url("/f"), {{"http.checksum", digest}});
  auto key = instance->Key(*job, 0);
  ASSERT_TRUE(key.ok());
  EXPECT_EQ(key->pin, digest);
  EXPECT_THAT(server.requests(), IsEmpty());
  auto ref = instance->Snapshot(*job);
  ASSERT_TRUE(ref.ok()) << ref.status();
  EXPECT_EQ(FakeRefStore::Read(*ref, "f"), "body");
  // The same pin again: the store has it.
  auto again = NewJob();
  server.Forget();
  EXPECT_TRUE(Make(server.Url("/f"), {{"http.checksum", digest}})->Snapshot(*again).ok());
  EXPECT_THAT(server.requests(), IsEmpty());
}

TEST_F(HttpSourceTest, Llb6_60_APrunedBodyIsFetchedAgainAndVerified) {
  std::string body = "one";
  Server server([&](const TestHttpRequest&) { return Server::Answer("200 OK", {}, body); });
  auto job = NewJob();
  ASSERT_TRUE(Make(server.Url("/f"))->Key(*job, 0).ok());
  refs_.Prune();
  ASSERT_EQ(refs_.live(), 0u);
  auto again = Make(server.Url("/f"))->Snapshot(*job);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(FakeRefStore::Read(*again, "f"), "one");
  EXPECT_EQ(server.requests().size(), 2u);
  again->reset();
  refs_.Prune();
  body = "two";  // the job has seen what is there
  EXPECT_EQ(Make(server.Url("/f"))->Snapshot(*job).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(HttpSourceTest, WrongDigestIsRefusedAndNotKept) {
  Server server([](const TestHttpRequest&) { return Server::Answer("200 OK", {}, "evil"); });
  const std::string want = Digest::Of("good").ToString();
  auto job = NewJob();
  auto ref = Make(server.Url("/f"), {{"http.checksum", want}})->Snapshot(*job);
  EXPECT_EQ(ref.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(ref.status().message(),
            absl::StrCat("digest mismatch for ", server.Url("/f"), ": ",
                         Digest::Of("evil").ToString(), " (expected: ", want, ")"));
  EXPECT_EQ(refs_.live(), 0u);
}

TEST_F(HttpSourceTest, Llb6_58_UnchangedFileIsTakenFromTheStore) {
  std::string etag = "\"v1\"", body = "one";
  Server server([&](const TestHttpRequest& request) {
    auto it = request.headers.find("if-none-match");
    if (it != request.headers.end() && it->second == etag)
      return Server::Answer("304 Not Modified", {"ETag: W/" + etag});
    return Server::Answer("200 OK", {"ETag: W/" + etag}, body);
  });
  auto job = NewJob();
  ASSERT_TRUE(Make(server.Url("/f"))->Snapshot(*job).ok());
  EXPECT_EQ(refs_.created, 1);
  server.Forget();

  job = NewJob();
  auto instance = Make(server.Url("/f"));
  auto key = instance->Key(*job, 0);
  ASSERT_TRUE(key.ok());
  EXPECT_EQ(key->pin, Digest::Of("one").ToString());
  auto same = instance->Snapshot(*job);
  ASSERT_TRUE(same.ok());
  EXPECT_EQ(refs_.created, 1);
  ASSERT_EQ(server.requests().size(), 1u);
  EXPECT_EQ(server.requests()[0].method, "HEAD");
  server.Forget();

  etag = "\"v2\"";
  body = "two";
  job = NewJob();
  auto changed = Make(server.Url("/f"))->Snapshot(*job);
  ASSERT_TRUE(changed.ok());
  EXPECT_EQ(FakeRefStore::Read(*changed, "f"), "two");
  EXPECT_EQ(refs_.created, 2);
}

TEST_F(HttpSourceTest, ServerThatIgnoresTheConditionIsComparedHere) {
  Server server(
      [&](const TestHttpRequest&) { return Server::Answer("200 OK", {"ETag: \"v1\""}, "one"); });
  auto job = NewJob();
  ASSERT_TRUE(Make(server.Url("/f"))->Snapshot(*job).ok());
  server.Forget();
  job = NewJob();
  ASSERT_TRUE(Make(server.Url("/f"))->Snapshot(*job).ok());
  EXPECT_EQ(refs_.created, 1);
  ASSERT_EQ(server.requests().size(), 1u);
}

TEST_F(HttpSourceTest, ServerThatRefusesHeadIsAskedAgain) {
  Server server([&](const TestHttpRequest& request) {
    if (request.method == "HEAD") return Server::Answer("405 Method Not Allowed");
    if (request.headers.count("if-none-match") != 0)
      return Server::Answer("304 Not Modified");  // and without a tag
    return Server::Answer("200 OK", {"ETag: \"v1\""}, "one");
  });
  auto job = NewJob();
  ASSERT_TRUE(Make(server.Url("/f"))->Snapshot(*job).ok());
  job = NewJob();
  auto ref = Make(server.Url("/f"))->Snapshot(*job);
  ASSERT_TRUE(ref.ok()) << ref.status();
  EXPECT_EQ(FakeRefStore::Read(*ref, "f"), "one");
  EXPECT_EQ(refs_.created, 1);
}

TEST_F(HttpSourceTest, Llb6_59_OneJobSeesOneContent) {
  int calls = 0;
  Server server([&](const TestHttpRequest&) {
    return Server::Answer("200 OK", {}, absl::StrCat("call ", ++calls));
  });
  auto job = NewJob();
  auto a = Make(server.Url("/f")), b = Make(server.Url("/f"));
  EXPECT_EQ(a->Key(*job, 0)->key, b->Key(*job, 0)->key);
  EXPECT_EQ(FakeRefStore::Read(*b->Snapshot(*job), "f"), "call 1");
  EXPECT_EQ(calls, 1);
}

TEST_F(HttpSourceTest, BadStatusIsAnErrorForKeyAndSnapshot) {
  Server server(
      [](const TestHttpRequest&) { return Server::Answer("404 Not Found", {}, "no such file"); });
  auto job = NewJob();
  EXPECT_THAT(Make(server.Url("/f"))->Key(*job, 0).status().message(),
              HasSubstr("invalid response status 404"));
  EXPECT_THAT(Make(server.Url("/f"), {{"http.checksum", Digest::Of("x").ToString()}})
                  ->Snapshot(*job)
                  .status()
                  .message(),
              HasSubstr("invalid response status 404"));
  EXPECT_EQ(refs_.live(), 0u);
}

TEST_F(HttpSourceTest, SecretsAuthorizeButNotAcrossARedirect) {
  Attach();
  Server other([](const TestHttpRequest&) { return Server::Answer("200 OK", {}, "there"); });
  Server server([&](const TestHttpRequest& request) {
    if (request.path == "/here") return Server::Answer("302 Found", {"Location: /stay"});
    if (request.path == "/away")
      return Server::Answer("302 Found", {"Location: " + other.Url("/x", "localhost")});
    return Server::Answer("200 OK", {}, "here");
  });
  client_->secrets["HTTP_AUTH_TOKEN_127.0.0.1"] = "t0ken\n";
  client_->secrets["HTTP_AUTH_HEADER_127.0.0.1"] = "Basic abc";
  auto job = NewJob();
  ASSERT_TRUE(Make(server.Url("/here"))->Snapshot(*job).ok());
  for (const auto& request : server.requests())
    EXPECT_EQ(request.headers.at("authorization"), "Bearer t0ken");
  auto away = Make(server.Url("/away"))->Snapshot(*job);
  ASSERT_TRUE(away.ok()) << away.status();
  ASSERT_EQ(other.requests().size(), 1u);
  EXPECT_EQ(other.requests()[0].headers.count("authorization"), 0u);

  client_->secrets["mine"] = "Custom 1";
  server.Forget();
  auto instance = Make(server.Url("/stay"), {{"http.authheadersecret", "mine"}});
  ASSERT_TRUE(instance->Snapshot(*job).ok());
  EXPECT_EQ(server.requests()[0].headers.at("authorization"), "Custom 1");
  EXPECT_THAT(Make(server.Url("/stay"), {{"http.authheadersecret", "none"}})
                  ->Key(*job, 0)
                  .status()
                  .message(),
              HasSubstr("failed to retrieve HTTP auth secret none: secret none: not found"));
}

TEST_F(HttpSourceTest, EndlessRedirectsEnd) {
  Server server(
      [](const TestHttpRequest&) { return Server::Answer("302 Found", {"Location: /again"}); });
  auto job = NewJob();
  EXPECT_THAT(Make(server.Url("/f"))->Key(*job, 0).status().message(), HasSubstr("redirects"));
  EXPECT_EQ(server.requests().size(), 11u);
}

TEST_F(HttpSourceTest, RedirectToAFileIsRefused) {
  Server server([](const TestHttpRequest&) {
    return Server::Answer("302 Found", {"Location: file:///etc/passwd"});
  });
  auto job = NewJob();
  EXPECT_FALSE(Make(server.Url("/f"))->Key(*job, 0).ok());
}

TEST_F(HttpSourceTest, CutTransferIsAnError) {
  Server server([](const TestHttpRequest&) {
    return std::string("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
  });
  auto job = NewJob();
  EXPECT_EQ(Make(server.Url("/f"))->Key(*job, 0).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(refs_.live(), 0u);
}

TEST_F(HttpSourceTest, CancelEndsAHangingTransfer) {
  auto job = NewJob();
  Server server([&](const TestHttpRequest&) {
    job->Cancel(absl::CancelledError("enough"));
    return std::string();
  });
  EXPECT_EQ(Make(server.Url("/f"))->Key(*job, 0).status(), absl::CancelledError("enough"));
}

TEST_F(HttpSourceTest, UploadOfTheClient) {
  Attach();
  client_->uploads["/abc"] = "context tar";
  auto job = NewJob();
  auto instance = Make("http://buildkit-session/abc", {{"http.filename", "context"}});
  auto key = instance->Key(*job, 0);
  ASSERT_TRUE(key.ok()) << key.status();
  client_->uploads.clear();  // each can be read once
  EXPECT_EQ(FakeRefStore::Read(*instance->Snapshot(*job), "context"), "context tar");
  EXPECT_THAT(Make("http://buildkit-session/none")->Key(*job, 0).status().message(),
              HasSubstr("no http response from session for http://buildkit-session/none"));
}

TEST_F(HttpSourceTest, BadAttributesAreNamed) {
  for (const auto& [attr, value] :
       std::map<std::string, std::string>{{"http.checksum", "sha256:zz"},
                                          {"http.perm", "rwx"},
                                          {"http.uid", "-1"},
                                          {"http.gid", "4294967295"},
                                          {"http.sig.pubkey", "k"},
                                          {"http.sig.signature", "s"}}) {
    const absl::Status status = source_.Resolve({"http://host/f", {{attr, value}}}).status();
    EXPECT_THAT(status.message(), HasSubstr(attr));
    EXPECT_EQ(status.code(), absl::StartsWith(attr, "http.sig")
                                 ? absl::StatusCode::kUnimplemented
                                 : absl::StatusCode::kInvalidArgument)
        << attr;
  }
  EXPECT_EQ(source_.Resolve({"http:///f", {}}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(HttpSourceTest, MessagesCarryNoPassword) {
  auto job = NewJob();
  const absl::Status status = Make("http://user:hunter2@127.0.0.1:1/f")->Key(*job, 0).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(status.message(), Not(HasSubstr("hunter2")));
}

struct NameCase {
  const char *url, *wanted, *disposition, *want;
};
class DownloadNameTest : public testing::TestWithParam<NameCase> {};
TEST_P(DownloadNameTest, IsOneComponent) {
  EXPECT_EQ(DownloadName(GetParam().url, GetParam().wanted, GetParam().disposition),
            GetParam().want);
}
INSTANTIATE_TEST_SUITE_P(Names, DownloadNameTest,
                         testing::ValuesIn<NameCase>(
                             {{"http://h/a/b.tar?x=/y", "", "", "b.tar"},
                              {"http://h/a%20b", "", "", "a b"},
                              {"http://h/", "", "", "download"},
                              {"http://h", "", "", "download"},
                              {"http://h/x", "name", "", "name"},
                              {"http://h/x", "../../etc/passwd", "", "passwd"},
                              {"http://h/x", "..", "", "download"},
                              {"http://h/..", "", "", "download"},
                              {"http://h/%2e%2e", "", "", "download"},
                              {"http://h/a%2f..%2fb", "", "", "b"},
                              {"http://h/x", "a\nb", "", "download"},
                              {"http://h/x", "", "attachment; filename=plain.txt", "plain.txt"},
                              {"http://h/x", "", "attachment; filename=\"with \\\"quote\\\".txt\"",
                               "with \"quote\".txt"},
                              {"http://h/x", "", "attachment; filename=\"../up\"; x=y", "up"},
                              {"http://h/x", "", "inline; filename=a; filename*=UTF-8''%e2%82%ac",
                               "\xe2\x82\xac"},
                              {"http://h/x", "", "attachment; filename=\"dir/\"", "x"},
                              {"http://h/x", "", "attachment", "x"}}));

TEST(HttpDate, ThreeForms) {
  const absl::Time want = absl::FromUnixSeconds(784111777);
  EXPECT_EQ(ParseHttpDate("Sun, 06 Nov 1994 08:49:37 GMT"), want);
  EXPECT_EQ(ParseHttpDate("Sunday, 06-Nov-94 08:49:37 GMT"), want);
  EXPECT_EQ(ParseHttpDate("Sun Nov  6 08:49:37 1994"), want);
  EXPECT_EQ(ParseHttpDate("yesterday"), std::nullopt);
  EXPECT_EQ(FormatHttpDate(want), "Sun, 06 Nov 1994 08:49:37 GMT");
}

TEST(RedactUrl, HidesWhoIsAsking) {
  EXPECT_EQ(RedactUrl("https://u:p@h/x@y"), "https://xxxxx@h/x@y");
  EXPECT_EQ(RedactUrl("https://h/x@y"), "https://h/x@y");
  EXPECT_EQ(UrlHost("http://u:p@[::1]:80/x"), "::1");
  EXPECT_EQ(UrlHost("http://h:80?x"), "h");
}

}  // namespace
}  // namespace kiln::daemon
