#include "daemon/remotecache/aws_credentials.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/daemon/source/test_http_server.h"
#include "tests/store/temp_dir.h"

namespace kiln::daemon {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(AwsProfileTest, SectionsOfAFile) {
  constexpr char kFile[] =
      "# comment\n[default]\naws_access_key_id = one\nAWS_Secret_access_key=two\n"
      "[ profile other ]\nregion=here\ns3 =\n  addressing_style = path\nx = fo=ur # five\n"
      "[default]\nmore=1\n";
  EXPECT_EQ(ReadAwsSection(kFile, "default")->at("aws_secret_access_key"), "two");
  EXPECT_EQ(ReadAwsSection(kFile, "default")->at("more"), "1");
  EXPECT_EQ(ReadAwsSection(kFile, "profile other")->at("x"), "fo=ur # five");
  EXPECT_EQ(ReadAwsSection(kFile, "profile other")->count("addressing_style"), 0u);
  EXPECT_FALSE(ReadAwsSection(kFile, "none").has_value());
}

// A daemon with an environment of its own, and services on loopback.
class AwsCredentialsTest : public testing::Test {
 protected:
  AwsCredentialsTest()
      : server_([this](const TestHttpRequest& request) {
          const auto found = answers_.find(absl::StrCat(request.method, " ", request.path));
          return found != answers_.end() ? found->second
                                         : TestHttpServer::Answer("404 Not Found", {}, "nothing");
        }) {
    env_["HOME"] = dir_.path();
    env_["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = server_.Url("/");
  }
  std::string File(const std::string& name, const std::string& text) {
    const std::string path = dir_.path() + "/" + name;
    std::ofstream(path) << text;
    return path;
  }
  absl::StatusOr<AwsCredentials> Get() {
    auto source = FindAwsCredentials(
        [this](const char* name) -> std::optional<std::string> {
          const auto found = env_.find(name);
          if (found == env_.end()) return std::nullopt;
          return found->second;
        },
        "eu-1", "test");
    if (!source.ok()) return source.status();
    return (*source)->Get({});
  }
  // "id secret token", or the error's message.
  std::string Found() {
    const auto found = Get();
    if (!found.ok()) return std::string(found.status().message());
    return absl::StrCat(found->access_key_id, " ", found->secret_access_key, " ",
                        found->session_token);
  }
  std::vector<std::string> Seen() {
    std::vector<std::string> out;
    for (const TestHttpRequest& request : server_.requests())
      out.push_back(absl::StrCat(request.method, " ", request.path));
    return out;
  }
  static std::string Json(const std::string& id) {
    return TestHttpServer::Answer("200 OK", {},
                                  absl::StrCat("{\"Code\":\"Success\",\"AccessKeyId\":\"", id,
                                               "\",\"SecretAccessKey\":\"s\",\"Token\":\"t\","
                                               "\"Expiration\":\"2099-01-01T00:00:00Z\"}"));
  }

  store::TempDir dir_;
  std::map<std::string, std::string> env_;
  std::map<std::string, std::string> answers_;  // "GET /path" -> whole answer
  TestHttpServer server_;
};

// Each source counts less than the one before it: they are taken away one by one.
TEST_F(AwsCredentialsTest, InTheOrderOfTheSdks) {
  env_["AWS_ACCESS_KEY_ID"] = "env";
  env_["AWS_SECRET_ACCESS_KEY"] = "s";
  env_["AWS_SESSION_TOKEN"] = "t";
  env_["AWS_WEB_IDENTITY_TOKEN_FILE"] = File("web", "web token\n");
  env_["AWS_ROLE_ARN"] = "arn:aws:iam::1:role/r";
  env_["AWS_ROLE_SESSION_NAME"] = "me";
  env_["AWS_ENDPOINT_URL_STS"] = server_.Url("");
  env_["AWS_SHARED_CREDENTIALS_FILE"] =
      File("credentials", "[default]\naws_access_key_id=file\naws_secret_access_key=s\n");
  env_["AWS_CONFIG_FILE"] = File("config", "[default]\naws_session_token=from config\n");
  env_["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = server_.Url("/container");
  env_["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "not this one";
  env_["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = File("token", "pod token\n");
  answers_["POST /"] = TestHttpServer::Answer(
      "200 OK", {},
      "<R><Credentials><AccessKeyId>web</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
      "<SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
      "</Credentials></R>");
  answers_["GET /container"] = Json("container");
  answers_["PUT /latest/api/token"] = TestHttpServer::Answer("200 OK", {}, "imds token");
  const std::string roles = "/latest/meta-data/iam/security-credentials/";
  answers_["GET " + roles] = TestHttpServer::Answer("200 OK", {}, "my role\n");
  answers_["GET " + roles + "my%20role"] = Json("machine");

  EXPECT_EQ(Found(), "env s t");
  env_.erase("AWS_ACCESS_KEY_ID");

  EXPECT_EQ(Found(), "web s t");
  EXPECT_EQ(server_.requests().at(0).body,
            "Action=AssumeRoleWithWebIdentity&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr&"
            "RoleSessionName=me&Version=2011-06-15&WebIdentityToken=web%20token");
  env_.erase("AWS_WEB_IDENTITY_TOKEN_FILE");

  EXPECT_EQ(Found(), "file s from config");
  env_["AWS_SHARED_CREDENTIALS_FILE"] = "/nonexistent";

  server_.Forget();
  EXPECT_EQ(Found(), "container s t");
  EXPECT_EQ(server_.requests().at(0).Header("authorization"), "pod token");
  env_.erase("AWS_CONTAINER_CREDENTIALS_FULL_URI");

  server_.Forget();
  EXPECT_EQ(Found(), "machine s t");
  EXPECT_THAT(Seen(),
              ElementsAre("PUT /latest/api/token", "GET " + roles, "GET " + roles + "my%20role"));
  EXPECT_EQ(server_.requests()[0].Header("x-aws-ec2-metadata-token-ttl-seconds"), "300");
  EXPECT_EQ(server_.requests()[2].Header("x-aws-ec2-metadata-token"), "imds token");
  env_["AWS_EC2_METADATA_DISABLED"] = "true";
  EXPECT_THAT(Found(), AllOf(HasSubstr("no AWS credentials"), HasSubstr("DISABLED is set")));
}

TEST_F(AwsCredentialsTest, AProfileIsChosenByName) {
  env_["AWS_PROFILE"] = "work";
  std::filesystem::create_directory(dir_.path() + "/.aws");
  EXPECT_THAT(Found(), HasSubstr("profile work is neither in " + dir_.path() +
                                 "/.aws/credentials nor in " + dir_.path() + "/.aws/config"));
  File(".aws/config",
       "[work]\naws_access_key_id=no\n[profile work]\naws_access_key_id=config\n"
       "aws_secret_access_key=s\n");
  EXPECT_EQ(Found(), "config s ");
  File(".aws/credentials", "[work]\naws_access_key_id=id\naws_secret_access_key=secret\n");
  EXPECT_EQ(Found(), "id secret ");
  File(".aws/config", "[profile work]\nrole_arn=r\nsource_profile=default\n");
  EXPECT_THAT(Found(), HasSubstr("source_profile, which is not supported"));
}

TEST_F(AwsCredentialsTest, AProfileWithAWebIdentity) {
  env_["AWS_CONFIG_FILE"] =
      File("config", "[default]\nrole_arn=r\nweb_identity_token_file=" + File("web", "") + "\n");
  env_["AWS_ENDPOINT_URL"] = server_.Url("");
  EXPECT_THAT(Found(), HasSubstr("/web is empty"));
  File("web", "token");
  answers_["POST /"] = TestHttpServer::Answer(
      "403 Forbidden", {},
      "<E><Error><Code>ExpiredToken</Code><Message>too old</Message></Error></E>");
  EXPECT_THAT(Found(), HasSubstr("ExpiredToken: too old"));
  EXPECT_THAT(server_.requests().at(0).body, HasSubstr("RoleSessionName=kiln-"));
}

TEST_F(AwsCredentialsTest, TroubleIsNamed) {
  EXPECT_THAT(Found(), AllOf(HasSubstr("no AWS credentials"), HasSubstr("/latest/api/token")));
  answers_["PUT /latest/api/token"] = TestHttpServer::Answer("200 OK", {}, "t");
  EXPECT_THAT(Found(), HasSubstr("this machine has no role"));
  for (const char* bad : {"http://example.com/x", "http://user@127.0.0.1/", "ftp://localhost"}) {
    env_["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = bad;
    EXPECT_THAT(Found(), HasSubstr("neither https nor")) << bad;
  }
  env_["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = server_.Url("/c");
  for (const char* body :
       {"", "[]", "{}", "{\"AccessKeyId\":1}", "{\"AccessKeyId\":\"i\"}",
        "{\"AccessKeyId\":\"i\",\"SecretAccessKey\":\"s\",\"Expiration\":\"soon\"}",
        "{\"Code\":\"Denied\",\"AccessKeyId\":\"i\",\"SecretAccessKey\":\"s\"}"}) {
    answers_["GET /c"] = TestHttpServer::Answer("200 OK", {}, body);
    EXPECT_EQ(Get().status().code(), absl::StatusCode::kUnauthenticated) << body;
  }
  env_["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "a\r\nb";
  EXPECT_THAT(Found(), HasSubstr("control characters"));
}

TEST(AwsCredentialSourceTest, LentOnesAreRenewedInTime) {
  absl::Time now = absl::FromUnixSeconds(1'000'000);
  int fetched = 0;
  bool broken = false;
  AwsCredentialSource source(
      [&](const CancelToken&) -> absl::StatusOr<TimedAwsCredentials> {
        ++fetched;
        if (broken) return absl::UnavailableError("gone");
        return TimedAwsCredentials{{absl::StrCat("id", fetched), "s", ""}, now + absl::Hours(1)};
      },
      [&] { return now; });
  EXPECT_EQ(source.Get({})->access_key_id, "id1");
  now += absl::Minutes(54);
  EXPECT_EQ(source.Get({})->access_key_id, "id1");
  now += absl::Minutes(2);
  broken = true;
  EXPECT_EQ(source.Get({})->access_key_id, "id1") << "they still hold";
  EXPECT_EQ(source.Get({})->access_key_id, "id1");
  EXPECT_EQ(fetched, 2) << "not asked for again at once";
  now += absl::Minutes(5);
  EXPECT_EQ(source.Get({}).status().message(), "gone");
  broken = false;
  EXPECT_EQ(source.Get({}).status().message(), "gone");
  now += absl::Seconds(6);
  EXPECT_EQ(source.Get({})->access_key_id, "id4");
}

}  // namespace
}  // namespace kiln::daemon
