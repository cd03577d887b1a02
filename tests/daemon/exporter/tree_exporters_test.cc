#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "daemon/exporter/local_exporter.h"
#include "daemon/exporter/tar_exporter.h"
#include "daemon/exporter/tar_writer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/base/process.h"
#include "store/fsutil/directory_source.h"
#include "tests/daemon/session/fake_client.h"
#include "tests/daemon/session/fake_session.h"
#include "tests/daemon/source/fake_op_context.h"
#include "tests/store/fsutil/test_tree.h"

namespace kiln::daemon {
namespace {

using fsutil::TestTree;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

// A ref whose layers are directories of the test.
class LayersRef : public store::Ref {
 public:
  explicit LayersRef(store::Layers layers) : layers_(std::move(layers)) {}
  const std::string& id() const override { return id_; }
  absl::StatusOr<store::Layers> Materialize(const CancelToken&) const override { return layers_; }

 private:
  const std::string id_ = "ref";
  const store::Layers layers_;
};

// Unpacks with the system's tar, which is not ours.
void Unpack(const std::string& archive, const TestTree& to) {
  TestTree box;
  box.File("a.tar", archive);
  ProcessOptions options;
  options.args = {"tar", "-x",          "--xattrs", "--xattrs-include=*",
                  "-f",  box / "a.tar", "-C",       to.path()};
  auto out = RunCommandForOutput(options, {});
  ASSERT_TRUE(out.ok()) << out.status();
}

class TreeExportersTest : public testing::Test {
 protected:
  TreeExportersTest() {
    sessions_.sessions["s1"] = std::make_shared<FakeSession>("s1", client_.Channel());
    client_.export_dir = out_.path();
    context_.index = 2;
    context_.session_id = "s1";
    context_.sessions = &sessions_;
    context_.progress = &progress_;
  }
  static store::RefPtr Ref(const TestTree& tree) {
    return std::make_shared<LayersRef>(store::Layers{tree.path()});
  }
  absl::Status Export(absl::StatusOr<std::unique_ptr<Exporter>> exporter,
                      const ExportSource& source) {
    EXPECT_TRUE(exporter.ok()) << exporter.status();
    return (*exporter)->Export(source, context_).status();
  }
  static ExportSource One(const TestTree& tree) {
    ExportSource source;
    source.ref = Ref(tree);
    return source;
  }
  static ExportSource Two(const TestTree& amd, const TestTree& arm) {
    ExportSource source;
    source.is_map = true;
    source.refs = {{"linux/amd64", Ref(amd)}, {"linux/arm/v7", Ref(arm)}};
    source.platforms = {{"linux/amd64", "{}"}, {"linux/arm/v7", "{}"}};
    return source;
  }
  std::vector<std::string> Labels() {
    std::vector<std::string> out;
    for (const auto& status : progress_.statuses)
      if (status.completed != absl::InfinitePast()) out.push_back(status.id);
    std::sort(out.begin(), out.end());
    return out;
  }

  FakeClient client_;
  FakeSessions sessions_;
  FakeOpContext progress_;
  ExportContext context_;
  TestTree out_;
};

Attestation Provenance(const std::string& content = "{\"a\":{}}") {
  Attestation attestation;
  attestation.predicate_type = "https://slsa.dev/provenance/v1";
  attestation.path = "provenance.json";
  attestation.content = content;
  return attestation;
}

TEST_F(TreeExportersTest, E13_AttestationsAreFilesAboutTheFiles) {
  TestTree amd, arm;
  for (TestTree* tree : {&amd, &arm}) {
    tree->File("greeting", "hello");
    tree->Dir("d");
    tree->File("d/f", "f");
    tree->Link("link", "greeting");
  }
  ExportSource source = Two(amd, arm);
  for (const auto& platform : source.platforms) {
    Attestation hidden = Provenance();
    hidden.path = "hidden.json";
    hidden.metadata["inline-only"] = "true";
    source.attestations[platform.id] = {Provenance(), hidden};
  }
  ASSERT_TRUE(Export(NewLocalExporter({{"attestation-prefix", "test."}}), source).ok());
  EXPECT_EQ(out_.Read("linux_arm_v7/test.provenance.json"),
            absl::StrCat(R"({
  "_type": "https://in-toto.io/Statement/v1",
  "predicateType": "https://slsa.dev/provenance/v1",
  "subject": [
    {
      "name": "d/f",
      "digest": {
        "sha256": ")",
                         Digest::Of("f").hex(), R"("
      }
    },
    {
      "name": "greeting",
      "digest": {
        "sha256": ")",
                         Digest::Of("hello").hex(), R"("
      }
    }
  ],
  "predicate": {
    "a": {}
  }
})"));
  EXPECT_EQ(out_.Lstat("linux_amd64/test.provenance.json").st_mode & 07777, 0600u);
  EXPECT_EQ(out_.Read("linux_amd64/greeting"), "hello");
  EXPECT_NE(access((out_.path() + "/linux_amd64/test.hidden.json").c_str(), F_OK), 0);
  // A tar holds the same.
  const std::string told = out_.Read("linux_arm_v7/test.provenance.json");
  client_.export_dir.clear();
  ASSERT_TRUE(Export(NewTarExporter({{"attestation-prefix", "test."}}), source).ok());
  TestTree back;
  Unpack(client_.received_file, back);
  EXPECT_EQ(back.Read("linux_arm_v7/test.provenance.json"), told);
  EXPECT_EQ(back.Read("linux_amd64/greeting"), "hello");
  EXPECT_FALSE(back.Exists("linux_amd64/test.hidden.json"));
}

TEST_F(TreeExportersTest, MergedPlatformsAreInTheNamesOfAttestations) {
  TestTree amd, arm;
  amd.File("a", "1");
  arm.File("z", "2");
  ExportSource source = Two(amd, arm);
  for (const auto& platform : source.platforms) source.attestations[platform.id] = {Provenance()};
  for (const char* mode : {"copy", "delete"}) {
    const absl::Status status =
        Export(NewLocalExporter({{"platform-split", "false"}, {"mode", mode}}), source);
    ASSERT_TRUE(status.ok()) << status;
    for (const char* name :
         {"a", "z", "provenance.linux_amd64.json", "provenance.linux_arm_v7.json"})
      EXPECT_EQ(access((out_.path() + "/" + name).c_str(), F_OK), 0) << name;
  }
}

TEST_F(TreeExportersTest, NamesOfAttestationsThatCannotBe) {
  TestTree tree;
  tree.Dir("provenance.json");
  ExportSource source = One(tree);
  source.attestations[""] = {Provenance()};
  EXPECT_THAT(std::string(Export(NewLocalExporter({}), source).message()),
              HasSubstr("set attestation-prefix"));
  source.attestations[""].push_back(Provenance());
  EXPECT_THAT(
      std::string(Export(NewLocalExporter({{"attestation-prefix", "p."}}), source).message()),
      HasSubstr("duplicate attestation path name p.provenance.json"));
  source.attestations[""].resize(1);
  EXPECT_THAT(
      std::string(Export(NewLocalExporter({{"attestation-prefix", "../"}}), source).message()),
      HasSubstr("cannot be a file of the name \"../provenance.json\""));
  // A file of the result gives way.
  TestTree other;
  other.File("provenance.json", "mine");
  source.ref = Ref(other);
  ASSERT_TRUE(Export(NewLocalExporter({}), source).ok());
  EXPECT_THAT(out_.Read("provenance.json"), HasSubstr("in-toto.io"));
}

TEST_F(TreeExportersTest, E21_LocalCopyMerges) {
  TestTree tree;
  tree.Dir("bin");
  tree.File("bin/app", "elf", 0755);
  tree.Hard("bin/alias", "bin/app");
  tree.Link("link", "bin/app");
  out_.File("mine", "kept");
  ASSERT_TRUE(Export(NewLocalExporter({}), One(tree)).ok());
  EXPECT_EQ(out_.Read("bin/app"), "elf");
  EXPECT_EQ(out_.Lstat("bin/app").st_ino, out_.Lstat("bin/alias").st_ino);
  EXPECT_EQ(out_.Read("link"), "elf");
  EXPECT_EQ(out_.Read("mine"), "kept");
  EXPECT_THAT(client_.headers(), Contains(Pair("buildkit-attachable-exporter-id", "2")));
  EXPECT_EQ(client_.headers().count("buildkit-exporter-multi-platform"), 0u);
  EXPECT_THAT(Labels(), ElementsAre("copying files"));
}

TEST_F(TreeExportersTest, LocalSendsStackedLayersAsOneTree) {
  TestTree lower, upper;
  lower.Dir("d");
  lower.File("d/old", "old");
  lower.File("d/both", "lower");
  upper.Dir("d");
  upper.File("d/both", "upper");
  upper.File("d/new", "new");
  ExportSource source;
  source.ref = std::make_shared<LayersRef>(store::Layers{lower.path(), upper.path()});
  ASSERT_TRUE(Export(NewLocalExporter({}), source).ok());
  EXPECT_EQ(out_.Read("d/old"), "old");
  EXPECT_EQ(out_.Read("d/both"), "upper");
  EXPECT_EQ(out_.Read("d/new"), "new");
}

TEST_F(TreeExportersTest, Llb6_93_EmptyTreeIsExportable) {
  ASSERT_TRUE(Export(NewLocalExporter({}), ExportSource()).ok());
  client_.export_dir.clear();
  ASSERT_TRUE(Export(NewTarExporter({}), ExportSource()).ok());
  EXPECT_EQ(client_.received_file, std::string(1024, '\0'));
}

TEST_F(TreeExportersTest, E21_LocalDeleteMirrors) {
  TestTree tree;
  tree.File("f", "new");
  out_.File("stale", "x");
  client_.export_delete = true;
  ASSERT_TRUE(Export(NewLocalExporter({{"mode", "delete"}}), One(tree)).ok());
  EXPECT_EQ(out_.Read("f"), "new");
  EXPECT_FALSE(out_.Exists("stale"));
  EXPECT_THAT(client_.headers(), Contains(Pair("buildkit-exporter-multi-platform", "1")));
}

TEST_F(TreeExportersTest, E21E22_PlatformsAreSplitIntoDirectories) {
  TestTree amd, arm;
  amd.File("f", "amd");
  amd.Link("l", "/f");
  arm.File("f", "arm");
  ASSERT_TRUE(Export(NewLocalExporter({}), Two(amd, arm)).ok());
  EXPECT_EQ(out_.Read("linux_amd64/f"), "amd");
  EXPECT_EQ(out_.Read("linux_arm_v7/f"), "arm");
  EXPECT_THAT(Labels(), ElementsAre("copying files linux/amd64", "copying files linux/arm/v7"));
}

TEST_F(TreeExportersTest, E21_DeleteSendsAllPlatformsInOneStream) {
  TestTree amd, arm;
  amd.File("f", "amd");
  arm.File("f", "arm");
  out_.Dir("linux_s390x");
  client_.export_delete = true;
  ASSERT_TRUE(Export(NewLocalExporter({{"mode", "delete"}}), Two(amd, arm)).ok());
  EXPECT_EQ(out_.Read("linux_amd64/f"), "amd");
  EXPECT_EQ(out_.Read("linux_arm_v7/f"), "arm");
  EXPECT_FALSE(out_.Exists("linux_s390x"));
  EXPECT_THAT(Labels(), ElementsAre("copying files"));
}

TEST_F(TreeExportersTest, E21_NoFileOfManyPlatformsIsMissing) {
  const std::vector<std::string> ids = {"linux/amd64", "linux/arm64", "linux/arm/v7",
                                        "linux/s390x"};
  std::map<std::string, TestTree> trees;
  ExportSource source;
  source.is_map = true;
  for (const std::string& id : ids) {
    for (int i = 0; i < 20; ++i) trees[id].File(absl::StrCat("f", i), absl::StrCat(id, i));
    source.refs[id] = Ref(trees[id]);
    source.platforms.push_back({id, "{}"});
  }
  for (const char* mode : {"copy", "delete"}) {
    SCOPED_TRACE(mode);
    for (const std::string& id : ids) {
      const std::string folder = absl::StrReplaceAll(id, {{"/", "_"}});
      if (!out_.Exists(folder)) out_.Dir(folder);
      out_.File(folder + "/stale", "x");
      out_.File(folder + "/f3", "old");
    }
    client_.export_delete = mode == std::string("delete");
    ASSERT_TRUE(Export(NewLocalExporter({{"mode", mode}}), source).ok());
    for (const std::string& id : ids) {
      const std::string folder = absl::StrReplaceAll(id, {{"/", "_"}});
      for (int i = 0; i < 20; ++i)
        EXPECT_EQ(out_.Read(absl::StrCat(folder, "/f", i)), absl::StrCat(id, i));
      EXPECT_EQ(out_.Exists(folder + "/stale"), !client_.export_delete);
    }
  }
}

TEST_F(TreeExportersTest, E22_WithoutSplitPlatformsShareOneDirectory) {
  TestTree amd, arm;
  amd.Dir("d");
  amd.File("d/amd", "1");
  arm.Dir("d");
  arm.File("d/arm", "2");
  ASSERT_TRUE(Export(NewLocalExporter({{"platform-split", "false"}}), Two(amd, arm)).ok());
  EXPECT_EQ(out_.Read("d/amd"), "1");
  EXPECT_EQ(out_.Read("d/arm"), "2");
  client_.export_delete = true;
  ASSERT_TRUE(
      Export(NewLocalExporter({{"platform-split", "false"}, {"mode", "delete"}}), Two(amd, arm))
          .ok());
  EXPECT_EQ(out_.Read("d/arm"), "2");
  arm.File("d/amd", "conflict");
  for (const char* mode : {"copy", "delete"}) {
    EXPECT_THAT(
        Export(NewLocalExporter({{"platform-split", "false"}, {"mode", mode}}), Two(amd, arm))
            .message(),
        HasSubstr("cannot overwrite d/amd from linux/amd64 with linux/arm/v7 when split option is "
                  "disabled"))
        << mode;
  }
}

TEST_F(TreeExportersTest, E22_SinglePlatformIsNotWrappedUnlessAsked) {
  TestTree tree;
  tree.File("f", "x");
  ExportSource source = One(tree);
  source.platforms = {{"linux/amd64", "{}"}};
  ASSERT_TRUE(Export(NewLocalExporter({}), source).ok());
  EXPECT_TRUE(out_.Exists("f"));
  ASSERT_TRUE(Export(NewLocalExporter({{"platform-split", "true"}}), source).ok());
  EXPECT_TRUE(out_.Exists("linux_amd64/f"));
}

TEST_F(TreeExportersTest, EpochFromAttributeOrFrontend) {
  TestTree tree;
  tree.File("f", "x");
  ASSERT_TRUE(Export(NewLocalExporter({{"source-date-epoch", "77"}}), One(tree)).ok());
  EXPECT_EQ(out_.Lstat("f").st_mtim.tv_sec, 77);
  ExportSource source = One(tree);
  source.metadata["source.date.epoch"] = "88";
  ASSERT_TRUE(Export(NewLocalExporter({}), source).ok());
  EXPECT_EQ(out_.Lstat("f").st_mtim.tv_sec, 88);
  ASSERT_TRUE(Export(NewLocalExporter({{"source-date-epoch", ""}}), source).ok());
  EXPECT_EQ(out_.Lstat("f").st_mtim.tv_sec, 1000);
}

TEST_F(TreeExportersTest, E18EpochIsTheTimeOfEveryEntryOfATar) {
  client_.export_dir.clear();
  const auto times = [&](const std::map<std::string, std::string>& attrs,
                         const ExportSource& source) {
    client_.received_file.clear();
    EXPECT_EQ(Export(NewTarExporter(attrs), source), absl::OkStatus());
    TestTree back;
    Unpack(client_.received_file, back);
    std::vector<int64_t> seconds;
    for (const char* name : {"d", "d/f", "d/link"})
      seconds.push_back(back.Lstat(name).st_mtim.tv_sec);
    return seconds;
  };
  TestTree tree;
  tree.Dir("d");
  tree.File("d/f", "x", 0644, 5000);
  tree.Link("d/link", "f");
  ExportSource source = One(tree);
  EXPECT_THAT(times({{"source-date-epoch", "77"}}, source), testing::Each(77));
  EXPECT_THAT(times({}, source), testing::Contains(5000));
  source.metadata["source.date.epoch"] = "88";
  EXPECT_THAT(times({}, source), testing::Each(88));
  EXPECT_THAT(times({{"source-date-epoch", ""}}, source), testing::Contains(5000));
}

TEST_F(TreeExportersTest, BadInputIsNamed) {
  EXPECT_THAT(NewLocalExporter({{"mode", "sync"}}).status().message(), HasSubstr("\"sync\""));
  EXPECT_THAT(NewLocalExporter({{"platform-split", "maybe"}}).status().message(),
              HasSubstr("non-bool value for platform-split: maybe"));
  EXPECT_THAT(NewTarExporter({{"source-date-epoch", "now"}}).status().message(),
              HasSubstr("source-date-epoch"));
  ExportSource source;
  source.is_map = true;
  EXPECT_THAT(Export(NewLocalExporter({}), source).message(),
              HasSubstr("unable to export multiple refs, missing platforms mapping"));
  context_.session_id = "gone";
  EXPECT_THAT(Export(NewLocalExporter({}), ExportSource()).message(),
              HasSubstr("no active session for gone"));
}

TEST_F(TreeExportersTest, ClientErrorIsTheExportsError) {
  TestTree tree;
  client_.file_send_status = absl::PermissionDeniedError("read-only directory");
  EXPECT_THAT(Export(NewLocalExporter({}), One(tree)).message(), HasSubstr("read-only directory"));
  client_.file_send_status = absl::AlreadyExistsError("target already exists");
  EXPECT_THAT(Export(NewTarExporter({}), One(tree)).message(), HasSubstr("target already exists"));
}

TEST_F(TreeExportersTest, CancelledExportEnds) {
  TestTree tree;
  for (int i = 0; i < 100; ++i) tree.File(absl::StrCat("f", i), "x");
  CancelSource cancel;
  cancel.Cancel(absl::CancelledError("stop"));
  context_.cancel = cancel.token();
  EXPECT_EQ(Export(NewLocalExporter({}), One(tree)), absl::CancelledError("stop"));
  EXPECT_EQ(Export(NewTarExporter({}), One(tree)), absl::CancelledError("stop"));
}

// ---- tar ----

TEST_F(TreeExportersTest, E24_TarHoldsTheTree) {
  client_.export_dir.clear();
  TestTree tree, back;
  const std::string long_dir = std::string(90, 'd') + "/" + std::string(90, 'e');
  tree.Dir(std::string(90, 'd'));
  tree.Dir(long_dir);
  tree.File(long_dir + "/" + std::string(80, 'f'), "long name");
  tree.File(std::string(200, 'x'), "longer name");
  tree.File("\xc3\xa4\xff", "bytes");
  tree.File("big", std::string(300000, 'b'), 0640);
  tree.File("exact", std::string(1024, 'e'));
  tree.Hard("hard", "big");
  tree.Link("link", std::string(150, 't'));
  ASSERT_EQ(::setxattr((tree / "exact").c_str(), "user.k", "v=\n1", 4, 0), 0);
  ASSERT_EQ(::mkfifo((tree / "pipe").c_str(), 0600), 0);
  ASSERT_EQ(::mknod((tree / "socket").c_str(), S_IFSOCK | 0600, 0), 0);
  ASSERT_TRUE(Export(NewTarExporter({}), One(tree)).ok());
  EXPECT_EQ(client_.received_file.size() % 512, 0u);
  Unpack(client_.received_file, back);
  EXPECT_EQ(back.Read(long_dir + "/" + std::string(80, 'f')), "long name");
  EXPECT_EQ(back.Read(std::string(200, 'x')), "longer name");
  EXPECT_EQ(back.Read("\xc3\xa4\xff"), "bytes");
  EXPECT_EQ(back.Read("big"), std::string(300000, 'b'));
  EXPECT_EQ(back.Lstat("big").st_mode & 07777, 0640u);
  EXPECT_EQ(back.Lstat("big").st_mtim.tv_sec, 1000);
  EXPECT_EQ(back.Lstat("big").st_ino, back.Lstat("hard").st_ino);
  EXPECT_EQ(back.Lstat("link").st_size, 150);
  EXPECT_TRUE(S_ISFIFO(back.Lstat("pipe").st_mode));
  EXPECT_FALSE(back.Exists("socket"));
  char value[8] = {};
  EXPECT_EQ(::getxattr((back / "exact").c_str(), "user.k", value, sizeof value), 4);
  EXPECT_THAT(Labels(), ElementsAre("sending tarball"));
}

TEST_F(TreeExportersTest, TarIsTheSameEveryTime) {
  client_.export_dir.clear();
  TestTree tree;
  for (const char* name : {"c", "a", "b"}) tree.File(name, name, 0644, 5000);
  ASSERT_TRUE(Export(NewTarExporter({{"source-date-epoch", "1"}}), One(tree)).ok());
  const std::string first = std::move(client_.received_file);
  client_.received_file.clear();
  tree.Time("b", 6000);
  ASSERT_TRUE(Export(NewTarExporter({{"source-date-epoch", "1"}}), One(tree)).ok());
  EXPECT_EQ(client_.received_file, first);
}

TEST_F(TreeExportersTest, TarOfSeveralPlatforms) {
  client_.export_dir.clear();
  TestTree amd, arm, back;
  amd.File("f", "amd");
  amd.Hard("g", "f");
  arm.File("f", "arm");
  ASSERT_TRUE(Export(NewTarExporter({}), Two(amd, arm)).ok());
  Unpack(client_.received_file, back);
  EXPECT_EQ(back.Read("linux_amd64/g"), "amd");
  EXPECT_EQ(back.Read("linux_arm_v7/f"), "arm");
}

// Entries that no file system of a test can have.
class MadeUpSource : public fsutil::FileSource {
 public:
  explicit MadeUpSource(std::vector<fsutil::Stat> stats) : stats_(std::move(stats)) {}
  absl::Status Walk(const std::function<absl::Status(fsutil::Stat*)>& visit) override {
    for (fsutil::Stat& stat : stats_)
      if (absl::Status status = visit(&stat); !status.ok()) return status;
    return absl::OkStatus();
  }
  absl::StatusOr<Fd> Open(const std::string&) override { return OpenFile("/dev/null", O_RDONLY); }

 private:
  std::vector<fsutil::Stat> stats_;
};

TEST(TarWriter, LargeNumbersGoIntoPaxRecords) {
  fsutil::Stat stat;
  stat.path = "dev";
  stat.mode = fsutil::kModeDevice | fsutil::kModeCharDevice | 0666;
  stat.uid = 4000000000u;
  stat.mod_time_ns = -1500000000;
  stat.devmajor = 1;
  stat.devminor = 3;
  MadeUpSource source({stat});
  std::string out;
  ASSERT_TRUE(WriteTar(source, [&](absl::string_view data) {
                out.append(data.data(), data.size());
                return absl::OkStatus();
              }).ok());
  EXPECT_THAT(out, HasSubstr("18 uid=4000000000\n"));
  EXPECT_THAT(out, HasSubstr("12 mtime=-1\n"));
  EXPECT_EQ(out[1024 + 156], '3');
}

TEST(TarWriter, FileShorterThanItsSizeIsAnError) {
  fsutil::Stat stat;
  stat.path = "f";
  stat.mode = 0644;
  stat.size = 10;
  MadeUpSource source({stat});
  EXPECT_EQ(WriteTar(source, [](absl::string_view) { return absl::OkStatus(); }),
            absl::DataLossError("f: 10 bytes are missing"));
}

}  // namespace
}  // namespace kiln::daemon
