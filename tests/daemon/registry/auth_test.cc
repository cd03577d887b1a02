#include <atomic>
#include <thread>

#include "absl/strings/escaping.h"
#include "daemon/image/media_types.h"
#include "daemon/registry/bearer_token.h"
#include "tests/daemon/registry/fake_auth_client.h"
#include "tests/daemon/registry/registry_fixture.h"
#include "tests/daemon/session/fake_session.h"

namespace kiln::daemon {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

std::string BasicOf(const std::string& user, const std::string& secret) {
  return "Basic " + absl::Base64Escape(user + ":" + secret);
}

// A registry with one private repository, "private", and a token server.
class AuthTest : public RegistryFixture {
 protected:
  AuthTest()
      : tokens_([this](const TestHttpRequest& request) {
          if (on_token_) return on_token_(request);
          if (request.Header("authorization") != BasicOf("alice", "right"))
            return TestHttpServer::Answer("401 Unauthorized");
          ++given_;
          return TestHttpServer::Answer("200 OK", {}, R"({"token":"good","expires_in":300})");
        }) {
    registry_.AddManifest("private", "v", "{}", kOciManifest);
    registry_.authorization = "Bearer good";
    registry_.challenge =
        absl::StrCat("Bearer realm=\"", tokens_.Url("/token"),
                     "\",service=\"the registry\",scope=\"repository:private:pull\"");
  }
  FakeAuthClient& AddSession(const std::string& id) {
    clients_.push_back(std::make_unique<FakeAuthClient>());
    sessions_.sessions[id] = std::make_shared<FakeSession>(id, clients_.back()->Channel());
    return *clients_.back();
  }
  absl::Status Resolve(const std::vector<std::string>& session_ids) {
    RegistryCall call = Call();
    call.session_ids = session_ids;
    return client().Resolve(Ref("private:v"), call).status();
  }

  std::function<std::string(const TestHttpRequest&)> on_token_;
  std::atomic<int> given_ = 0;
  std::vector<std::unique_ptr<FakeAuthClient>> clients_;
  TestHttpServer tokens_;
};

TEST_F(AuthTest, DaemonFetchesATokenWithTheSecretOfTheClient) {
  FakeAuthClient& client = AddSession("s");
  client.username = "alice";
  client.secret = "right";
  EXPECT_TRUE(Resolve({"s"}).ok());
  EXPECT_THAT(client.Calls(), ElementsAre("GetTokenAuthority " + registry_.host(),
                                          "Credentials " + registry_.host()));
  ASSERT_EQ(tokens_.requests().size(), 1u);
  EXPECT_EQ(tokens_.requests()[0].path,
            "/token?service=the+registry&scope=repository%3Aprivate%3Apull");
}

TEST_F(AuthTest, AnonymousTokens) {
  on_token_ = [](const TestHttpRequest& request) {
    EXPECT_EQ(request.Header("authorization"), "");
    return TestHttpServer::Answer("200 OK", {}, R"({"access_token":"good","token":"other"})");
  };
  EXPECT_TRUE(Resolve({}).ok());
  FakeAuthClient& client = AddSession("s");
  EXPECT_TRUE(Resolve({"s"}).ok()) << "a client without credentials is nobody, too";
  EXPECT_THAT(client.Calls(), Contains("Credentials " + registry_.host()));
  EXPECT_EQ(tokens_.requests().size(), 1u) << "nobody's token serves everybody";
}

TEST_F(AuthTest, ATokenIsKeptUntilItIsRefused) {
  FakeAuthClient& client = AddSession("s");
  client.username = "alice";
  client.secret = "right";
  on_token_ = [this](const TestHttpRequest&) {
    return TestHttpServer::Answer("200 OK", {},
                                  absl::StrCat(R"({"expires_in":300,"token":"t)", ++given_, "\"}"));
  };
  registry_.authorization = "Bearer t1";
  EXPECT_TRUE(Resolve({"s"}).ok());
  EXPECT_TRUE(Resolve({"s"}).ok());
  EXPECT_EQ(given_, 1);
  registry_.authorization = "Bearer t2";  // the first one is revoked
  EXPECT_TRUE(Resolve({"s"}).ok());
  EXPECT_EQ(given_, 2);
}

struct FlowCase {
  const char* name;
  int get_status, post_status;  // what the token server answers to each
  const char* user;
  bool works;
  const char* form;  // part of the POST's body
};
class TokenFlowTest : public AuthTest, public testing::WithParamInterface<FlowCase> {};

TEST_P(TokenFlowTest, P12_PostOnlyGetOnlyAnd404) {
  const FlowCase& flow = GetParam();
  FakeAuthClient& client = AddSession("s");
  client.username = flow.user;
  client.secret = "se&ret";
  std::string form;
  on_token_ = [&](const TestHttpRequest& request) {
    const bool post = request.method == "POST";
    if (post) form = request.body;
    const int status = post ? flow.post_status : flow.get_status;
    return TestHttpServer::Answer(absl::StrCat(status, " X"), {},
                                  status == 200 ? R"({"access_token":"good"})" : "{}");
  };
  const absl::Status status = Resolve({"s"});
  EXPECT_EQ(status.ok(), flow.works) << status;
  EXPECT_THAT(form, HasSubstr(flow.form));
}

INSTANTIATE_TEST_SUITE_P(
    Servers, TokenFlowTest,
    testing::ValuesIn<FlowCase>({
        {"GetOnly", 200, 500, "alice", true, ""},
        {"PostOnly405", 405, 200, "alice", true,
         "grant_type=password&username=alice&password=se%26ret"},
        {"PostOnly404", 404, 200, "alice", true, "service=the+registry"},
        {"PostOnly401", 401, 200, "alice", true, "scope=repository%3Aprivate%3Apull"},
        {"RefreshToken", 404, 200, "", true, "grant_type=refresh_token&refresh_token=se%26ret"},
        {"Neither", 404, 404, "alice", false, ""},
    }),
    [](const auto& test) { return std::string(test.param.name); });

TEST_F(AuthTest, ClientFetchesTheToken) {
  FakeAuthClient& client = AddSession("s");
  client.UseSeed(std::string(32, 'a'));
  client.token = "good";
  EXPECT_TRUE(Resolve({"s"}).ok());
  EXPECT_THAT(client.Calls(),
              ElementsAre("GetTokenAuthority " + registry_.host(),
                          "VerifyTokenAuthority " + registry_.host(),
                          "FetchToken " + tokens_.Url("/token") + " repository:private:pull"));
  EXPECT_TRUE(tokens_.requests().empty());
}

TEST_F(AuthTest, ATokenIsSharedWithWhoProvesTheKey) {
  for (const char* id : {"s1", "s2"}) {
    FakeAuthClient& client = AddSession(id);
    client.UseSeed(std::string(32, 'a'));
    client.token = "good";
  }
  EXPECT_TRUE(Resolve({"s1"}).ok());
  EXPECT_TRUE(Resolve({"s2"}).ok());
  EXPECT_THAT(clients_[1]->Calls(), testing::Not(Contains(HasSubstr("FetchToken"))));
}

TEST_F(AuthTest, WhoOnlyClaimsTheKeyGetsNoToken) {
  FakeAuthClient& owner = AddSession("owner");
  owner.UseSeed(std::string(32, 'a'));
  owner.token = "good";
  EXPECT_TRUE(Resolve({"owner"}).ok());
  std::string real(32, '\0');
  size_t size = real.size();
  EVP_PKEY* const pair = EVP_PKEY_new_raw_private_key(
      EVP_PKEY_ED25519, nullptr,
      reinterpret_cast<const unsigned char*>(std::string(32, 'a').data()), 32);
  EVP_PKEY_get_raw_public_key(pair, reinterpret_cast<unsigned char*>(real.data()), &size);
  EVP_PKEY_free(pair);
  FakeAuthClient& thief = AddSession("thief");
  thief.UseSeed(std::string(32, 'b'));
  thief.claimed_key = real;
  thief.token = "bad";
  const absl::Status status = Resolve({"thief"});
  EXPECT_TRUE(absl::IsUnauthenticated(status)) << status;
  EXPECT_TRUE(Resolve({"owner"}).ok());
}

TEST_F(AuthTest, P13_WrongCredentialsNeverSucceed) {
  FakeAuthClient& right = AddSession("right");
  right.username = "alice";
  right.secret = "right";
  FakeAuthClient& wrong = AddSession("wrong");
  wrong.username = "alice";
  wrong.secret = "guess";
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(Resolve({"right"}).ok());
    EXPECT_TRUE(absl::IsUnauthenticated(Resolve({"wrong"})));
  }
  EXPECT_EQ(given_, 1);
  EXPECT_TRUE(Resolve({"wrong", "right"}).ok()) << "of one build's sessions any will do";
}

TEST_F(AuthTest, ARefusedTokenIsToldInTheWordsOfItsServer) {
  FakeAuthClient& client = AddSession("s");
  client.username = "alice";
  client.secret = "guess";
  for (const auto& [body, words] : std::vector<std::pair<std::string, std::string>>{
           {R"({"details":"incorrect username or password"})", "incorrect username or password"},
           {R"({"errors":[{"code":"DENIED","message":"account locked"}]})",
            "DENIED: account locked"},
           {R"({"error":"invalid_grant","error_description":"key expired"})", "key expired"},
           {"come back later", "come back later"}}) {
    on_token_ = [&body = body](const TestHttpRequest&) {
      return TestHttpServer::Answer("401 Unauthorized", {}, body);
    };
    const absl::Status pulled = Resolve({"s"});
    RegistryCall call = Call();
    call.session_ids = {"s"};
    const absl::Status pushed =
        client_->PushManifest(Ref("private:w"), {kOciManifest, Digest::Of("{}"), 2}, "{}", false,
                              Registry::PutManifest::kAtOnce, call);
    for (const absl::Status& status : {pulled, pushed}) {
      EXPECT_TRUE(absl::IsUnauthenticated(status)) << status;
      EXPECT_THAT(std::string(status.message()),
                  AllOf(HasSubstr("no credentials for " + registry_.host() + ": "),
                        HasSubstr(tokens_.Url("/token")), HasSubstr("status 401: " + words)));
    }
  }
}

TEST_F(AuthTest, P14_AClientThatDoesNotAnswerIsGivenUpOnCancel) {
  FakeAuthClient& client = AddSession("s");
  client.on_credentials = [this](grpc::ServerContext* context) {
    cancel_.Cancel(absl::CancelledError("enough"));
    while (!context->IsCancelled()) std::this_thread::yield();
  };
  EXPECT_EQ(Resolve({"s"}), absl::CancelledError("enough"));
}

TEST_F(AuthTest, ASessionThatLeftIsPassedOver) {
  FakeAuthClient& client = AddSession("s");
  client.username = "alice";
  client.secret = "right";
  EXPECT_TRUE(Resolve({"gone", "s"}).ok());
}

TEST_F(AuthTest, BasicAuthentication) {
  registry_.challenge = "Basic realm=\"x\"";
  registry_.authorization = BasicOf("alice", "right");
  FakeAuthClient& client = AddSession("s");
  client.username = "alice";
  client.secret = "right";
  EXPECT_TRUE(Resolve({"s"}).ok());
  registry_.server().Forget();
  EXPECT_TRUE(Resolve({"s"}).ok());
  EXPECT_EQ(registry_.Seen().size(), 1u) << "no second challenge";
  const absl::Status nobody = Resolve({});
  EXPECT_TRUE(absl::IsUnauthenticated(nobody));
  EXPECT_THAT(std::string(nobody.message()), HasSubstr("private:v"));
}

TEST_F(AuthTest, BearerIsPreferredToBasic) {
  registry_.challenge = absl::StrCat("Basic realm=\"x\", ", registry_.challenge);
  FakeAuthClient& client = AddSession("s");
  client.username = "alice";
  client.secret = "right";
  EXPECT_TRUE(Resolve({"s"}).ok());
}

TEST_F(AuthTest, ATokenThatDoesNotSufficeIsNotAskedForForever) {
  on_token_ = [](const TestHttpRequest&) {
    return TestHttpServer::Answer("200 OK", {}, R"({"token":"weak","expires_in":300})");
  };
  const absl::Status status = Resolve({});
  EXPECT_TRUE(absl::IsUnauthenticated(status)) << status;
  EXPECT_LE(registry_.Seen().size(), 6u);
}

TEST_F(AuthTest, BrokenTokenServers) {
  for (const char* body : {"", "[]", "{}", "{\"token\":3}", "not json"}) {
    on_token_ = [body](const TestHttpRequest&) {
      return TestHttpServer::Answer("200 OK", {}, body);
    };
    EXPECT_FALSE(Resolve({}).ok()) << body;
  }
  on_token_ = [](const TestHttpRequest&) {
    return TestHttpServer::Answer("200 OK", {}, std::string(2 << 20, ' '));
  };
  EXPECT_THAT(std::string(Resolve({}).message()), HasSubstr("too large"));
}

TEST_F(AuthTest, HeadersThatAreNoChallenge) {
  for (const char* challenge : {"", "Bearer", "Negotiate", ",,,", "Bearer realm=", "=\"", "\\"}) {
    registry_.challenge = challenge;
    client_.reset();
    EXPECT_FALSE(Resolve({}).ok()) << challenge;
  }
}

TEST(TokenExpiryTest, NineTenthsOfItsLife) {
  const absl::Time now = absl::FromUnixSeconds(1'000'000);
  EXPECT_EQ(TokenExpiry(absl::Seconds(100), absl::InfinitePast(), now), now + absl::Seconds(90));
  EXPECT_EQ(TokenExpiry(absl::ZeroDuration(), absl::InfinitePast(), now), now + absl::Seconds(54));
  EXPECT_EQ(TokenExpiry(absl::Seconds(100), now - absl::Seconds(50), now), now + absl::Seconds(40));
  EXPECT_EQ(TokenExpiry(absl::Seconds(100), now + absl::Hours(1), now), now + absl::Seconds(90));
}

}  // namespace
}  // namespace kiln::daemon
