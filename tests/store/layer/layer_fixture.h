#pragma once

#include <zlib.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "store/blob_store.h"
#include "store/layer/local_layer_store.h"
#include "tests/store/layer/layer_bytes.h"
#include "tests/store/layer/tar_builder.h"
#include "tests/store/ref/store_fixture.h"

namespace kiln::store {

// One gzip member, by zlib.
inline std::string Gzip(const std::string& bytes) {
  z_stream stream = {};
  EXPECT_EQ(::deflateInit2(&stream, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(::deflateBound(&stream, bytes.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(::deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  ::deflateEnd(&stream);
  return out;
}

// A registry in memory. Counts what is asked of it; may break transfers off.
class FakeFetcher final : public LayerFetcher {
 public:
  absl::Status Fetch(const LayerBlob& blob, const CancelToken& cancel,
                     const std::function<absl::Status(absl::string_view)>& sink) override {
    std::string bytes;
    {
      MutexLock lock(&mu_);
      ++fetches_;
      auto it = blobs_.find(blob.origin + "@" + blob.descriptor.digest.ToString());
      if (it == blobs_.end()) return absl::NotFoundError("no such blob in " + blob.origin);
      bytes = it->second;
      if (wrong_ > 0) bytes.assign(bytes.size(), 'x');
    }
    for (auto at = size_t{0}; at < bytes.size(); at += 1000) {
      if (cancel.Cancelled()) return cancel.status();
      {
        MutexLock lock(&mu_);
        if (cut_ > 0 && at >= 2000) {
          --cut_;
          return absl::UnavailableError("connection reset");
        }
      }
      const absl::Status taken = sink(absl::string_view(bytes).substr(at, 1000));
      if (!taken.ok()) return taken;
    }
    MutexLock lock(&mu_);
    if (wrong_ == 0) return absl::OkStatus();
    --wrong_;
    return absl::AbortedError("those were other bytes");
  }

  void Put(const std::string& origin, const Digest& digest, const std::string& bytes) {
    MutexLock lock(&mu_);
    blobs_[origin + "@" + digest.ToString()] = bytes;
  }
  // The next transfers break off after 2000 bytes.
  void CutNext(int transfers) {
    MutexLock lock(&mu_);
    cut_ = transfers;
  }
  // The next transfers bring other bytes and say so at their end.
  void SendWrongNext(int transfers) {
    MutexLock lock(&mu_);
    wrong_ = transfers;
  }
  int fetches() {
    MutexLock lock(&mu_);
    return fetches_;
  }

 private:
  Mutex mu_;
  std::map<std::string, std::string> blobs_ ABSL_GUARDED_BY(mu_);
  int fetches_ ABSL_GUARDED_BY(mu_) = 0;
  int cut_ ABSL_GUARDED_BY(mu_) = 0;
  int wrong_ ABSL_GUARDED_BY(mu_) = 0;
};

// A layer store over a ref store of either driver.
class LayerStoreTest : public EachDriverTest {
 protected:
  void SetUp() override {
    EachDriverTest::SetUp();
    OpenLayers();
  }
  void TearDown() override {
    CloseLayers();
    EachDriverTest::TearDown();
  }
  void OpenLayers() {
    blobs_ = Must(BlobStore::Open(root_.get(), database_.get(), {}));
    LocalLayerStoreOptions options;
    options.root = root_.get();
    options.database = database_.get();
    options.refs = store_.get();
    options.blobs = blobs_.get();
    options.fetcher = &fetcher_;
    layers_ = std::make_unique<LocalLayerStore>(options);
  }
  void CloseLayers() {
    layers_.reset();
    blobs_.reset();
  }
  void RestartAll() {
    CloseLayers();
    Restart();
    OpenLayers();
  }

  // A layer that can be fetched from "reg/repo".
  LayerBlob Remote(const std::string& tar, bool gzip = true) {
    LayerBlob blob;
    const std::string bytes = gzip ? Gzip(tar) : tar;
    blob.descriptor.media_type = gzip ? kOciLayerGzip : kOciLayerTar;
    blob.descriptor.digest = Digest::Of(bytes);
    blob.descriptor.size_bytes = static_cast<int64_t>(bytes.size());
    blob.diff_id = Digest::Of(tar);
    blob.origin = "reg/repo";
    fetcher_.Put(blob.origin, blob.descriptor.digest, bytes);
    return blob;
  }
  RefPtr Pull(const RefPtr& parent, const LayerBlob& blob) {
    return Must(layers_->AddLayer(parent, blob, {.retain = true}));
  }
  std::string Stored(const Digest& digest) {
    Fd file = Must(blobs_->OpenBlob(digest));
    return Must(ReadAll(file.get()));
  }
  std::vector<LayerBlob> LayersOf(const RefPtr& ref, const LayerFormat& format = {}) {
    return Must(layers_->Layers(ref, format, {}));
  }

  FakeFetcher fetcher_;
  std::unique_ptr<BlobStore> blobs_;
  std::unique_ptr<LocalLayerStore> layers_;
};

}  // namespace kiln::store
