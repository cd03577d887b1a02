// Judged by others: GNU tar and umoci unpack what we make, and we what GNU tar makes.
#include <cstdlib>

#include "tests/store/layer/layer_fixture.h"
#include "tests/store/layer/tree_listing.h"

namespace kiln::store {
namespace {

using testing::SizeIs;

class OutsideTest : public LayerStoreTest {
 protected:
  void Run(const std::string& command) {
    ASSERT_EQ(std::system(("cd " + dir_ + " && " + command).c_str()), 0) << command;
  }
  static bool Has(const std::string& program) {
    return std::system(("command -v " + program + " >/dev/null").c_str()) == 0;
  }
  std::string File(const std::string& name, const std::string& bytes) {
    const std::string path = dir_ + "/" + name;
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
};
FOR_EACH_DRIVER(OutsideTest);

constexpr char kMakeTree[] =
    "mkdir -p t/d/e && echo 1 > t/d/f && ln t/d/f t/h && ln -s d/f t/s && mkfifo t/p && "
    "mknod t/c c 1 3 && echo 2 > t/suid && chown 7:8 t/suid && chmod 4711 t/suid && "
    "truncate -s 100000 t/holes && echo x >> t/holes && chmod 700 t/d/e && "
    "echo 3 > t/$(printf 'n%.0s' $(seq 150)) && echo 4 > t/\xc3\xa4";

TEST_P(OutsideTest, WhatGnuTarWrites) {
  Run(kMakeTree);
  const std::string want = ShowWhole({dir_ + "/t"});
  for (const std::string options :
       {"--format=gnu", "--format=posix", "--format=gnu -S", "--format=posix -S",
        "--format=posix -S --sparse-version=0.1", "--format=posix -S --sparse-version=0.0"}) {
    Run("tar -C t " + options + " -cf made.tar .");
    const RefPtr ref = Pull(nullptr, Remote(Must(ReadFileToString(dir_ + "/made.tar"))));
    EXPECT_EQ(ShowWhole(Must(ref->Materialize({}))), want) << options;
  }
}

TEST_P(OutsideTest, WhatWeWriteGnuTarReads) {
  Run(kMakeTree);
  Run("tar -C t --format=posix -cf made.tar .");
  auto tree = Must(store_->New(nullptr, {}));
  {
    auto mount = Must(store_->Mount(*tree));
    Run("tar -C " + mount->path() + " -xpf made.tar");
    Must(mount->Close());
  }
  const RefPtr ref = Must(tree->Commit());
  const std::vector<LayerBlob> layers = LayersOf(ref);
  ASSERT_THAT(layers, SizeIs(1));
  File("ours.tgz", Stored(layers[0].descriptor.digest));
  Run("mkdir back && tar -C back -xpzf ours.tgz");
  EXPECT_EQ(ShowWhole({dir_ + "/back"}), ShowWhole(Must(ref->Materialize({}))));
}

TEST_P(OutsideTest, UmociUnpacksOurLayersToTheSameTree) {
  if (!Has("umoci")) GTEST_SKIP() << "umoci is not installed";
  Run(kMakeTree);
  auto base_tree = Must(store_->New(nullptr, {}));
  {
    auto mount = Must(store_->Mount(*base_tree));
    Run("tar -C t -cf - . | tar -C " + mount->path() + " -xpf - && mkdir -p " + mount->path() +
        "/gone/deep && echo 9 > " + mount->path() + "/gone/deep/x");
    Must(mount->Close());
  }
  const RefPtr base = Must(base_tree->Commit());
  auto step_tree = Must(store_->New(base, {}));
  {
    auto mount = Must(store_->Mount(*step_tree));
    Run("cd " + mount->path() +
        " && rm -r gone d && mkdir -p gone/new d && echo 5 > d/f && rm s && echo 6 > s && ln c c2");
    Must(mount->Close());
  }
  const RefPtr step = Must(step_tree->Commit());
  const std::vector<LayerBlob> layers = LayersOf(step);
  ASSERT_THAT(layers, SizeIs(2));

  // An OCI layout by hand.
  Run("mkdir -p oci/blobs/sha256");
  auto put = [&](const std::string& bytes) {
    const Digest digest = Digest::Of(bytes);
    File("oci/blobs/sha256/" + digest.hex(), bytes);
    return absl::StrCat("\"digest\":\"", digest.ToString(), "\",\"size\":", bytes.size());
  };
  std::string diff_ids, descriptors;
  for (const LayerBlob& layer : layers) {
    absl::StrAppend(&diff_ids, diff_ids.empty() ? "" : ",", "\"", layer.diff_id.ToString(), "\"");
    absl::StrAppend(&descriptors, descriptors.empty() ? "" : ",", "{\"mediaType\":\"",
                    kOciLayerGzip, "\",", put(Stored(layer.descriptor.digest)), "}");
  }
  const std::string config = put(absl::StrCat(
      "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{},\"rootfs\":{\"type\":"
      "\"layers\",\"diff_ids\":[",
      diff_ids, "]}}"));
  const std::string manifest = put(absl::StrCat(
      "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
      "\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",",
      config, "},\"layers\":[", descriptors, "]}"));
  File("oci/oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
  File("oci/index.json",
       absl::StrCat("{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"application/"
                    "vnd.oci.image.manifest.v1+json\",",
                    manifest, ",\"annotations\":{\"org.opencontainers.image.ref.name\":\"t\"}}]}"));
  Run("umoci raw unpack --image oci:t bundle >/dev/null 2>umoci.log || (cat umoci.log; false)");
  EXPECT_EQ(ShowWhole({dir_ + "/bundle"}), ShowWhole(Must(step->Materialize({}))));
}

}  // namespace
}  // namespace kiln::store
