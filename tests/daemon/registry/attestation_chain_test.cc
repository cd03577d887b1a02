#include "daemon/registry/attestation_chain.h"

#include <set>

#include "absl/strings/str_join.h"
#include "daemon/image/media_types.h"
#include "tests/daemon/registry/registry_fixture.h"

namespace kiln::daemon {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

constexpr char kBundle[] = "application/vnd.dev.sigstore.bundle.v0.3+json";
constexpr char kCosign[] = "application/vnd.dev.cosign.artifact.sig.v1+json";
constexpr char kProvenance[] = "https://slsa.dev/provenance/v1";
constexpr char kSpdx[] = "https://spdx.dev/Document";

// An image of two platforms in the repository "app", with attestations of the first.
class AttestationChainTest : public RegistryFixture {
 protected:
  AttestationChainTest() {
    provenance_ = registry_.AddBlob("app", "provenance", "application/vnd.in-toto+json");
    spdx_ = registry_.AddBlob("app", "spdx", "application/vnd.in-toto+json");
    attestation_ =
        AddManifest({Entry(provenance_, Annotated("in-toto.io/predicate-type", kProvenance)),
                     Entry(spdx_, Annotated("in-toto.io/predicate-type", kSpdx))});
    amd64_ = AddManifest({});
    registry_.AddBlob("app", "arm64 layer");
    arm64_ = AddManifest({Entry(registry_.AddBlob("app", "arm64 layer"))});
    root_ = AddIndex({Entry(arm64_, Platform("arm64")), Entry(amd64_, Platform("amd64")),
                      Entry(attestation_, AboutAmd64())});
  }
  static std::string Annotated(const std::string& name, const std::string& value) {
    return absl::StrCat(R"(,"annotations":{")", name, R"(":")", value, "\"}");
  }
  static std::string Platform(const std::string& architecture) {
    return absl::StrCat(R"(,"platform":{"os":"linux","architecture":")", architecture, "\"}");
  }
  std::string AboutAmd64() const {
    return absl::StrCat(R"(,"platform":{"os":"unknown","architecture":"unknown"},)",
                        R"("annotations":{"vnd.docker.reference.type":"attestation-manifest",)",
                        R"("vnd.docker.reference.digest":")", amd64_.digest.ToString(), "\"}");
  }
  static std::string Entry(const store::Descriptor& descriptor, const std::string& more = "") {
    return absl::StrCat(R"({"mediaType":")", descriptor.media_type, R"(","digest":")",
                        descriptor.digest.ToString(), R"(","size":)", descriptor.size_bytes, more,
                        "}");
  }
  store::Descriptor AddManifest(const std::vector<std::string>& layers,
                                const std::string& more = "") {
    return registry_.AddManifest(
        "app", "",
        absl::StrCat(R"({"mediaType":")", kOciManifest, R"(","config":)",
                     Entry(registry_.AddBlob("app", "{}", kOciConfig)), R"(,"layers":[)",
                     absl::StrJoin(layers, ","), "]", more, "}"),
        kOciManifest);
  }
  store::Descriptor AddIndex(const std::vector<std::string>& entries,
                             const std::string& more = "") {
    return registry_.AddManifest("app", "v",
                                 absl::StrCat(R"({"mediaType":")", kOciIndex, R"(","manifests":[)",
                                              absl::StrJoin(entries, ","), "]", more, "}"),
                                 kOciIndex);
  }
  // A manifest that refers to another one.
  std::string AddReferrer(const std::string& artifact_type, const std::string& signature) {
    const store::Descriptor manifest =
        AddManifest({Entry(registry_.AddBlob("app", signature, artifact_type))});
    signatures_.push_back(manifest.digest);
    return Entry(manifest, absl::StrCat(R"(,"artifactType":")", artifact_type, "\""));
  }
  // The registry's own list of referrers; "" for none.
  void ServeReferrers(const Digest& subject, const std::string& list) {
    registry_.fault = [path = "/v2/app/referrers/" + subject.ToString(),
                       list](const TestHttpRequest& request) -> std::optional<std::string> {
      if (request.path != path) return std::nullopt;
      return TestHttpServer::Answer("200 OK", {absl::StrCat("Content-Type: ", kOciIndex)}, list);
    };
  }
  absl::StatusOr<std::shared_ptr<const AttestationChain>> Read(
      const std::string& platform = "linux/amd64",
      const std::vector<std::string>& predicate_types = {}) {
    const Reference app = Ref("app");
    const AttestationReader from{
        [&](const store::Descriptor& descriptor) {
          return client().FetchSmall(app, descriptor, Call());
        },
        [&](const Digest& subject) { return client().FetchReferrers(app, subject, Call()); }};
    return ReadAttestationChain(from, root_, *ParsePlatform(platform), predicate_types);
  }
  static std::set<Digest> Blobs(const AttestationChain& chain) {
    std::set<Digest> out;
    for (const auto& [digest, blob] : chain.blobs) {
      EXPECT_EQ(Digest::Of(blob.bytes), digest);
      EXPECT_EQ(blob.descriptor.digest, digest);
      out.insert(digest);
    }
    return out;
  }

  store::Descriptor provenance_, spdx_, attestation_, amd64_, arm64_, root_;
  std::vector<Digest> signatures_;
};

TEST_F(AttestationChainTest, FromTheRootToTheAttestations) {
  const auto chain = Read();
  ASSERT_TRUE(chain.ok()) << chain.status();
  EXPECT_EQ((*chain)->root, root_.digest);
  EXPECT_EQ((*chain)->image_manifest, amd64_.digest);
  EXPECT_EQ((*chain)->attestation_manifest, attestation_.digest);
  EXPECT_THAT((*chain)->signature_manifests, IsEmpty());
  EXPECT_THAT(Blobs(**chain), UnorderedElementsAre(root_.digest, attestation_.digest));
  EXPECT_EQ((*chain)
                ->blobs.at(attestation_.digest)
                .descriptor.annotations.count("vnd.docker.reference.type"),
            1u);
}

TEST_F(AttestationChainTest, StatementsAreReadWhenAskedFor) {
  const auto chain = Read("linux/amd64", {"", kProvenance, "https://example.com/none"});
  ASSERT_TRUE(chain.ok()) << chain.status();
  EXPECT_THAT(Blobs(**chain),
              UnorderedElementsAre(root_.digest, attestation_.digest, provenance_.digest));
}

TEST_F(AttestationChainTest, AnImageWithoutAttestationsIsAShortChain) {
  const auto chain = Read("linux/arm64", {kProvenance});
  ASSERT_TRUE(chain.ok()) << chain.status();
  EXPECT_EQ((*chain)->image_manifest, arm64_.digest);
  EXPECT_TRUE((*chain)->attestation_manifest.empty());
  EXPECT_THAT(Blobs(**chain), UnorderedElementsAre(root_.digest));
  EXPECT_EQ(registry_.Count("referrers"), 0u);
  const auto none = Read("linux/s390x");
  EXPECT_TRUE(absl::IsFailedPrecondition(none.status()));
  EXPECT_THAT(std::string(none.status().message()), HasSubstr("linux/s390x"));
}

TEST_F(AttestationChainTest, TheBestSignatureIsInIt) {
  std::vector<std::string> entries;
  for (const auto& [type, bytes] : std::vector<std::pair<std::string, std::string>>{
           {"text/other", "x"}, {kCosign, "cosign"}, {kBundle, "bundle"}})
    entries.push_back(AddReferrer(type, bytes));
  const std::string list = absl::StrCat(R"({"mediaType":")", kOciIndex, R"(","manifests":[)",
                                        absl::StrJoin(entries, ","), "]}");
  ServeReferrers(attestation_.digest, list);
  const auto chain = Read();
  ASSERT_TRUE(chain.ok()) << chain.status();
  EXPECT_THAT((*chain)->signature_manifests, ElementsAre(signatures_[2]));
  EXPECT_THAT(Blobs(**chain), UnorderedElementsAre(root_.digest, attestation_.digest,
                                                   signatures_[2], Digest::Of("bundle")));
}

TEST_F(AttestationChainTest, ARegistryWithoutListsHasThemAsATag) {
  registry_.AddManifest("app", "sha256-" + attestation_.digest.hex(),
                        absl::StrCat(R"({"manifests":[)", AddReferrer(kCosign, "cosign"), "]}"),
                        kOciIndex);
  const auto chain = Read();
  ASSERT_TRUE(chain.ok()) << chain.status();
  EXPECT_THAT((*chain)->signature_manifests, ElementsAre(signatures_[0]));
  EXPECT_EQ(registry_.Count("/referrers/"), 1u);
}

TEST_F(AttestationChainTest, HardenedImagesHaveTheirsAsReferrers) {
  const std::string build = Annotated("com.docker.dhi.build.id", "1");
  root_ = AddIndex({Entry(amd64_, Platform("amd64") + build)},
                   Annotated("org.opencontainers.image.title", "dhi/app"));
  EXPECT_THAT(std::string(Read().status().message()), HasSubstr("no provenance refers to"));
  const std::string entry =
      Entry(attestation_, absl::StrCat(R"(,"artifactType":"application/vnd.in-toto+json")",
                                       Annotated("in-toto.io/predicate-type", kProvenance)));
  ServeReferrers(amd64_.digest, absl::StrCat(R"({"manifests":[)", entry, "]}"));
  const auto chain = Read();
  ASSERT_TRUE(chain.ok()) << chain.status();
  EXPECT_EQ((*chain)->attestation_manifest, attestation_.digest);
}

TEST_F(AttestationChainTest, WhatIsWrongIsNamed) {
  const auto error = [&] { return std::string(Read().status().message()); };
  ServeReferrers(attestation_.digest, "{");
  EXPECT_THAT(error(), HasSubstr("list of what refers to " + attestation_.digest.ToString()));
  registry_.fault = [](const TestHttpRequest& request) -> std::optional<std::string> {
    if (!absl::StrContains(request.path, "/referrers/")) return std::nullopt;
    return FakeRegistry::Error("403 Forbidden", "DENIED", "no lists for you");
  };
  EXPECT_THAT(error(), AllOf(HasSubstr(registry_.host() + "/app@" + attestation_.digest.ToString()),
                             HasSubstr("no lists for you")));
  registry_.fault = nullptr;
  // A statement that would not fit into an answer.
  store::Descriptor huge = provenance_;
  huge.size_bytes = 13 << 20;
  attestation_ = AddManifest({Entry(huge, Annotated("in-toto.io/predicate-type", kProvenance))});
  root_ = AddIndex({Entry(amd64_, Platform("amd64")), Entry(attestation_, AboutAmd64())});
  const auto chain = Read("linux/amd64", {kProvenance});
  EXPECT_TRUE(absl::IsResourceExhausted(chain.status())) << chain.status();
}

}  // namespace
}  // namespace kiln::daemon
