// Signatures of commits and tags (git.sig.*), made by git with keys made here.
#include <cstdlib>
#include <tuple>

#include "absl/strings/str_replace.h"
#include "store/base/process.h"
#include "tests/daemon/source/git_source_fixture.h"

namespace kiln::daemon {
namespace {

using testing::HasSubstr;

class GitSignatureTest : public GitSourceTest {
 protected:
  ~GitSignatureTest() override {
    if (keys_.Exists("gnupg"))
      Tool({"gpgconf", "--homedir", keys_ / "gnupg", "--kill", "gpg-agent"});
  }

  std::string Tool(std::vector<std::string> args) {
    ProcessOptions options;
    options.args = std::move(args);
    options.cwd = keys_.path();
    options.env = {absl::StrCat("PATH=", std::getenv("PATH")), "LC_ALL=C",
                   absl::StrCat("GNUPGHOME=", keys_ / "gnupg"), "HOME=" + keys_.path()};
    auto out = RunCommandForOutput(options, {});
    EXPECT_TRUE(out.ok()) << out.status();
    return out.value_or("");
  }

  // The public key of a new SSH key pair.
  std::string SshKey(const std::string& name, const std::string& type = "ed25519") {
    Tool({"ssh-keygen", "-q", "-t", type, "-N", "", "-C", name, "-f", keys_ / name});
    return keys_.Read(name + ".pub");
  }
  std::vector<std::string> SignWithSsh(const std::string& name) const {
    return {"-c", "gpg.format=ssh", "-c", "user.signingkey=" + (keys_ / (name + ".pub"))};
  }

  // A new OpenPGP key as of `time`; its armored public half.
  std::string PgpKey(const std::string& mail, const std::string& expires = "0",
                     const std::string& time = "20200101T000000",
                     const std::string& type = "ed25519") {
    if (!keys_.Exists("gnupg")) keys_.Dir("gnupg", 0700);
    Tool({"gpg", "--batch", "--quiet", "--faked-system-time", time, "--pinentry-mode", "loopback",
          "--passphrase", "", "--quick-gen-key", mail, type, "sign", expires});
    return Export(mail);
  }
  std::string Export(const std::string& mail) {
    return Tool({"gpg", "--batch", "--armor", "--export", mail});
  }
  // Signs as of `time`, with more options for gpg.
  std::vector<std::string> SignWithPgp(const std::string& mail,
                                       const std::string& time = "20200102T000000",
                                       const std::string& more = "") {
    keys_.File("gpg",
               absl::StrCat("#!/bin/sh\nexport GNUPGHOME=", keys_ / "gnupg",
                            "\nexec gpg --faked-system-time ", time, " ", more, " \"$@\"\n"),
               0755);
    return {"-c", "gpg.program=" + (keys_ / "gpg"), "-c", "user.signingkey=" + mail};
  }

  void SignedCommit(std::vector<std::string> how) {
    ++seconds_;
    served_.File("repo/f", absl::StrCat(seconds_), 0644, seconds_);
    Git("repo", {"add", "-A"});
    how.insert(how.end(), {"commit", "-q", "-S", "-m", "signed"});
    Git("repo", how);
  }
  void SignedTag(std::vector<std::string> how, const std::string& name) {
    how.insert(how.end(), {"tag", "-s", "-m", "signed", name});
    Git("repo", how);
  }

  absl::Status Verify(const std::string& key, std::map<std::string, std::string> attrs = {},
                      const std::string& fragment = "") {
    FakeOpContext job;
    attrs["git.sig.pubkey"] = key;
    return Make(fragment, std::move(attrs))->Key(job, 0).status();
  }

  fsutil::TestTree keys_;
};

#define EXPECT_REFUSED(status, text)                                  \
  do {                                                                \
    const absl::Status refused = (status);                            \
    EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition); \
    EXPECT_THAT(std::string(refused.message()), HasSubstr(text));     \
  } while (false)

TEST_F(GitSignatureTest, SshSignedCommit) {
  const std::string mine = SshKey("mine"), other = SshKey("other"), rsa = SshKey("rsa", "rsa");
  SignedCommit(SignWithSsh("mine"));
  EXPECT_EQ(Verify(mine), absl::OkStatus());
  EXPECT_EQ(Verify("# keys\n" + other + "from=\"10.0.0.1\",no-pty " + mine), absl::OkStatus());
  EXPECT_REFUSED(Verify(other), "failed to verify signature: ssh signature");
  EXPECT_EQ(Verify("no key").code(), absl::StatusCode::kInvalidArgument);
  SignedCommit(SignWithSsh("rsa"));
  EXPECT_EQ(Verify(rsa), absl::OkStatus());
  EXPECT_REFUSED(Verify(mine), "ssh signature");
  Commit("f", "unsigned");
  EXPECT_REFUSED(Verify(mine), "git object is not signed");
}

TEST_F(GitSignatureTest, PgpSignedCommit) {
  const std::string mine = PgpKey("mine@x"), other = PgpKey("other@x");
  SignedCommit(SignWithPgp("mine@x"));
  EXPECT_EQ(Verify(mine), absl::OkStatus());
  EXPECT_EQ(Verify(other + mine), absl::OkStatus());
  EXPECT_REFUSED(Verify(other), "not among the given ones");
  EXPECT_EQ(Verify("no key").code(), absl::StatusCode::kInvalidArgument);
  SignedCommit(SignWithPgp("mine@x", "20200102T000000", "--digest-algo SHA1"));
  EXPECT_REFUSED(Verify(mine), "weak");
  SignedCommit(SignWithPgp("mine@x", "21000102T000000"));
  EXPECT_FALSE(Verify(mine).ok());
}

TEST_F(GitSignatureTest, RsaKeysMustBeLong) {
  const std::string shorter = PgpKey("short@x", "0", "20200101T000000", "rsa1024");
  SignedCommit(SignWithPgp("short@x"));
  EXPECT_REFUSED(Verify(shorter), "too short: 1024 bits");
  const std::string longer = PgpKey("long@x", "0", "20200101T000000", "rsa2048");
  SignedCommit(SignWithPgp("long@x"));
  EXPECT_EQ(Verify(longer), absl::OkStatus());
}

TEST_F(GitSignatureTest, OnlyTheSignedBytesCount) {
  const std::string pgp = PgpKey("mine@x"), ssh = SshKey("mine");
  for (const auto& [how, key, why] : {std::tuple(SignWithPgp("mine@x"), pgp, "of other data"),
                                      std::tuple(SignWithSsh("mine"), ssh, "ssh signature")}) {
    SignedCommit(how);
    EXPECT_EQ(Verify(key), absl::OkStatus());
    const std::string object = Git("repo", {"cat-file", "commit", "HEAD"}) + "\n";
    served_.File("forged", absl::StrReplaceAll(object, {{"a@b", "e@b"}}));
    const std::string forged =
        Git("repo", {"hash-object", "-t", "commit", "-w", served_ / "forged"});
    Git("repo", {"reset", "-q", "--hard", forged});
    EXPECT_REFUSED(Verify(key), why);
  }
}

TEST_F(GitSignatureTest, ExpiredKeys) {
  const std::string key = PgpKey("old@x", "30d");
  SignedCommit(SignWithPgp("old@x"));
  EXPECT_EQ(Verify(key), absl::OkStatus());
  EXPECT_REFUSED(Verify(key, {{"git.sig.rejectexpired", "true"}}), "key expired");
  const std::string lasting = PgpKey("new@x");
  SignedCommit(SignWithPgp("new@x"));
  EXPECT_EQ(Verify(lasting, {{"git.sig.rejectexpired", "true"}}), absl::OkStatus());
}

TEST_F(GitSignatureTest, RevokedKeys) {
  PgpKey("mine@x");
  SignedCommit(SignWithPgp("mine@x"));
  const std::string revocation =
      Tool({"sh", "-c", "sed 's/^:---/---/' gnupg/openpgp-revocs.d/*.rev"});
  keys_.File("revocation", revocation);
  Tool({"gpg", "--batch", "--quiet", "--import", keys_ / "revocation"});
  EXPECT_REFUSED(Verify(Export("mine@x")), "key revoked");
}

TEST_F(GitSignatureTest, TagsAndCommits) {
  const std::string key = SshKey("mine"), other = SshKey("other");
  Commit("f", "unsigned");
  Git("repo", {"tag", "light"});
  SignedTag(SignWithSsh("mine"), "tag-only");
  SignedTag(SignWithSsh("other"), "wrong-tag");
  SignedCommit(SignWithSsh("mine"));
  Git("repo", {"tag", "-a", "-m", "unsigned", "commit-only"});
  SignedTag(SignWithSsh("other"), "wrong-tag-good-commit");
  const std::map<std::string, std::string> require = {{"git.sig.requiresignedtag", "true"}};
  const std::map<std::string, std::string> ignore = {{"git.sig.ignoresignedtag", "true"}};

  EXPECT_EQ(Verify(key, {}, "#tag-only"), absl::OkStatus());
  EXPECT_EQ(Verify(key, require, "#refs/tags/tag-only"), absl::OkStatus());
  EXPECT_REFUSED(Verify(key, ignore, "#tag-only"), "not signed");
  EXPECT_REFUSED(Verify(key, {}, "#light"), "not signed");
  EXPECT_REFUSED(Verify(key, require, "#light"), "signed tag required but no signed tag found");
  EXPECT_REFUSED(Verify(key, {}, "#wrong-tag"), "not signed");  // the commit's turn
  EXPECT_REFUSED(Verify(key, require, "#wrong-tag"), "ssh signature");
  EXPECT_EQ(Verify(key, {}, "#commit-only"), absl::OkStatus());
  EXPECT_REFUSED(Verify(key, require, "#commit-only"), "not signed");
  EXPECT_EQ(Verify(key, {}, "#wrong-tag-good-commit"), absl::OkStatus());
  EXPECT_EQ(Verify(key, ignore, "#wrong-tag-good-commit"), absl::OkStatus());
  EXPECT_REFUSED(Verify(key, require, "#wrong-tag-good-commit"), "ssh signature");
  EXPECT_EQ(Verify(key, {}, "#" + Git("repo", {"rev-parse", "HEAD"})), absl::OkStatus());
}

// What an earlier build left is not had by one that asks for a signature which is not there.
TEST_F(GitSignatureTest, CheckoutsDoNotGoAroundIt) {
  const std::string mine = SshKey("mine"), other = SshKey("other");
  SignedCommit(SignWithSsh("mine"));
  ASSERT_TRUE(Get().ok());
  EXPECT_REFUSED(Get("", {{"git.sig.pubkey", other}}).status(), "ssh signature");
  EXPECT_TRUE(Get("", {{"git.sig.pubkey", mine}}).ok());
}

}  // namespace
}  // namespace kiln::daemon
