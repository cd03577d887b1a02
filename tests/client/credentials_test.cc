// Secrets, SSH agents and registry credentials: what the client reads on the user's behalf.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/session/docker_auth.h"
#include "client/session/key_agent.h"
#include "client/session/secrets.h"
#include "client/session/ssh_agents.h"
#include "store/base/fd.h"
#include "store/base/process.h"

namespace kiln::client {
namespace {

using testing::HasSubstr;

// Standard output of a command that is to succeed, without the last newline.
std::string RunOrFail(std::vector<std::string> args) {
  ProcessOptions options;
  options.args = std::move(args);
  const auto output = RunCommandForOutput(options, CancelToken());
  EXPECT_TRUE(output.ok()) << output.status();
  return output.ok() ? std::string(absl::StripAsciiWhitespace(*output)) : "";
}

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
  EXPECT_EQ(secrets.Add("id=KILN_TEST_UNSET").code(), absl::StatusCode::kNotFound) << "as a file";
  EXPECT_EQ(secrets.Add("src=" + Write("s", "x")).message(), "it has no id=");
  EXPECT_THAT(secrets.Add("id=x,colour=red").message(), HasSubstr("colour"));
  const std::string limit(SecretStore::kMaxBytes, 'x');
  EXPECT_TRUE(secrets.Add("id=x,src=" + Write("fits", limit)).ok());
  EXPECT_THAT(secrets.Add("id=x,src=" + Write("large", limit + "x")).message(),
              HasSubstr("500 KiB"));
}

TEST_F(CredentialsTest, AVariableThatIsNotSetIsAnEmptySecret) {
  SecretStore secrets;
  const std::string file = Write("s", "from file");
  ASSERT_EQ(secrets.Add("id=x,env=KILN_TEST_UNSET"), absl::OkStatus());
  ASSERT_EQ(secrets.Add("id=y,src=" + file + ",env=KILN_TEST_UNSET"), absl::OkStatus());
  EXPECT_EQ(secrets.Get("x").value_or("none"), "");
  EXPECT_EQ(secrets.Get("y").value_or("none"), "");
  EXPECT_EQ(secrets.Add("id=z,env=PATH,src=" + dir_ + "/none").code(), absl::StatusCode::kNotFound);
}

TEST_F(CredentialsTest, PrivateKeysGetAnAgent) {
  const std::string key = dir_ + "/id", other = dir_ + "/other";
  for (const std::string& file : {key, other})
    RunOrFail({"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file});
  std::string socket;
  {
    SshAgents agents;
    ASSERT_EQ(agents.Add("x=" + key), absl::OkStatus()) << "the last of an id holds";
    ASSERT_EQ(agents.Add(absl::StrCat("x=", key, ",", other)), absl::OkStatus());
    const auto keys = KeyAgent::Start({key, other});
    ASSERT_TRUE(keys.ok()) << keys.status();
    socket = (*keys)->socket();
    const std::string listed = RunOrFail({"env", "SSH_AUTH_SOCK=" + socket, "ssh-add", "-L"});
    for (const std::string& file : {key, other})
      EXPECT_THAT(listed, HasSubstr(RunOrFail({"cut", "-d ", "-f2", file + ".pub"})));
    // What a step of the build gets: SSH_AGENTC_REQUEST_IDENTITIES and its answer.
    auto agent = agents.Connect("x");
    ASSERT_TRUE(agent.ok()) << agent.status();
    ASSERT_EQ(WriteAll(agent->get(), std::string("\0\0\0\1\x0b", 5)), absl::OkStatus());
    char answer[9] = {};
    ASSERT_EQ(recv(agent->get(), answer, sizeof(answer), MSG_WAITALL), 9);
    EXPECT_EQ(answer[4], 12);
    EXPECT_EQ(answer[8], 2) << "both keys";
  }
  EXPECT_NE(access(socket.c_str(), F_OK), 0);
  RunOrFail({"ssh-keygen", "-q", "-p", "-P", "", "-N", "a secret", "-f", other});
  SshAgents agents;
  EXPECT_THAT(agents.Add("k=" + Write("id_ed25519", "private")).message(),
              HasSubstr("private key " + dir_ + "/id_ed25519"));
  EXPECT_THAT(agents.Add("k=" + dir_ + "/none").message(), HasSubstr("/none"));
}

TEST_F(CredentialsTest, SshNeedsAnAgent) {
  SshAgents agents;
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
