#include <set>
#include <thread>

#include "tests/store/layer/layer_fixture.h"

namespace kiln::store {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

FOR_EACH_DRIVER(LayerStoreTest);

std::string TarOf(const std::string& name, const std::string& data) {
  return TarBuilder().File(name, data).Build();
}

TEST_P(LayerStoreTest, PulledLayersComeWhenAskedForAndOnce) {
  const RefPtr one = Pull(nullptr, Remote(TarBuilder().Dir("d").File("d/a", "1").Build()));
  const RefPtr two = Pull(one, Remote(TarBuilder().Dir("d").File("d/b", "2").Build()));
  EXPECT_EQ(fetcher_.fetches(), 0);
  EXPECT_EQ(Show(two), "d/ d/a=1 d/b=2 ");
  EXPECT_EQ(Show(two), "d/ d/a=1 d/b=2 ");
  EXPECT_EQ(Show(one), "d/ d/a=1 ");
  EXPECT_EQ(fetcher_.fetches(), 2);
  EXPECT_EQ(ShowMounted(two), "d/ d/a=1 d/b=2 ");
}

TEST_P(LayerStoreTest, ManyAskersCauseOneFetch) {
  const RefPtr one = Pull(nullptr, Remote(TarOf("a", "1")));
  const RefPtr two = Pull(one, Remote(TarOf("b", "2")));
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i)
    threads.emplace_back([&, i] { EXPECT_OK((i % 2 == 0 ? one : two)->Materialize({})); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(fetcher_.fetches(), 2);
}

TEST_P(LayerStoreTest, TheSameLayerOnTheSameParentIsOneRecord) {
  const LayerBlob base = Remote(TarOf("a", "1"));
  const RefPtr one = Pull(nullptr, base);
  LayerBlob plain = Remote(TarOf("a", "1"), /*gzip=*/false);  // the same tree, stored otherwise
  const RefPtr again = Pull(nullptr, plain);
  EXPECT_EQ(one->id(), again->id());
  const LayerBlob top = Remote(TarOf("b", "2"));
  EXPECT_EQ(Pull(one, top)->id(), Pull(again, top)->id());
  EXPECT_NE(Pull(nullptr, top)->id(), Pull(one, top)->id());
}

TEST_P(LayerStoreTest, ARestartKeepsLazyAndFilledLayers) {
  const RefPtr one = Pull(nullptr, Remote(TarOf("a", "1")));
  const std::string lazy = Pull(one, Remote(TarOf("b", "2")))->id();
  Must(one->Materialize({}));
  const std::string filled = one->id();
  const_cast<RefPtr&>(one).reset();
  RestartAll();
  EXPECT_EQ(Show(Must(store_->Get(filled))), "a=1 ");
  EXPECT_EQ(fetcher_.fetches(), 1);
  EXPECT_EQ(Show(Must(store_->Get(lazy))), "a=1 b=2 ");
  EXPECT_EQ(fetcher_.fetches(), 2);
}

// Who brings the bytes mends what breaks off; a second budget here would multiply the first.
TEST_P(LayerStoreTest, ATransferThatFailedIsNotTriedAgain) {
  std::string noise;
  for (int i = 0; i < 3000; ++i) noise += absl::StrCat(i * 7919 % 10007, ",");
  const LayerBlob blob = Remote(TarOf("a", noise), /*gzip=*/false);
  const RefPtr ref = Pull(nullptr, blob);
  fetcher_.CutNext(1);
  const absl::Status status = ref->Materialize({}).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("connection reset"));
  EXPECT_EQ(fetcher_.fetches(), 1);
  EXPECT_TRUE(absl::IsNotFound(blobs_->Size(blob.descriptor.digest).status()));
  EXPECT_EQ(Show(ref), "a=" + noise + " ");
  EXPECT_EQ(fetcher_.fetches(), 2);
}

TEST_P(LayerStoreTest, WhatMayBeRightAnotherTimeIsFetchedAnew) {
  const RefPtr ref = Pull(nullptr, Remote(TarOf("a", std::string(5000, 'a'))));
  fetcher_.SendWrongNext(2);
  EXPECT_EQ(Show(ref), "a=" + std::string(5000, 'a') + " ");
  EXPECT_EQ(fetcher_.fetches(), 3);
}

TEST_P(LayerStoreTest, WrongBytesAreNotKept) {
  LayerBlob blob = Remote(TarOf("a", "1"));
  fetcher_.Put(blob.origin, blob.descriptor.digest,
               std::string(static_cast<size_t>(blob.descriptor.size_bytes), 'x'));
  const RefPtr ref = Pull(nullptr, blob);
  const absl::Status status = ref->Materialize({}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_TRUE(absl::IsNotFound(blobs_->Size(blob.descriptor.digest).status()));
  // Right bytes later are taken.
  Remote(TarOf("a", "1"));
  EXPECT_EQ(Show(ref), "a=1 ");
}

TEST_P(LayerStoreTest, AWrongDiffIdIsNamedAndLeavesNothing) {
  LayerBlob blob = Remote(TarOf("a", "1"));
  blob.diff_id = Digest::Of("something else");
  const RefPtr ref = Pull(nullptr, blob);
  const absl::Status status = ref->Materialize({}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr(blob.diff_id.ToString()));
  EXPECT_THAT(
      std::string(status.message()),
      HasSubstr(absl::StrCat("layer ", blob.descriptor.digest.ToString(), " of ", blob.origin)));
  EXPECT_THAT(Folders(), IsEmpty());
}

TEST_P(LayerStoreTest, LayersOfAPulledImageAreItsBlobsUntouched) {
  const LayerBlob a = Remote(TarOf("a", "1")), b = Remote(TarOf("b", "2"));
  const RefPtr two = Pull(Pull(nullptr, a), b);
  const std::vector<LayerBlob> layers = LayersOf(two, {.compression = Compression::kZstd});
  ASSERT_THAT(layers, SizeIs(2));
  EXPECT_EQ(layers[0].descriptor, a.descriptor);
  EXPECT_EQ(layers[1].descriptor, b.descriptor);
  EXPECT_EQ(layers[1].origin, "reg/repo");
  EXPECT_EQ(layers[1].diff_id, b.diff_id);
  EXPECT_EQ(fetcher_.fetches(), 0);
}

TEST_P(LayerStoreTest, AStepBecomesALayerOnce) {
  const RefPtr base = Pull(nullptr, Remote(TarBuilder().Dir("d").File("d/a", "1").Build()));
  const RefPtr step = Make(base, "/d/b", "2");
  const std::vector<LayerBlob> layers = LayersOf(step);
  ASSERT_THAT(layers, SizeIs(2));
  const std::string stored = Stored(layers[1].descriptor.digest);
  EXPECT_EQ(static_cast<int64_t>(stored.size()), layers[1].descriptor.size_bytes);
  EXPECT_EQ(layers[1].descriptor.media_type, kOciLayerGzip);
  const std::string tar = Must(Decompress(stored));
  EXPECT_EQ(Digest::Of(tar), layers[1].diff_id);
  EXPECT_EQ(layers_->blobs_made(), 1);
  EXPECT_EQ(LayersOf(step)[1].descriptor, layers[1].descriptor);
  EXPECT_EQ(layers_->blobs_made(), 1);

  // Unpacked elsewhere it gives the same tree.
  LayerBlob again = layers[1];
  const RefPtr other =
      Pull(Pull(nullptr, Remote(TarBuilder().Dir("d").File("d/a", "1").Build())), again);
  EXPECT_EQ(Show(other), Show(step));
}

TEST_P(LayerStoreTest, L7_AStepWithoutChangesHasNoLayer) {
  const RefPtr base = Make(nullptr, "/a", "1");
  auto tree = Must(store_->New(base, {}));
  const RefPtr same = Must(tree->Commit());
  EXPECT_THAT(LayersOf(same), SizeIs(1));
  EXPECT_EQ(LayersOf(same)[0].steps_above, 1u);
  const std::vector<LayerBlob> layers = LayersOf(Make(same, "/b", "2"));
  ASSERT_THAT(layers, SizeIs(2));
  EXPECT_EQ(layers[0].steps_below, 0u);
  EXPECT_EQ(layers[0].steps_above, 0u);
  EXPECT_EQ(layers[1].steps_below, 1u);
  EXPECT_THAT(LayersOf(nullptr), IsEmpty());
}

TEST_P(LayerStoreTest, DeletionsBecomeWhiteouts) {
  const RefPtr base = Pull(nullptr, Remote(TarBuilder().Dir("d").File("d/a", "1").Build()));
  const RefPtr step = Delete(base, "/d/a");
  const std::vector<LayerBlob> layers = LayersOf(step, {.compression = Compression::kUncompressed});
  ASSERT_THAT(layers, SizeIs(2));
  EXPECT_THAT(Stored(layers[1].descriptor.digest), HasSubstr("d/.wh.a"));
}

TEST_P(LayerStoreTest, L8_OtherFormatsAreMadeWhenForcedAndRemembered) {
  const RefPtr base = Pull(nullptr, Remote(TarOf("a", "1")));
  const RefPtr step = Make(base, "/b", "2");
  const std::vector<LayerBlob> gzip = LayersOf(step);
  const LayerFormat zstd = {.compression = Compression::kZstd, .force = true};
  const std::vector<LayerBlob> forced = LayersOf(step, zstd);
  ASSERT_THAT(forced, SizeIs(2));
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(forced[i].diff_id, gzip[i].diff_id);
    EXPECT_NE(forced[i].descriptor.digest, gzip[i].descriptor.digest);
    EXPECT_EQ(forced[i].descriptor.media_type, kOciLayerZstd);
    EXPECT_EQ(DetectPacking(Stored(forced[i].descriptor.digest)), Packing::kZstd);
    EXPECT_EQ(Digest::Of(Must(Decompress(Stored(forced[i].descriptor.digest)))), gzip[i].diff_id);
  }
  const int64_t made = layers_->blobs_made();
  LayersOf(step, zstd);
  EXPECT_EQ(layers_->blobs_made(), made);
  // Without force what is there is used.
  EXPECT_EQ(LayersOf(step)[1].descriptor, gzip[1].descriptor);
}

TEST_P(LayerStoreTest, L8_OneTreeInEveryFormat) {
  struct Form {
    Compression compression;
    std::optional<int> level;
    const char* media_type;
    Packing packing;
  };
  const RefPtr ref = Make(nullptr, "/a", std::string(20000, 'x') + "end");
  std::set<Digest> blobs, diff_ids;
  for (const Form& form : std::initializer_list<Form>{
           {Compression::kUncompressed, std::nullopt, kOciLayerTar, Packing::kPlain},
           {Compression::kGzip, 0, kOciLayerGzip, Packing::kGzip},
           {Compression::kGzip, 9, kOciLayerGzip, Packing::kGzip},
           {Compression::kZstd, std::nullopt, kOciLayerZstd, Packing::kZstd},
           {Compression::kEstargz, std::nullopt, kOciLayerGzip, Packing::kGzip}}) {
    const std::vector<LayerBlob> layers =
        LayersOf(ref, {.compression = form.compression, .level = form.level, .force = true});
    ASSERT_THAT(layers, SizeIs(1));
    const std::string bytes = Stored(layers[0].descriptor.digest);
    EXPECT_EQ(layers[0].descriptor.media_type, form.media_type);
    EXPECT_EQ(DetectPacking(bytes), form.packing);
    EXPECT_EQ(Digest::Of(Must(Decompress(bytes))), layers[0].diff_id);
    EXPECT_TRUE(blobs.insert(layers[0].descriptor.digest).second) << form.media_type;
    // The table of contents of an estargz is a file of its tar.
    if (form.compression != Compression::kEstargz) diff_ids.insert(layers[0].diff_id);
    EXPECT_EQ(layers[0].descriptor.annotations.count(kTocDigestAnnotation),
              form.compression == Compression::kEstargz ? 1u : 0u);
  }
  EXPECT_THAT(diff_ids, SizeIs(1));
}

TEST_P(LayerStoreTest, OnlyWhatIsMadeWhenToldSo) {
  const RefPtr step = Make(Pull(nullptr, Remote(TarOf("a", "1"))), "/x", "x");
  const LayerFormat only_made = {
      .compression = Compression::kZstd, .force = true, .only_made = true};
  EXPECT_EQ(layers_->Layers(step, only_made, CancelToken()).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(layers_->blobs_made(), 0);
  const std::vector<LayerBlob> made = LayersOf(step);
  EXPECT_EQ(LayersOf(step, only_made)[1].descriptor, made[1].descriptor);
  EXPECT_EQ(layers_->blobs_made(), 1);
}

TEST_P(LayerStoreTest, MergesAndDiffsAreListsOfLayers) {
  const LayerBlob a = Remote(TarOf("a", "1"));
  const RefPtr base = Pull(nullptr, a);
  const RefPtr x = Make(base, "/x", "x");
  const RefPtr y = Make(base, "/y", "y");
  const RefPtr diff = Must(store_->Diff(base, y, {}));
  const RefPtr both = Must(store_->Merge({x, diff}, {}));
  const std::vector<LayerBlob> layers = LayersOf(both);
  ASSERT_THAT(layers, SizeIs(3));
  EXPECT_EQ(layers[0].descriptor, a.descriptor);
  EXPECT_EQ(layers[1].descriptor, LayersOf(x)[1].descriptor);
  EXPECT_EQ(layers[2].descriptor, LayersOf(y)[1].descriptor);
  EXPECT_EQ(Show(both), "a=1 x=x y=y ");
}

TEST_P(LayerStoreTest, DiffOfImagesStaysLazy) {
  const RefPtr two = Pull(Pull(nullptr, Remote(TarOf("a", "1"))), Remote(TarOf("b", "2")));
  const LayerBlob top = Remote(TarBuilder().File("c", "3").File(".wh.a", "").Build());
  const RefPtr full = Pull(two, top);
  const RefPtr diff = Must(store_->Diff(two, full, {}));
  const std::vector<LayerBlob> layers = LayersOf(diff);
  ASSERT_THAT(layers, SizeIs(1));
  EXPECT_EQ(layers[0].descriptor, top.descriptor);
  EXPECT_EQ(fetcher_.fetches(), 0);
  EXPECT_EQ(Show(diff), "c=3 ");
}

TEST_P(LayerStoreTest, BlobsGoWithTheirRecordAndCountInDiskUsage) {
  const LayerBlob blob = Remote(TarOf("a", std::string(100000, 'a')), /*gzip=*/false);
  RefPtr ref = Pull(nullptr, blob);
  EXPECT_EQ(Must(store_->DiskUsage({}))[0].size_bytes, 0);
  Must(ref->Materialize({}));
  EXPECT_GT(Must(store_->DiskUsage({}))[0].size_bytes, 200000);
  ref.reset();
  store_->Drain();
  EXPECT_OK(blobs_->Size(blob.descriptor.digest));
  Must(store_->Prune({.all = true}, {}, nullptr));
  EXPECT_TRUE(absl::IsNotFound(blobs_->Size(blob.descriptor.digest).status()));
  EXPECT_EQ(blobs_->UsedBytes(), 0);
  EXPECT_THAT(Folders(), IsEmpty());
}

TEST_P(LayerStoreTest, EnsureBringsABlobUnderTheLease) {
  const LayerBlob blob = Remote(TarOf("a", "1"));
  EXPECT_OK(layers_->Ensure(blob, "mine", {}));
  EXPECT_THAT(Must(blobs_->Held("mine")), ElementsAre(blob.descriptor.digest));
  EXPECT_OK(layers_->Ensure(blob, "other", {}));
  EXPECT_EQ(fetcher_.fetches(), 1);
  LayerBlob nowhere = Remote(TarOf("b", "1"));
  nowhere.origin.clear();
  EXPECT_TRUE(absl::IsNotFound(layers_->Ensure(nowhere, "mine", {})));
}

TEST_P(LayerStoreTest, AChildOfALazyImageIsWritten) {
  const RefPtr base = Pull(nullptr, Remote(TarBuilder().Dir("d").File("d/a", "1").Build()));
  const RefPtr child = Make(base, "/d/b", "2");
  EXPECT_EQ(Show(child), "d/ d/a=1 d/b=2 ");
}

TEST_P(LayerStoreTest, CancellingEndsTheWait) {
  const RefPtr ref = Pull(nullptr, Remote(TarOf("a", "1")));
  CancelSource source;
  source.Cancel(absl::CancelledError("no longer wanted"));
  EXPECT_TRUE(absl::IsCancelled(ref->Materialize(source.token()).status()));
  EXPECT_EQ(Show(ref), "a=1 ");
}

}  // namespace
}  // namespace kiln::store
