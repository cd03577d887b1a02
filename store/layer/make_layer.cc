// Making the blobs of layers: LocalLayerStore::Layers and what it needs.
#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "store/base/status_macros.h"
#include "store/layer/block_codec.h"
#include "store/layer/block_compressor.h"
#include "store/layer/byte_pipe.h"
#include "store/layer/decompressor.h"
#include "store/layer/estargz.h"
#include "store/layer/layer_tar.h"
#include "store/layer/local_layer_store.h"
#include "store/layer/tar_clamp.h"

namespace kiln::store {

using internal::LayerRowKey;
using internal::LeaseOf;

namespace {

// nullptr: as it is.
absl::StatusOr<std::unique_ptr<BlockCodec>> CodecFor(Compression compression,
                                                     std::optional<int> level) {
  switch (compression) {
    case Compression::kUncompressed:
      return nullptr;
    case Compression::kGzip:
      return NewGzipCodec(level);
    case Compression::kZstd:
      return NewZstdCodec(level);
    case Compression::kEstargz:
      return NewGzipMemberCodec(level);
  }
  return absl::InternalError("unknown compression");
}

}  // namespace

absl::StatusOr<std::vector<LayerBlob>> LocalLayerStore::Layers(const RefPtr& ref,
                                                               const LayerFormat& format,
                                                               const CancelToken& cancel) {
  KILN_RETURN_IF_ERROR(CodecFor(format.compression, format.level).status());
  KILN_ASSIGN_OR_RETURN(const std::vector<Step> steps, refs_.StepsOf(ref, cancel));
  std::vector<absl::StatusOr<std::optional<LayerBlob>>> made(
      steps.size(), absl::InternalError("the layer was not made"));
  // The first failure ends the others.
  CancelSource stop;
  const CancelRegistration passed_on =
      cancel.OnCancel([&stop, &cancel] { stop.Cancel(cancel.status()); });
  Mutex mu;
  CondVar changed;
  size_t left = steps.size();
  size_t index = 0;  // among layers: steps without a layer do not count
  for (size_t i = 0; i < steps.size(); ++i) {
    Want want{format.compression, format.level, format.force && !format.only_made, std::nullopt,
              format.only_made};
    if (format.rewrite_timestamp.has_value()) {
      KILN_ASSIGN_OR_RETURN(const LayerRow row, ReadRow(steps[i].snapshot, steps[i].base));
      if (index >= format.rewrite_from) want.clamp = format.rewrite_timestamp;
      if (!row.no_layer) ++index;
    }
    make_pool_.Post([&, i, want] {
      absl::StatusOr<std::optional<LayerBlob>> layer = LayerOf(steps[i], want, stop.token());
      if (!layer.ok()) stop.Cancel(layer.status());
      MutexLock lock(&mu);
      made[i] = std::move(layer);
      --left;
      changed.SignalAll();
    });
  }
  {
    MutexLock lock(&mu);
    while (left > 0) changed.Wait(&mu);
  }
  KILN_RETURN_IF_ERROR(stop.token().status());
  std::vector<LayerBlob> layers;
  size_t steps_below = 0;
  for (auto& layer : made) {
    KILN_RETURN_IF_ERROR(layer.status());
    if (!layer->has_value()) {
      ++steps_below;
      continue;
    }
    layers.push_back(**std::move(layer));
    layers.back().steps_below = std::exchange(steps_below, 0);
  }
  if (!layers.empty()) layers.back().steps_above = steps_below;
  return layers;
}

LayerBlob LocalLayerStore::BlobOf(const Step& step, const LayerRow& row,
                                  const LayerVariant& variant) {
  LayerBlob blob;
  blob.descriptor = variant.descriptor;
  blob.diff_id = variant.own_diff_id.empty() ? row.diff_id : variant.own_diff_id;
  if (!variant.origins.empty()) blob.origin = variant.origins.front();
  blob.created_at = row.created_at == absl::InfinitePast() ? step.created_at : row.created_at;
  blob.description = row.description.empty() ? step.description : row.description;
  return blob;
}

// The variant that does; nullptr: it must be made. Those that were lost do not count.
absl::StatusOr<const internal::LayerVariant*> LocalLayerStore::Choose(const Step& step,
                                                                      const LayerRow& row,
                                                                      const Want& want) {
  const LayerVariant* other = nullptr;
  for (const LayerVariant& variant : row.variants) {
    if (variant.rewrite != want.clamp) continue;
    if (variant.origins.empty()) {
      const absl::Status held = blobs_.Hold(LeaseOf(step.snapshot), variant.descriptor.digest);
      if (absl::IsNotFound(held)) continue;
      KILN_RETURN_IF_ERROR(held);
    }
    const bool level_agrees =
        !want.level.has_value() || !variant.level.has_value() || *want.level == *variant.level;
    if (level_agrees && internal::CompressionOf(variant.descriptor) == want.compression)
      return &variant;
    if (other == nullptr) other = &variant;
  }
  if (want.force || want.clamp.has_value()) return nullptr;
  return other;
}

absl::StatusOr<std::optional<LayerBlob>> LocalLayerStore::LayerOf(const Step& step,
                                                                  const Want& want,
                                                                  const CancelToken& cancel) {
  KILN_RETURN_IF_ERROR(cancel.status());
  KILN_ASSIGN_OR_RETURN(LayerRow row, ReadRow(step.snapshot, step.base));
  if (row.no_layer) return std::nullopt;
  KILN_ASSIGN_OR_RETURN(const LayerVariant* found, Choose(step, row, want));
  if (found != nullptr) return BlobOf(step, row, *found);
  if (want.only_made)
    return absl::NotFoundError(absl::StrCat("layer ", step.snapshot, " has no blob yet"));
  KILN_ASSIGN_OR_RETURN(const NamedLocks::Hold turn,
                        row_turn_.Acquire(LayerRowKey(step.snapshot, step.base), cancel));
  KILN_ASSIGN_OR_RETURN(row, ReadRow(step.snapshot, step.base));
  if (row.no_layer) return std::nullopt;
  KILN_ASSIGN_OR_RETURN(found, Choose(step, row, want));
  if (found == nullptr) {
    KILN_RETURN_IF_ERROR(Annotate(Make(step, want, &row, cancel),
                                  absl::StrCat("make the layer of ref ", step.owner->id())));
    if (row.no_layer) return std::nullopt;
    found = &row.variants.back();
  }
  return BlobOf(step, row, *found);
}

// Where the bytes of the tar come from: a blob that there is, else the files.
absl::StatusOr<LocalLayerStore::TarWriter> LocalLayerStore::SourceFor(const Step& step,
                                                                      const Want& want,
                                                                      const LayerRow& row,
                                                                      const CancelToken& cancel) {
  const LayerVariant* stored = nullptr;
  for (const LayerVariant& variant : row.variants) {
    if (!variant.own_diff_id.empty()) continue;
    LayerBlob blob;
    blob.descriptor = variant.descriptor;
    const absl::Status brought =
        fetcher_.Ensure(blob, variant.origins, LeaseOf(step.snapshot), cancel);
    if (brought.ok()) {
      stored = &variant;
      break;
    }
    if (!absl::IsNotFound(brought)) return brought;
  }
  if (stored != nullptr) {
    return TarWriter([this, digest = stored->descriptor.digest, clamp = want.clamp,
                      cancel](const ByteSink& sink) -> absl::StatusOr<bool> {
      KILN_ASSIGN_OR_RETURN(Fd file, blobs_.OpenBlob(digest));
      const std::unique_ptr<ByteStream> packed = NewFileStream(std::move(file));
      KILN_ASSIGN_OR_RETURN(const std::unique_ptr<ByteStream> plain, NewDecompressor(packed.get()));
      if (clamp.has_value()) {
        KILN_RETURN_IF_ERROR(ClampTarTimes(*plain, *clamp, cancel, sink));
        return true;
      }
      for (;;) {
        KILN_RETURN_IF_ERROR(cancel.status());
        KILN_ASSIGN_OR_RETURN(const absl::string_view piece, plain->Next());
        if (piece.empty()) return true;
        KILN_RETURN_IF_ERROR(sink(piece));
      }
    });
  }
  KILN_ASSIGN_OR_RETURN(LocalRefStore::StepTrees trees, refs_.TreesOf(step, cancel));
  return TarWriter([trees = std::move(trees), clamp = want.clamp, cancel](const ByteSink& sink) {
    DiffOptions diff;
    diff.top_layer = trees.top;
    LayerTarOptions options;
    options.clamp = clamp;
    options.cancel = cancel;
    return WriteLayerTar(TreeReader(trees.lower), TreeReader(trees.upper), diff, options, sink);
  });
}

// Stores the tar as a blob; nullopt when there is none. `diff_id` is that of the tar.
absl::StatusOr<std::optional<internal::LayerVariant>> LocalLayerStore::Store(const Step& step,
                                                                             const Want& want,
                                                                             const TarWriter& write,
                                                                             Digest* diff_id) {
  KILN_ASSIGN_OR_RETURN(const std::unique_ptr<BlobWriter> blob,
                        blobs_.Ingest(BlobWant(), LeaseOf(step.snapshot)));
  const ByteSink store = [&](absl::string_view bytes) { return blob->Append(bytes); };
  LayerVariant variant;
  variant.descriptor.media_type = internal::MediaTypeOf(want.compression);
  Sha256 hash;
  bool written = false;
  if (want.compression == Compression::kEstargz) {
    KILN_ASSIGN_OR_RETURN(written, StoreEstargz(want, write, store, &hash, &variant));
  } else {
    KILN_ASSIGN_OR_RETURN(std::unique_ptr<BlockCodec> codec,
                          CodecFor(want.compression, want.level));
    std::unique_ptr<BlockCompressor> compressor;
    if (codec != nullptr)
      compressor = std::make_unique<BlockCompressor>(&budget_, std::move(codec), store);
    KILN_ASSIGN_OR_RETURN(written, write([&](absl::string_view bytes) {
                            hash.Update(bytes);
                            return compressor == nullptr ? store(bytes) : compressor->Append(bytes);
                          }));
    if (written && compressor != nullptr) KILN_RETURN_IF_ERROR(compressor->Finish());
  }
  if (!written) return std::nullopt;
  *diff_id = hash.Finish();
  variant.descriptor.size_bytes = blob->size_bytes();
  KILN_ASSIGN_OR_RETURN(variant.descriptor.digest, blob->Commit());
  variant.level = want.level.value_or(-1);
  blobs_made_.fetch_add(1, std::memory_order_relaxed);
  return variant;
}

// The tar is pushed, and estargz reads it: a thread between the two.
absl::StatusOr<bool> LocalLayerStore::StoreEstargz(const Want& want, const TarWriter& write,
                                                   const ByteSink& store, Sha256* hash,
                                                   LayerVariant* variant) {
  BytePipe pipe;
  absl::StatusOr<bool> written = false;
  std::thread producer([&] {
    written = write([&](absl::string_view bytes) {
      hash->Update(bytes);
      return pipe.Write(bytes);
    });
    pipe.CloseWriter(written.status());
  });
  absl::StatusOr<EstargzResult> made = WriteEstargz(pipe, want.level, &budget_, store);
  pipe.CloseReader(made.status());
  producer.join();
  KILN_RETURN_IF_ERROR(made.status());
  KILN_RETURN_IF_ERROR(written.status());
  variant->own_diff_id = made->diff_id;
  variant->descriptor.annotations[kTocDigestAnnotation] = made->toc_digest.ToString();
  variant->descriptor.annotations[kUncompressedSizeAnnotation] = absl::StrCat(made->plain_bytes);
  return *written;
}

absl::Status LocalLayerStore::Make(const Step& step, const Want& want, LayerRow* row,
                                   const CancelToken& cancel) {
  KILN_ASSIGN_OR_RETURN(const TarWriter write, SourceFor(step, want, *row, cancel));
  Digest diff_id;
  KILN_ASSIGN_OR_RETURN(std::optional<LayerVariant> variant, Store(step, want, write, &diff_id));
  if (!variant.has_value()) {
    row->no_layer = true;
    return WriteRow(step.snapshot, step.base, *row);
  }
  if (want.clamp.has_value()) {
    variant->rewrite = want.clamp;
    if (variant->own_diff_id.empty()) variant->own_diff_id = diff_id;
  } else if (row->diff_id != diff_id) {
    // From files again, after all blobs of a pulled layer were lost: it need not be the same tar.
    if (!row->diff_id.empty())
      spdlog::warn("layer {} was made anew as {}", row->diff_id.ToString(), diff_id.ToString());
    row->diff_id = diff_id;
    row->variants.clear();
  }
  row->variants.push_back(*std::move(variant));
  KILN_RETURN_IF_ERROR(WriteRow(step.snapshot, step.base, *row));
  refs_.BackingChanged(step.owner);
  return absl::OkStatus();
}

}  // namespace kiln::store
