#include "daemon/source/image_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/image/media_types.h"
#include "daemon/registry/http_registry.h"
#include "daemon/registry/image_layer_fetcher.h"
#include "daemon/source/image_blob_source.h"
#include "solver/kept_progress.h"
#include "tests/daemon/registry/fake_registry.h"
#include "tests/daemon/session/fake_content_client.h"
#include "tests/daemon/session/fake_session.h"
#include "tests/daemon/source/fake_op_context.h"
#include "tests/daemon/source/fake_ref_store.h"

namespace kiln::daemon {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Layers by name only: what was asked for.
class FakeLayerStore : public store::LayerStore {
 public:
  class Tree : public store::Ref {
   public:
    explicit Tree(std::string id) : id_(std::move(id)) {}
    const std::string& id() const override { return id_; }
    absl::StatusOr<store::Layers> Materialize(const CancelToken&) const override {
      return absl::UnimplementedError("files");
    }

   private:
    const std::string id_;
  };

  absl::StatusOr<store::RefPtr> AddLayer(store::RefPtr parent, const store::LayerBlob& blob,
                                         const store::RefOptions& options) override {
    added.push_back(blob);
    record_types.push_back(options.record_type);
    return std::make_shared<Tree>(
        absl::StrCat(parent == nullptr ? "" : parent->id() + "/", blob.diff_id.hex().substr(0, 4)));
  }
  absl::StatusOr<std::vector<store::LayerBlob>> Layers(const store::RefPtr&,
                                                       const store::LayerFormat&,
                                                       const CancelToken&) override {
    return absl::UnimplementedError("layers");
  }
  absl::Status Ensure(const store::LayerBlob&, absl::string_view, const CancelToken&) override {
    return absl::UnimplementedError("ensure");
  }

  std::vector<store::LayerBlob> added;
  std::vector<std::string> record_types;
};

std::string Json(const store::Descriptor& descriptor, const std::string& more = "") {
  return absl::StrCat(R"({"mediaType":")", descriptor.media_type, R"(","digest":")",
                      descriptor.digest.ToString(), R"(","size":)", descriptor.size_bytes, more,
                      "}");
}

class ImageSourceTest : public testing::Test {
 protected:
  // An image of these layers in the repository "app"; "" as a tag: none.
  store::Descriptor AddImage(const std::string& tag, const std::vector<std::string>& layers,
                             const std::string& arch = "amd64") {
    std::string ids, descriptors;
    for (const std::string& layer : layers) {
      const char* comma = ids.empty() ? "" : ",";
      absl::StrAppend(&ids, comma, "\"", Digest::Of("diff " + layer).ToString(), "\"");
      absl::StrAppend(&descriptors, comma,
                      Json(registry_.AddBlob("app", layer, store::kOciLayerGzip)));
    }
    const store::Descriptor config = registry_.AddBlob(
        "app",
        absl::StrCat(R"({"architecture":")", arch, R"(","os":"linux","config":{"User":")", tag,
                     R"("},"rootfs":{"type":"layers","diff_ids":[)", ids, "]}}"),
        kOciConfig);
    return registry_.AddManifest(
        "app", tag,
        absl::StrCat(R"({"schemaVersion":2,"mediaType":")", kOciManifest, R"(","config":)",
                     Json(config), R"(,"layers":[)", descriptors, "]}"),
        kOciManifest);
  }
  store::Descriptor AddIndex(const std::string& tag,
                             const std::vector<std::pair<store::Descriptor, std::string>>& images) {
    std::string entries;
    for (const auto& [image, platform] : images) {
      const std::vector<std::string> parts = absl::StrSplit(platform, '/');
      std::string more;
      if (!platform.empty())
        more = absl::StrCat(R"(,"platform":{"os":")", parts[0], R"(","architecture":")", parts[1],
                            R"(","variant":")", parts.size() > 2 ? parts[2] : "", "\"}");
      absl::StrAppend(&entries, entries.empty() ? "" : ",", Json(image, more));
    }
    return registry_.AddManifest(
        "app", tag,
        absl::StrCat(R"({"mediaType":")", kOciIndex, R"(","manifests":[)", entries, "]}"),
        kOciIndex);
  }
  std::string Name(const std::string& object) {
    return absl::StrCat("docker-image://", registry_.host(), "/app", object);
  }
  absl::StatusOr<std::shared_ptr<SourceInstance>> Make(
      const std::string& identifier, std::map<std::string, std::string> attrs = {},
      const std::string& platform = "linux/amd64") {
    return source_.Resolve({identifier, std::move(attrs), *ParsePlatform(platform)});
  }
  absl::StatusOr<store::RefPtr> Snapshot(const std::string& identifier,
                                         std::map<std::string, std::string> attrs = {},
                                         const std::string& platform = "linux/amd64") {
    auto instance = Make(identifier, std::move(attrs), platform);
    if (!instance.ok()) return instance.status();
    return (*instance)->Snapshot(job_);
  }
  std::string Error(const std::string& identifier, std::map<std::string, std::string> attrs = {},
                    const std::string& platform = "linux/amd64") {
    const auto tree = Snapshot(identifier, std::move(attrs), platform);
    return tree.ok() ? "no error" : std::string(tree.status().message());
  }
  static std::string IdOf(const std::vector<std::string>& layers) {
    std::string out;
    for (const std::string& layer : layers)
      absl::StrAppend(&out, out.empty() ? "" : "/", Digest::Of("diff " + layer).hex().substr(0, 4));
    return out;
  }

  FakeRegistry registry_;
  FakeSessions sessions_;
  HttpRegistry client_{&sessions_,
                       {.sleep = [](absl::Duration, const CancelToken& c) { return c.status(); }}};
  OriginSessions origins_{&sessions_};
  ImageReader reader_{&client_, &sessions_, &origins_};
  FakeLayerStore layers_;
  ImageSource source_{&reader_, &layers_};
  FakeOpContext job_;
};

TEST_F(ImageSourceTest, KeysAndLazyLayers) {
  const store::Descriptor root = AddImage("v", {"one", "two"});
  auto instance = Make(Name(":v"));
  ASSERT_TRUE(instance.ok()) << instance.status();
  const SourceKey first = (*instance)->Key(job_, 0).value();
  EXPECT_EQ(first.key, Digest::Of(absl::StrCat(R"({"Digest":")", root.digest.ToString(),
                                               R"(","OS":"linux","Arch":"amd64"})"))
                           .ToString());
  EXPECT_EQ(first.pin, root.digest.ToString());
  EXPECT_FALSE(first.done);
  EXPECT_THAT(registry_.Seen(), ElementsAre("HEAD /v2/app/manifests/v"));
  const SourceKey second = (*instance)->Key(job_, 1).value();
  const Digest a = Digest::Of("diff one"), b = Digest::Of("diff two");
  EXPECT_EQ(second.key, Digest::Of(a.ToString() + " " + b.ToString()).ToString());
  EXPECT_TRUE(second.done);

  const store::RefPtr tree = (*instance)->Snapshot(job_).value();
  EXPECT_EQ(tree->id(), IdOf({"one", "two"}));
  ASSERT_EQ(layers_.added.size(), 2u);
  EXPECT_EQ(layers_.added[0].descriptor.digest, Digest::Of("one"));
  EXPECT_EQ(layers_.added[0].origin, registry_.host() + "/app");
  EXPECT_EQ(registry_.Count("/blobs/"), 1u) << "the config, no layer";
  EXPECT_THAT(job_.statuses[0].id, "resolve " + registry_.host() + "/app:v");
}

TEST_F(ImageSourceTest, ATagIsResolvedOncePerJob) {
  AddImage("v", {"one"});
  const std::string first = Make(Name(":v")).value()->Key(job_, 0)->pin;
  AddImage("v", {"two"});
  EXPECT_EQ(Make(Name(":v")).value()->Key(job_, 0)->pin, first);
  FakeOpContext other;
  EXPECT_NE(Make(Name(":v")).value()->Key(other, 0)->pin, first);
}

TEST_F(ImageSourceTest, WhatIsKnownCostsOneHead) {
  AddImage("v", {"one"});
  EXPECT_TRUE(Snapshot(Name(":v")).ok());
  registry_.server().Forget();
  FakeOpContext other;
  EXPECT_TRUE(Make(Name(":v")).value()->Snapshot(other).ok());
  EXPECT_THAT(registry_.Seen(), ElementsAre("HEAD /v2/app/manifests/v"));
}

TEST_F(ImageSourceTest, P1_DigestWinsOverTag) {
  const store::Descriptor one = AddImage("v1", {"one"});
  AddImage("v2", {"two"});
  EXPECT_EQ(Snapshot(Name(":v2@" + one.digest.ToString())).value()->id(), IdOf({"one"}));
}

TEST_F(ImageSourceTest, P2_Checksum) {
  const store::Descriptor one = AddImage("v1", {"one"});
  const store::Descriptor two = AddImage("v2", {"two"});
  EXPECT_TRUE(Snapshot(Name(":v2"), {{"image.checksum", two.digest.ToString()}}).ok());
  EXPECT_THAT(Error(Name(":v2"), {{"image.checksum", one.digest.ToString()}}),
              AllOf(HasSubstr("does not match expected checksum"), HasSubstr(one.digest.ToString()),
                    HasSubstr(two.digest.ToString())));
}

TEST_F(ImageSourceTest, P3_ADigestIsReadOnlyWhereItIs) {
  const store::Descriptor one = AddImage("v1", {"one"});
  EXPECT_TRUE(Snapshot(Name("@" + one.digest.ToString())).ok());
  EXPECT_THAT(
      Error(absl::StrCat("docker-image://", registry_.host(), "/other@", one.digest.ToString())),
      HasSubstr("not found"));
  FakeRegistry elsewhere;
  EXPECT_THAT(
      Error(absl::StrCat("docker-image://", elsewhere.host(), "/app@", one.digest.ToString())),
      HasSubstr("not found"));
  registry_.server().Forget();
  EXPECT_TRUE(Snapshot(Name("@" + one.digest.ToString())).ok());
  EXPECT_THAT(registry_.Seen(), IsEmpty()) << "known by digest: nothing is asked";
}

TEST_F(ImageSourceTest, P4P5_LayerLimit) {
  AddImage("v", {"one", "two", "three"});
  EXPECT_EQ(Snapshot(Name(":v"), {{"image.layerlimit", "2"}}).value()->id(), IdOf({"one", "two"}));
  auto limited = Make(Name(":v"), {{"image.layerlimit", "1"}}).value();
  EXPECT_EQ(limited->Key(job_, 1)->key, Digest::Of("diff one").ToString());
  EXPECT_NE(limited->Key(job_, 0)->key, Make(Name(":v")).value()->Key(job_, 0)->key);
  EXPECT_THAT(Error(Name(":v"), {{"image.layerlimit", "0"}}), HasSubstr("invalid layer limit"));
  EXPECT_THAT(Error(Name(":v"), {{"image.layerlimit", "9"}}),
              HasSubstr("layer limit 9 is greater than the number of layers in the image 3"));
}

TEST_F(ImageSourceTest, P11_Platforms) {
  const auto amd64 = AddImage("", {"amd64"}, "amd64");
  const auto arm64 = AddImage("", {"arm64"}, "arm64");
  const auto arm = AddImage("", {"arm"}, "arm");
  const auto proof = AddImage("", {"proof"}, "unknown");
  AddIndex("v", {{amd64, "linux/amd64"},
                 {arm64, "linux/arm64"},
                 {arm, "linux/arm/v7"},
                 {proof, "unknown/unknown"}});
  EXPECT_EQ(Snapshot(Name(":v"), {}, "linux/arm64").value()->id(), IdOf({"arm64"}));
  EXPECT_EQ(Snapshot(Name(":v"), {}, "linux/arm/v8").value()->id(), IdOf({"arm"}));
  EXPECT_THAT(Error(Name(":v"), {}, "linux/arm/v6"),
              AllOf(HasSubstr("no match for platform"), HasSubstr("linux/arm/v6")));
  EXPECT_THAT(Error(Name(":v"), {}, "linux/s390x"),
              AllOf(HasSubstr("no match for platform"), HasSubstr("linux/s390x")));
}

TEST_F(ImageSourceTest, AnEntryWithoutPlatformIsJudgedByItsConfig) {
  const auto s390x = AddImage("", {"s390x"}, "s390x");
  const auto amd64 = AddImage("", {"amd64"}, "amd64");
  AddIndex("v", {{s390x, ""}, {amd64, ""}});
  EXPECT_EQ(Snapshot(Name(":v")).value()->id(), IdOf({"amd64"}));
  EXPECT_THAT(Error(Name(":v"), {}, "linux/riscv64"), HasSubstr("no match for platform"));
}

TEST_F(ImageSourceTest, NestedIndexes) {
  const auto amd64 = AddImage("", {"amd64"}, "amd64");
  auto inner = AddIndex("", {{amd64, "linux/amd64"}});
  for (int i = 0; i < 5; ++i) inner = AddIndex("v", {{inner, ""}});
  EXPECT_EQ(Snapshot(Name(":v")).value()->id(), IdOf({"amd64"}));
  for (int i = 0; i < 5; ++i) inner = AddIndex("deep", {{inner, ""}});
  EXPECT_THAT(Error(Name(":deep")), HasSubstr("nested deeper"));
}

TEST_F(ImageSourceTest, AnImageOfNoLayersIsScratch) {
  AddImage("v", {});
  EXPECT_EQ(Snapshot(Name(":v")).value(), nullptr);
  auto instance = Make(Name(":v")).value();
  EXPECT_EQ(instance->Key(job_, 1)->key, instance->Key(job_, 0)->key);
}

TEST_F(ImageSourceTest, LayersAndDiffIdsMustBeAsMany) {
  const auto config = registry_.AddBlob(
      "app", R"({"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}})",
      kOciConfig);
  const auto layer = registry_.AddBlob("app", "layer", store::kOciLayerTar);
  registry_.AddManifest(
      "app", "v", absl::StrCat(R"({"config":)", Json(config), R"(,"layers":[)", Json(layer), "]}"),
      kOciManifest);
  EXPECT_THAT(Error(Name(":v")), HasSubstr("0 diff ids for 1 layers"));
}

TEST_F(ImageSourceTest, LayersOfAnUnknownTypeAreRefusedByName) {
  const std::string bytes = "encrypted";
  const std::string type = absl::StrCat(store::kOciLayerGzip, "+encrypted");
  const auto config = registry_.AddBlob(
      "app",
      absl::StrCat(
          R"({"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[")",
          Digest::Of("diff").ToString(), R"("]}})"),
      kOciConfig);
  registry_.AddManifest("app", "v",
                        absl::StrCat(R"({"config":)", Json(config), R"(,"layers":[)",
                                     Json(registry_.AddBlob("app", bytes, type)), "]}"),
                        kOciManifest);
  EXPECT_THAT(Error(Name(":v")),
              AllOf(HasSubstr(Digest::Of(bytes).ToString()), HasSubstr(registry_.host() + "/app:v"),
                    HasSubstr("media type " + type)));
  EXPECT_THAT(layers_.added, IsEmpty());
}

TEST_F(ImageSourceTest, RecordTypeIsThatOfTheTop) {
  AddImage("v", {"one", "two"});
  EXPECT_TRUE(Snapshot(Name(":v"), {{"image.recordtype", "frontend"}}).ok());
  EXPECT_THAT(layers_.record_types, ElementsAre("regular", "frontend"));
}

TEST_F(ImageSourceTest, AttributesAndNamesAreChecked) {
  const std::string digest = Digest::Of("x").ToString();
  EXPECT_THAT(Error(Name(":v"), {{"image.resolvemode", "never"}}),
              HasSubstr("invalid resolvemode: never"));
  EXPECT_THAT(Error(Name(":v"), {{"image.recordtype", "x"}}), HasSubstr("invalid record type x"));
  EXPECT_THAT(Error(Name(":v"), {{"image.checksum", "x"}}), HasSubstr("digest"));
  EXPECT_THAT(Error("docker-image://busybox"), HasSubstr("hostname required"));
  EXPECT_THAT(Error("docker-image://h/x"), HasSubstr("object required"));
  EXPECT_THAT(Error("oci-layout://h/x:v"), HasSubstr("must have a digest"));
  EXPECT_TRUE(Make(Name(":v"), {{"image.unknown", "x"}}).ok());
}

TEST_F(ImageSourceTest, WhatWasAskedAheadIsNotAskedAgain) {
  AddImage("v", {"one"});
  ImageQuery query;
  query.reference = registry_.host() + "/app:v";
  ASSERT_EQ(reader_.ResolveAhead(query.reference, job_.job_values(), {}), absl::OkStatus());
  EXPECT_THAT(registry_.Seen(), ElementsAre("HEAD /v2/app/manifests/v"));
  ASSERT_TRUE(reader_.Resolve(query, &job_.job_values(), {}).ok());
  EXPECT_EQ(registry_.Count("HEAD"), 1u);
}

TEST_F(ImageSourceTest, AheadNothingIsRepeatedNorRemembered) {
  AddImage("v", {"one"});
  int asked = 0;
  registry_.fault = [&](const TestHttpRequest&) -> std::optional<std::string> {
    ++asked;
    return "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
  };
  ImageQuery query;
  query.reference = registry_.host() + "/app:v";
  EXPECT_FALSE(reader_.ResolveAhead(query.reference, job_.job_values(), {}).ok());
  const int ahead = asked;
  asked = 0;
  EXPECT_FALSE(reader_.Resolve(query, &job_.job_values(), {}).ok());
  EXPECT_GT(asked, ahead);
  registry_.fault = nullptr;
  EXPECT_TRUE(reader_.Resolve(query, &job_.job_values(), {}).ok());
}

TEST_F(ImageSourceTest, ConfigsForFrontends) {
  const auto amd64 = AddImage("", {"amd64"}, "amd64");
  const auto arm64 = AddImage("", {"arm64"}, "arm64");
  const auto root = AddIndex("v", {{amd64, "linux/amd64"}, {arm64, "linux/arm64"}});
  ImageQuery query;
  query.reference = registry_.host() + "/app:v";
  query.platform = "linux/arm64";
  const auto image = reader_.Resolve(query, &job_.job_values(), {});
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->digest, root.digest);
  EXPECT_THAT(image->config, HasSubstr("\"arm64\""));
  EXPECT_EQ(image->reference, query.reference);
  query.resolve_mode = "x";
  EXPECT_TRUE(absl::IsInvalidArgument(reader_.Resolve(query, nullptr, {}).status()));
}

// ---- layouts ----

class LayoutTest : public ImageSourceTest {
 protected:
  LayoutTest() {
    sessions_.sessions["s"] = std::make_shared<FakeSession>("s", content_.Channel());
    job_.session_ids = {"s"};
    store::Descriptor config, layer;
    layer.media_type = store::kOciLayerTar;
    layer.digest = content_.Add("oci:st", layer_);
    layer.size_bytes = static_cast<int64_t>(layer_.size());
    const std::string config_bytes = absl::StrCat(
        R"({"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[")",
        Digest::Of(layer_).ToString(), R"("]}})");
    config.media_type = kOciConfig;
    config.digest = content_.Add("oci:st", config_bytes);
    config.size_bytes = static_cast<int64_t>(config_bytes.size());
    root_ = content_.Add(
        "oci:st", absl::StrCat(R"({"config":)", Json(config), R"(,"layers":[)", Json(layer), "]}"));
  }
  std::string LayoutName() const { return "oci-layout://not/real@" + root_.ToString(); }

  const std::string layer_ = std::string(5500, 'l');
  FakeContentClient content_;
  Digest root_;
};

TEST_F(LayoutTest, ReadsFromTheClient) {
  const auto tree = Snapshot(LayoutName(), {{"oci.session", "s"}, {"oci.store", "st"}});
  ASSERT_TRUE(tree.ok()) << tree.status();
  ASSERT_EQ(layers_.added.size(), 1u);
  EXPECT_EQ(layers_.added[0].origin, "oci-layout:st");
  EXPECT_TRUE(Snapshot(LayoutName(), {{"oci.store", "st"}}).ok()) << "any session of the build";
  EXPECT_THAT(Error(LayoutName(), {{"oci.store", "other"}}), HasSubstr("unknown store oci:other"));
}

TEST_F(LayoutTest, ALyingClientIsFoundOut) {
  content_.stores["oci:st"][root_.ToString()] = "{}";
  EXPECT_THAT(Error(LayoutName(), {{"oci.store", "st"}}), HasSubstr("digest mismatch"));
}

TEST_F(LayoutTest, LayersComeFromAnotherSessionWhenOneLeaves) {
  FakeContentClient second;
  second.stores = content_.stores;
  auto first_session = std::make_shared<FakeSession>("s", content_.Channel());
  sessions_.sessions["s"] = first_session;
  sessions_.sessions["s2"] = std::make_shared<FakeSession>("s2", second.Channel());
  job_.session_ids = {"s", "s2"};
  ASSERT_TRUE(Snapshot(LayoutName(), {{"oci.store", "st"}}).ok());
  content_.cut_after = 2000;
  ImageLayerFetcher fetcher(&client_, &sessions_, &origins_, nullptr);
  std::string got;
  const auto sink = [&](absl::string_view data) {
    got.append(data.data(), data.size());
    return absl::OkStatus();
  };
  EXPECT_TRUE(fetcher.Fetch(layers_.added[0], {}, sink).ok());
  EXPECT_EQ(got, layer_);

  first_session->Close();
  sessions_.sessions.clear();
  const absl::Status gone = fetcher.Fetch(layers_.added[0], {}, sink);
  EXPECT_TRUE(absl::IsUnavailable(gone)) << gone;
}

TEST_F(ImageSourceTest, LazyLayersComeFromTheRegistry) {
  AddImage("v", {"one"});
  ASSERT_TRUE(Snapshot(Name(":v")).ok());
  ImageLayerFetcher fetcher(&client_, &sessions_, &origins_, nullptr);
  std::string got;
  EXPECT_TRUE(fetcher
                  .Fetch(layers_.added[0], {},
                         [&](absl::string_view data) {
                           got.append(data.data(), data.size());
                           return absl::OkStatus();
                         })
                  .ok());
  EXPECT_EQ(got, "one");
}

class KeptSink : public solver::KeptProgressSink {
 public:
  void Status(solver::StatusUpdate update) override { statuses.push_back(std::move(update)); }
  void Log(solver::LogChunk chunk) override { log += chunk.data; }
  void Warn(solver::Warning) override {}

  std::vector<solver::StatusUpdate> statuses;
  std::string log;
};

TEST_F(ImageSourceTest, WhoPulledAnImageShowsItsLayersComing) {
  LayerProgress progress;
  ImageLayerFetcher fetcher(&client_, &sessions_, &origins_, &progress);
  const store::Descriptor one = registry_.AddBlob("app", "one", store::kOciLayerGzip);
  store::LayerBlob layer;
  layer.descriptor = one;
  layer.origin = registry_.host() + "/app";
  const auto sink = [](absl::string_view) { return absl::OkStatus(); };
  EXPECT_TRUE(fetcher.Fetch(layer, {}, sink).ok());
  EXPECT_EQ(progress.Unpacking(one.digest, {}), nullptr) << "nobody to tell";

  auto first = std::make_shared<KeptSink>(), second = std::make_shared<KeptSink>();
  for (const auto& step : {first, second, first})
    progress.Show(one.digest, solver::KeepProgress(*step));
  progress.Show(one.digest, solver::KeepProgress(job_));  // not to be held: nothing
  std::vector<std::string> answers = {FakeRegistry::Error("500 Oops", "UNKNOWN", "for a moment"),
                                      FakeRegistry::Error("500 Oops", "UNKNOWN", "for a moment")};
  registry_.fault = [&](const TestHttpRequest&) -> std::optional<std::string> {
    if (answers.empty()) return std::nullopt;
    std::string answer = answers.back();
    answers.pop_back();
    return answer;
  };
  EXPECT_TRUE(fetcher.Fetch(layer, {}, sink).ok());
  for (const auto& step : {first, second}) {
    ASSERT_EQ(step->statuses.size(), 2u);
    EXPECT_EQ(step->statuses[0].id, one.digest.ToString());
    EXPECT_EQ(step->statuses[0].completed, absl::InfinitePast());
    EXPECT_EQ(step->statuses[1].current, 3);
    EXPECT_EQ(step->statuses[1].total, 3);
    EXPECT_NE(step->statuses[1].completed, absl::InfinitePast());
    EXPECT_THAT(step->log, HasSubstr("retrying in"));
  }
  second.reset();
  std::shared_ptr<void> unpacking = progress.Unpacking(one.digest, {});
  ASSERT_EQ(first->statuses.size(), 3u);
  EXPECT_EQ(first->statuses[2].id, "extracting " + one.digest.ToString());
  unpacking.reset();
  ASSERT_EQ(first->statuses.size(), 4u);
  EXPECT_NE(first->statuses[3].completed, absl::InfinitePast());
  first.reset();
  EXPECT_EQ(progress.Of(one.digest, {layer.origin}), nullptr);
  // Whoever asked for an image of the place shows layers that nobody else does.
  const auto third = std::make_shared<KeptSink>();
  progress.ShowOrigin(layer.origin, third);
  EXPECT_TRUE(fetcher.Fetch(layer, {}, sink).ok());
  EXPECT_EQ(third->statuses.size(), 2u);
}

// ---- blobs ----

TEST_F(LayoutTest, BlobsAsFiles) {
  FakeRefStore refs;
  ImageBlobSource source(&refs, &client_, &sessions_);
  const auto blob = registry_.AddBlob("app", "content");
  const std::string name =
      absl::StrCat("docker-image+blob://", registry_.host(), "/app@", blob.digest.ToString());
  auto instance = source.Resolve({name, {{"http.filename", "f"}, {"http.perm", "420"}}}).value();
  EXPECT_EQ(instance->Key(job_, 0)->key,
            Digest::Of(absl::StrCat(R"({"Digest":")", blob.digest.ToString(),
                                    R"(","Filename":"f","Perm":420,"UID":0,"GID":0})"))
                .ToString());
  EXPECT_EQ(FakeRefStore::Read(instance->Snapshot(job_).value(), "f"), "content");

  const std::string layout = absl::StrCat("oci-layout+blob://x/y@", Digest::Of(layer_).ToString());
  auto from_layout = source.Resolve({layout, {{"oci.store", "st"}}}).value();
  EXPECT_EQ(FakeRefStore::Read(from_layout->Snapshot(job_).value(), Digest::Of(layer_).hex()),
            layer_);
  content_.stores["oci:st"][Digest::Of(layer_).ToString()] = "wrong";
  EXPECT_TRUE(absl::IsDataLoss(from_layout->Snapshot(job_).status()));
  EXPECT_THAT(std::string(source.Resolve({layout, {}}).status().message()),
              HasSubstr("requires store id"));
  EXPECT_THAT(std::string(source.Resolve({"docker-image+blob://x/y:v", {}}).status().message()),
              HasSubstr("must have a digest"));
}

}  // namespace
}  // namespace kiln::daemon
