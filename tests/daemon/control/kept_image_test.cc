#include "daemon/control/kept_image.h"

#include <gmock/gmock.h>

#include "daemon/image/manifest.h"
#include "daemon/image/media_types.h"
#include "tests/daemon/control/control_fixture.h"

namespace kiln::daemon {
namespace {

using testing::IsEmpty;
using testing::UnorderedElementsAre;

class KeptImageTest : public ControlFixture {
 protected:
  ManifestEntry Add(const std::string& bytes, const std::string& media_type) {
    auto writer = blobs_->Ingest({}, "made");
    EXPECT_TRUE(writer.ok()) << writer.status();
    EXPECT_EQ((*writer)->Append(bytes), absl::OkStatus());
    ManifestEntry entry;
    entry.descriptor.digest = *(*writer)->Commit();
    entry.descriptor.media_type = media_type;
    entry.descriptor.size_bytes = static_cast<int64_t>(bytes.size());
    return entry;
  }
};

TEST_F(KeptImageTest, AllButTheLayers) {
  const ManifestEntry config = Add("{\"a\": 1}", kOciConfig);
  const ManifestEntry layer = Add("layer", "application/vnd.oci.image.layer.v1.tar+gzip");
  const ManifestEntry statement = Add("{}", kInToto);
  const ManifestEntry image =
      Add(Manifest{.media_type = kOciManifest, .config = config, .layers = {layer}}.ToJson(),
          kOciManifest);
  const ManifestEntry attestation =
      Add(Manifest{.media_type = kOciManifest, .config = config, .layers = {statement}}.ToJson(),
          kOciManifest);
  const ManifestEntry root =
      Add(Index{.media_type = kOciIndex, .manifests = {image, attestation}}.ToJson(), kOciIndex);
  ASSERT_EQ(HoldImageDocuments(*blobs_, "kept", root.descriptor), absl::OkStatus());
  ASSERT_EQ(blobs_->DropLease("made"), absl::OkStatus());
  EXPECT_THAT(*blobs_->Held("kept"),
              UnorderedElementsAre(root.descriptor.digest, image.descriptor.digest,
                                   attestation.descriptor.digest, config.descriptor.digest,
                                   statement.descriptor.digest));
}

TEST_F(KeptImageTest, WhatIsGoneIsNoLoss) {
  ManifestEntry root;
  root.descriptor.digest = Digest::Of("gone");
  root.descriptor.media_type = kOciIndex;
  EXPECT_EQ(HoldImageDocuments(*blobs_, "kept", root.descriptor), absl::OkStatus());
  EXPECT_THAT(*blobs_->Held("kept"), IsEmpty());
}

}  // namespace
}  // namespace kiln::daemon
