#include "daemon/attest/provenance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "proto/buildkit/ops.pb.h"
#include "proto/status_details.h"

namespace kiln::daemon {
namespace {

using Json = nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class ProvenanceTest : public testing::Test {
 protected:
  ProvenanceTest() {
    request_.ref = "build-1";
    request_.frontend = "dockerfile.v0";
    request_.opts = {{"build-arg:TOKEN", "t0"},
                     {"label:a", "b"},
                     {"filename", "Dockerfile"},
                     {"attest:provenance", "mode=max"},
                     {"platform", "linux/amd64"},
                     {"target", "final"},
                     {"vcs:source", "https://me:pw@git.test/a.git"},
                     {"vcs:revision", "abc"}};
    request_.started = absl::FromUnixSeconds(1000);
    request_.finished = absl::FromUnixSeconds(1001);
    request_.builder_platform = "linux/amd64";
  }

  std::string Add(pb::Op op) {
    definition_.add_def(op.SerializeAsString());
    return Digest::Of(op.SerializeAsString()).ToString();
  }
  std::string Source(const std::string& identifier,
                     const std::map<std::string, std::string>& attrs = {}) {
    pb::Op op;
    op.mutable_source()->set_identifier(identifier);
    for (const auto& [key, value] : attrs) (*op.mutable_source()->mutable_attrs())[key] = value;
    op.mutable_platform()->set_os("linux");
    op.mutable_platform()->set_architecture("amd64");
    return Add(op);
  }
  void Exec(const std::string& input, pb::NetMode network = pb::NetMode::UNSET) {
    pb::Op op;
    op.add_inputs()->set_digest(input);
    op.mutable_exec()->set_network(network);
    auto* mount = op.mutable_exec()->add_mounts();
    mount->set_mounttype(pb::MountType::SECRET);
    mount->mutable_secretopt()->set_id("mysecret");
    Add(op);
  }
  Json Make(const std::string& options) {
    auto parsed = ProvenanceOptions::FromFrontend({{"attest:provenance", options}});
    EXPECT_TRUE(parsed.ok()) << parsed.status();
    auto facts = ReadBuildFacts(definition_.SerializeAsString(), pins_);
    EXPECT_TRUE(facts.ok()) << facts.status();
    auto text = ProvenancePredicate(request_, *facts, **parsed);
    EXPECT_TRUE(text.ok()) << text.status();
    return text.ok() ? Json::parse(*text) : Json();
  }

  BuildRequest request_;
  pb::Definition definition_;
  SourcePins pins_;
  const std::string image_ =
      "docker-image://docker.io/library/busybox:1@sha256:" + std::string(64, 'a');
};

TEST_F(ProvenanceTest, E17MaxListsEverything) {
  Exec(Source(image_));
  const Json v1 = Make("mode=max,builder-id=https://ci.test/1");
  const Json& definition = v1.at("buildDefinition");
  const Json& request = definition.at("externalParameters").at("request");
  EXPECT_EQ(request.at("frontend"), "dockerfile.v0");
  EXPECT_EQ(request.at("args"),
            Json({{"build-arg:TOKEN", "t0"}, {"label:a", "b"}, {"target", "final"}}));
  EXPECT_EQ(request.at("secrets"), Json::array({{{"id", "mysecret"}}}));
  EXPECT_EQ(definition.at("externalParameters").at("configSource").at("path"), "Dockerfile");
  EXPECT_EQ(definition.at("resolvedDependencies")[0],
            Json({{"uri", "pkg:docker/busybox@1?digest=sha256%3A" + std::string(64, 'a') +
                              "&platform=linux%2Famd64"},
                  {"digest", {{"sha256", std::string(64, 'a')}}}}));
  const Json& steps = definition.at("internalParameters").at("buildConfig").at("llbDefinition");
  ASSERT_EQ(steps.size(), 2u);
  EXPECT_EQ(steps[1].at("inputs"), Json::array({"step0:0"}));
  const Json& run = v1.at("runDetails");
  EXPECT_EQ(run.at("builder").at("id"), "https://ci.test/1");
  const Json& metadata = run.at("metadata");
  EXPECT_EQ(metadata.at("invocationId"), "build-1");
  EXPECT_EQ(metadata.at("startedOn"), "1970-01-01T00:16:40Z");
  EXPECT_EQ(metadata.at("buildkit_completeness"),
            Json({{"request", true}, {"resolvedDependencies", true}}));
  EXPECT_FALSE(metadata.contains("buildkit_hermetic"));
  EXPECT_EQ(metadata.at("buildkit_metadata").at("vcs"),
            Json({{"source", "https://xxxxx:xxxxx@git.test/a.git"}, {"revision", "abc"}}));
}

TEST_F(ProvenanceTest, E17MinHidesArgumentsAndSecrets) {
  Exec(Source(image_));
  const Json v1 = Make("mode=min");
  EXPECT_THAT(v1.dump(), Not(HasSubstr("TOKEN")));
  EXPECT_THAT(v1.dump(), Not(HasSubstr("mysecret")));
  EXPECT_FALSE(v1.at("buildDefinition").at("internalParameters").contains("buildConfig"));
  EXPECT_EQ(v1.at("runDetails").at("metadata").at("buildkit_completeness").at("request"), false);
}

// The frontend adds the digest to what the user wrote.
TEST_F(ProvenanceTest, ImagesAreNamedAsTheyWereAskedFor) {
  Source(image_);
  const auto uri = [&](const std::set<std::string>& tags) {
    const auto facts = ReadBuildFacts(definition_.SerializeAsString(), pins_, tags);
    EXPECT_EQ(facts->dependencies.size(), 1u);
    EXPECT_EQ(facts->dependencies.begin()->hex, std::string(64, 'a'));
    return facts->dependencies.begin()->uri;
  };
  EXPECT_EQ(uri({"docker.io/library/busybox:1"}), "pkg:docker/busybox@1?platform=linux%2Famd64");
  EXPECT_THAT(uri({"docker.io/library/busybox:2"}), HasSubstr("digest=sha256"));
}

TEST_F(ProvenanceTest, E17Version02) {
  Source(image_);
  const Json v02 = Make("mode=max,version=v0.2,reproducible=true");
  EXPECT_EQ(v02.at("buildType"), "https://mobyproject.org/buildkit@v1");
  EXPECT_EQ(v02.at("invocation").at("environment").at("platform"), "linux/amd64");
  EXPECT_EQ(v02.at("invocation").at("configSource").at("entryPoint"), "Dockerfile");
  EXPECT_EQ(v02.at("materials").size(), 1u);
  EXPECT_EQ(v02.at("metadata").at("buildInvocationID"), "build-1");
  EXPECT_EQ(v02.at("metadata").at("reproducible"), true);
  EXPECT_EQ(v02.at("metadata").at("completeness"),
            Json({{"parameters", true}, {"environment", true}, {"materials", true}}));
  EXPECT_EQ(v02.at("metadata").at("https://mobyproject.org/buildkit@v1#hermetic"), true);
}

TEST_F(ProvenanceTest, E17CredentialsAreRedacted) {
  const std::string git =
      Source("git://git.test/a.git#main:sub", {{"git.fullurl", "https://me:pw@git.test/a.git"}});
  pins_.Record(*Digest::Parse(git), std::string(40, 'c'));
  Source("https://u:p@files.test/x", {{"http.checksum", "sha256:" + std::string(64, 'b')}});
  const Json v1 = Make("mode=max");
  EXPECT_THAT(v1.dump(), Not(HasSubstr("pw@")));
  EXPECT_THAT(v1.dump(), Not(HasSubstr("u:p@")));
  const Json& dependencies = v1.at("buildDefinition").at("resolvedDependencies");
  ASSERT_EQ(dependencies.size(), 2u);
  EXPECT_EQ(dependencies[0].at("digest"), Json({{"sha256", std::string(64, 'b')}}));
  EXPECT_EQ(dependencies[1], Json({{"uri", "https://xxxxx:xxxxx@git.test/a.git#main:sub"},
                                   {"digest", {{"sha1", std::string(40, 'c')}}}}));
}

TEST_F(ProvenanceTest, WhatIsNotPinnedIsSaidToBeIncomplete) {
  Source("local://context", {{"local.session", "s1"}, {"local.unique", "u1"}});
  Source("docker-image://docker.io/library/alpine:latest");
  const Json v1 = Make("");
  EXPECT_EQ(
      v1.at("runDetails").at("metadata").at("buildkit_completeness").at("resolvedDependencies"),
      false);
  EXPECT_EQ(v1.at("buildDefinition").at("externalParameters").at("request").at("locals"),
            Json::array({{{"name", "context"}}}));
  EXPECT_THAT(v1.dump(), Not(HasSubstr("local.session")));
  const auto facts = ReadBuildFacts(definition_.SerializeAsString(), pins_);
  ProvenanceOptions complete;
  complete.complete_materials = true;
  const auto refused = ProvenancePredicate(request_, *facts, complete);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(refused.status().message(), HasSubstr("local://context"));
  ASSERT_EQ(Details(refused.status()).size(), 1u);
  EXPECT_EQ(Details(refused.status())[0].value,
            R"({"incomplete":[{"uri":"pkg:docker/alpine@latest?platform=linux%2Famd64",)"
            R"("reason":"unpinned_source"},{"name":"context","reason":"local_source"}]})");
}

TEST_F(ProvenanceTest, OptionsAreChecked) {
  for (const char* bad : {"mode=some", "version=v2", "reproducible=x", "capture-usage=true"})
    EXPECT_FALSE(ProvenanceOptions::FromFrontend({{"attest:provenance", bad}}).ok()) << bad;
  EXPECT_FALSE(ProvenanceOptions::FromFrontend({})->has_value());
  EXPECT_TRUE((*ProvenanceOptions::FromFrontend({{"attest:provenance", "mode=full,inline-only=1"}}))
                  ->inline_only);
  EXPECT_FALSE(
      (*ProvenanceOptions::FromFrontend({{"build-arg:BUILDKIT_ATTEST_PROVENANCE", "mode=min"}}))
          ->max);
}

TEST(RedactTest, Uris) {
  EXPECT_EQ(RedactCredentials("https://t@h/a@b"), "https://xxxxx@h/a@b");
  EXPECT_EQ(RedactCredentials("https://h/a@b"), "https://h/a@b");
  EXPECT_EQ(RedactCredentials("plain"), "plain");
}

}  // namespace
}  // namespace kiln::daemon
