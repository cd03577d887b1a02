// Bills of materials that the frontend makes (dockerfile.md 8.4).
#include <gmock/gmock.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/frontend/sbom_attach.h"
#include "tests/daemon/frontend/dockerfile/frontend_fixture.h"

namespace kiln::daemon {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

class SbomTest : public FrontendFixture {
 protected:
  SbomTest() {
    client_.AddImage("busybox");
    client_.AddImage("scanner", R"("Entrypoint":["/bin/scan"],"Cmd":["-v"],"Env":["A=b","C"],)"
                                R"("WorkingDir":"/work")");
    client_.options["attest:sbom"] = "generator=scanner,DEPTH=3";
  }
  // Where the scan mounts what.
  std::map<std::string, pb::Mount> Mounts() const {
    std::map<std::string, pb::Mount> mounts;
    for (const pb::Op& exec : Execs()) {
      if (exec.exec().meta().args(0) != "/bin/scan") continue;
      for (const pb::Mount& mount : exec.exec().mounts()) mounts[mount.dest()] = mount;
    }
    return mounts;
  }
  bool IgnoresCache() const {
    const pb::Definition graph = Graph();
    for (const auto& [digest, metadata] : graph.metadata())
      if (metadata.description().contains("llb.customname") &&
          absl::StrContains(metadata.description().at("llb.customname"), "generating sbom"))
        return metadata.ignore_cache();
    ADD_FAILURE() << "no scan";
    return false;
  }
};

TEST_F(SbomTest, OneStepOfTheScannerListsTheResult) {
  const auto result = Build("FROM busybox\nCOPY . /\n");
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_THAT(result->attestations, SizeIs(1));
  const auto& attestations = result->attestations.at("linux/amd64");
  ASSERT_THAT(attestations, SizeIs(1));
  EXPECT_EQ(attestations[0].attestation.kind, Attestation::Kind::kBundle);
  EXPECT_EQ(attestations[0].attestation.predicate_type, "https://spdx.dev/Document");
  EXPECT_THAT(attestations[0].attestation.metadata,
              ElementsAre(std::pair("reason", "sbom"), std::pair("sbom-core", "sbom")));
  EXPECT_EQ(attestations[0].ref, absl::StrCat(client_.Solves().size() - 1));
  ASSERT_THAT(Execs(), SizeIs(1));
  const pb::Op exec = Execs()[0];
  EXPECT_THAT(Args(exec), ElementsAre("/bin/scan", "-v"));
  EXPECT_THAT(Env(exec),
              ElementsAre("A=b", "C=", "BUILDKIT_SCAN_DESTINATION=/run/out/",
                          "BUILDKIT_SCAN_SOURCE=/run/src/core/sbom", "BUILDKIT_SCAN_DEPTH=3"));
  EXPECT_EQ(exec.exec().meta().cwd(), "/work");
  const auto mounts = Mounts();
  ASSERT_THAT(mounts, SizeIs(4));
  EXPECT_EQ(mounts.at("/tmp").mounttype(), pb::TMPFS);
  EXPECT_TRUE(mounts.at("/run/src/core/sbom").readonly());
  EXPECT_EQ(mounts.at("/run/out/").input(), -1);
  EXPECT_THAT(Names(), Contains("[linux/amd64] generating sbom using "
                                "docker.io/library/scanner:latest"));
  EXPECT_FALSE(IgnoresCache());
}

TEST_F(SbomTest, S144ScanArgumentsAddStagesAndTheContext) {
  const char* dockerfile =
      "ARG BUILDKIT_SBOM_SCAN_CONTEXT=true\nFROM busybox AS base\nARG BUILDKIT_SBOM_SCAN_STAGE=1\n"
      "RUN a\nFROM busybox\nARG BUILDKIT_SBOM_SCAN_STAGE=1\nRUN b\nFROM busybox AS unused\n"
      "ARG BUILDKIT_SBOM_SCAN_STAGE=1\nFROM scratch\nCOPY --from=base /a /a\n"
      "COPY --from=1 /b /b\nCOPY c /c\n";
  ASSERT_TRUE(Build(dockerfile).ok());
  std::map<std::string, pb::Mount> mounts = Mounts();
  EXPECT_THAT(mounts, SizeIs(7));
  for (const char* name : {"context", "base", "stage-1"})
    EXPECT_TRUE(mounts[std::string("/run/src/extras/sbom-") + name].readonly()) << name;
  bool told = false;
  for (const pb::Op& exec : Execs()) {
    const std::vector<std::string> env = Env(exec);
    told |= std::count(env.begin(), env.end(), "BUILDKIT_SCAN_SOURCE_EXTRAS=/run/src/extras") == 1;
    EXPECT_THAT(env, Not(Contains(StartsWith("BUILDKIT_SBOM"))));
  }
  EXPECT_TRUE(told);
  // Build args switch it off where the argument is declared.
  client_.options["build-arg:BUILDKIT_SBOM_SCAN_CONTEXT"] = "false";
  client_.options["build-arg:BUILDKIT_SBOM_SCAN_STAGE"] = "0";
  ASSERT_TRUE(Build(dockerfile).ok());
  EXPECT_THAT(Mounts(), SizeIs(4));
  // A stage may be named.
  client_.options["build-arg:BUILDKIT_SBOM_SCAN_STAGE"] = "base,other";
  ASSERT_TRUE(Build(dockerfile).ok());
  mounts = Mounts();
  EXPECT_THAT(mounts, SizeIs(5));
  EXPECT_TRUE(mounts.contains("/run/src/extras/sbom-base"));
  client_.options["no-cache"] = "base";
  ASSERT_TRUE(Build(dockerfile).ok());
  EXPECT_TRUE(IgnoresCache());
}

TEST_F(SbomTest, EveryPlatformHasItsOwn) {
  client_.options["platform"] = "linux/amd64,linux/arm64";
  const auto result = Build("FROM scratch\nCOPY . /\n");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->attestations, SizeIs(2));
  EXPECT_THAT(Names(), Contains(HasSubstr("[linux/arm64] generating sbom using")));
  // What runs is the program for the machine.
  EXPECT_EQ(client_.Requests().back().platform, "linux/amd64");
  for (const pb::Op& exec : Execs()) EXPECT_EQ(exec.platform().architecture(), "amd64");
}

TEST_F(SbomTest, AScannerNeedsACommand) {
  client_.AddImage("empty");
  client_.options["attest:sbom"] = "generator=empty";
  EXPECT_EQ(Build("FROM busybox\n").status().message(),
            "scanner docker.io/library/empty:latest does not have cmd");
  client_.options["attest:sbom"] = "generator=";
  EXPECT_EQ(Build("FROM busybox\n").status().message(), "sbom generator cannot be empty");
  client_.options["attest:sbom"] = "";
  EXPECT_THAT(std::string(Build("FROM busybox\n").status().message()),
              HasSubstr("docker.io/docker/buildkit-syft-scanner:stable-1"));
}

TEST_F(SbomTest, E15TheDaemonScansWhatNobodyHasScanned) {
  pb::Definition definition;
  pb::Op source;
  source.mutable_source()->set_identifier("local://x");
  definition.add_def(source.SerializeAsString());
  pb::Op last;
  last.add_inputs()->set_digest(Digest::Of(definition.def(0)).ToString());
  definition.add_def(last.SerializeAsString());
  FrontendClient::Solve solve;
  solve.definition = definition.SerializeAsString();
  auto result = client_.SolveGraph(solve);
  ASSERT_TRUE(result.ok());
  const auto attach = [&](std::map<std::string, std::string> opts) {
    return AttachSbom(client_, opts, {"linux/amd64"}, &*result);
  };
  ASSERT_EQ(attach({{"attest:provenance", ""}}), absl::OkStatus());
  EXPECT_THAT(result->attestations, IsEmpty());
  ASSERT_EQ(attach({{"attest:sbom", "generator=scanner"}, {"no-cache", ""}}), absl::OkStatus());
  EXPECT_THAT(result->attestations.at("linux/amd64"), SizeIs(1));
  EXPECT_THAT(Mounts(), SizeIs(4));
  EXPECT_TRUE(IgnoresCache());
  const size_t solves = client_.Solves().size();
  ASSERT_EQ(attach({{"attest:sbom", "generator=scanner"}}), absl::OkStatus());
  EXPECT_THAT(result->attestations.at("linux/amd64"), SizeIs(1));
  EXPECT_THAT(client_.Solves(), SizeIs(solves));
  // Nothing in it, nothing to list.
  BridgeResult empty;
  ASSERT_EQ(AttachSbom(client_, {{"attest:sbom", "generator=scanner"}}, {}, &empty),
            absl::OkStatus());
  EXPECT_THAT(empty.attestations, IsEmpty());
}

}  // namespace
}  // namespace kiln::daemon
