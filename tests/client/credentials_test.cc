// Secrets, SSH agents and registry credentials: what the client reads on the user's behalf.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "client/session/docker_auth.h"
#include "client/session/secrets.h"
#include "client/session/ssh_agents.h"
#include "store/base/fd.h"

namespace kiln::client {
namespace {

using testing::HasSubstr;

class CredentialsTest : public testing::Test {
 protected:
  CredentialsTest() {
    std::string pattern = testing::TempDir() + "/credentials.XXXXXX";
    dir_ = mkdtemp(pattern.data());
  }
  ~CredentialsTest() override { std::system(("rm -rf " + dir_).c_str()); }

  std::string Write(const std::string& name, absl::string_view data, int mode = 0600) {
    const std::string path = dir_ + "/" + name;
    EXPECT_TRUE(WriteFileAtomic(path, data, mode).ok());
    EXPECT_EQ(chmod(path.c_str(), mode), 0);
    return path;
  }

  std::string dir_;
};

TEST_F(CredentialsTest, SecretFromFileAndEnvironment) {
  SecretStore secrets;
  ASSERT_TRUE(secrets.Add("id=f,src=" + Write("s", "from file")).ok());
  setenv("KILN_TEST_SECRET", "from env", 1);
  ASSERT_TRUE(secrets.Add("id=e,env=KILN_TEST_SECRET").ok());
  ASSERT_TRUE(secrets.Add("id=KILN_TEST_SECRET").ok());
  ASSERT_TRUE(secrets.Add("id=t,type=env,src=KILN_TEST_SECRET").ok());
  EXPECT_EQ(*secrets.Get("f"), "from file");
  EXPECT_EQ(*secrets.Get("e"), "from env");
  EXPECT_EQ(*secrets.Get("KILN_TEST_SECRET"), "from env");
  EXPECT_EQ(*secrets.Get("t"), "from env");
  EXPECT_EQ(secrets.Get("other").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(CredentialsTest, SecretsAreCheckedWhenTheyAreNamed) {
  SecretStore secrets;
  EXPECT_EQ(secrets.Add("id=x,src=" + dir_ + "/none").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(secrets.Add("id=x,env=KILN_TEST_UNSET").code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(secrets.Add("id=x,colour=red").message(), HasSubstr("colour"));
  const std::string limit(SecretStore::kMaxBytes, 'x');
  EXPECT_TRUE(secrets.Add("id=x,src=" + Write("fits", limit)).ok());
  EXPECT_THAT(secrets.Add("id=x,src=" + Write("large", limit + "x")).message(),
              HasSubstr("500 KiB"));
}

TEST_F(CredentialsTest, SshNeedsASocket) {
  SshAgents agents;
  EXPECT_EQ(agents.Add("key=" + Write("id_ed25519", "private")).code(),
            absl::StatusCode::kUnimplemented);
  unsetenv("SSH_AUTH_SOCK");
  EXPECT_THAT(agents.Add("default").message(), HasSubstr("SSH_AUTH_SOCK"));
  EXPECT_EQ(agents.Check("").message(), "unset ssh forward key default");
}

TEST_F(CredentialsTest, DockerConfigEntries) {
  Write("config.json", R"({"auths": {
      "https://index.docker.io/v1/": {"auth": "dTpwOnE="},
      "ghcr.io": {"identitytoken": "tok", "auth": "dTpw"},
      "https://old.example/v2/": {"username": "a", "password": "b"},
      "broken.example": {"auth": "%%%"}}})");
  auto found = LookUpCredentials(dir_, "registry-1.docker.io");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->username, "u");
  EXPECT_EQ(found->secret, "p:q");
  found = LookUpCredentials(dir_, "ghcr.io");
  EXPECT_EQ(found->username, "");
  EXPECT_EQ(found->secret, "tok");
  EXPECT_EQ(LookUpCredentials(dir_, "old.example")->username, "a");
  EXPECT_EQ(LookUpCredentials(dir_, "unknown.example")->secret, "");
  EXPECT_THAT(LookUpCredentials(dir_, "broken.example").status().message(),
              HasSubstr("broken.example"));
}

TEST_F(CredentialsTest, CredentialHelperIsAsked) {
  Write("docker-credential-kilntest", R"(#!/bin/sh
read server
case $server in
  known.example) echo '{"ServerURL":"x","Username":"<token>","Secret":"s3"}' ;;
  *) echo 'credentials not found in native keychain'; exit 1 ;;
esac
)",
        0755);
  Write("config.json",
        R"({"credHelpers": {"known.example": "kilntest"}, "credsStore": "kilntest"})");
  const std::string path = std::string(getenv("PATH"));
  setenv("PATH", (dir_ + ":" + path).c_str(), 1);
  auto found = LookUpCredentials(dir_, "known.example");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->username, "");
  EXPECT_EQ(found->secret, "s3");
  EXPECT_EQ(LookUpCredentials(dir_, "other.example")->secret, "");
  setenv("PATH", path.c_str(), 1);
}

TEST_F(CredentialsTest, NoDockerConfigIsAnonymous) {
  EXPECT_EQ(LookUpCredentials(dir_ + "/none", "ghcr.io")->secret, "");
}

}  // namespace
}  // namespace kiln::client
