#include "store/layer/local_layer_store.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "store/base/status_macros.h"
#include "store/layer/decompressor.h"

namespace kiln::store {

using internal::LayerRowKey;
using internal::LayerRowPrefix;
using internal::LeaseOf;

namespace {

constexpr size_t kMakeThreads = 4;  // layers read and hashed at the same time
constexpr size_t kMaxOrigins = 8;
constexpr int64_t kDiskReserve = 256 << 20;
constexpr char kChainPrefix[] = "chain:";

absl::Status CheckDescriptor(const LayerBlob& blob) {
  if (blob.descriptor.digest.empty() || blob.diff_id.empty())
    return absl::InvalidArgumentError(absl::StrCat("layer ", blob.descriptor.digest.ToString(),
                                                   " has no digest of its uncompressed bytes"));
  return absl::OkStatus();
}

}  // namespace

LocalLayerStore::LocalLayerStore(const LocalLayerStoreOptions& options)
    : root_(*options.root),
      database_(*options.database),
      refs_(*options.refs),
      blobs_(*options.blobs),
      budget_(options.budget == nullptr ? CompressionBudget::OfProcess() : *options.budget),
      limits_(options.limits),
      unpacking_(options.unpacking),
      fetcher_(options.blobs, options.fetcher),
      make_pool_("layer-make", kMakeThreads) {
  refs_.SetLayerBacking(this);
}

LocalLayerStore::~LocalLayerStore() {
  refs_.SetLayerBacking(nullptr);
  refs_.Drain();  // somebody may be using it
}

// --- Rows

absl::StatusOr<LocalLayerStore::LayerRow> LocalLayerStore::ReadRow(uint64_t snapshot,
                                                                   uint64_t base) const {
  KILN_ASSIGN_OR_RETURN(const auto row, database_.Get(Family::kRefs, LayerRowKey(snapshot, base)));
  if (!row.has_value()) return LayerRow();
  return internal::DecodeLayerRow(*row);
}

absl::Status LocalLayerStore::WriteRow(uint64_t snapshot, uint64_t base, const LayerRow& row) {
  Batch batch;
  batch.Put(Family::kRefs, LayerRowKey(snapshot, base), internal::EncodeLayerRow(row));
  return database_.Write(batch);
}

// The index key of the layer on top of `parent`: its chain id (image-spec, config.md), or where the
// parent has none, the parent itself.
absl::StatusOr<std::string> LocalLayerStore::ChainKey(const RefPtr& parent, const Digest& diff_id) {
  if (parent == nullptr) return absl::StrCat(kChainPrefix, diff_id.ToString());
  absl::StatusOr<std::string> below = refs_.GetValue(parent->id(), LocalRefStore::kChainValue);
  if (!below.ok() && !absl::IsNotFound(below.status())) return below.status();
  if (!below.ok() || !absl::StartsWith(*below, kChainPrefix))
    return absl::StrCat("layer:", parent->id(), ":", diff_id.ToString());
  const Digest chain =
      Digest::Of(absl::StrCat(below->substr(sizeof kChainPrefix - 1), " ", diff_id.ToString()));
  return absl::StrCat(kChainPrefix, chain.ToString());
}

absl::StatusOr<RefPtr> LocalLayerStore::AddLayer(RefPtr parent, const LayerBlob& blob,
                                                 const RefOptions& options) {
  KILN_RETURN_IF_ERROR(CheckDescriptor(blob));
  KILN_ASSIGN_OR_RETURN(const std::string chain, ChainKey(parent, blob.diff_id));
  MutexLock lock(&add_mu_);
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> known, refs_.Search(chain));
  for (const std::string& id : known) {
    absl::StatusOr<RefPtr> ref = refs_.Get(id);
    if (absl::IsNotFound(ref.status()) || absl::IsFailedPrecondition(ref.status())) continue;
    KILN_RETURN_IF_ERROR(ref.status());
    KILN_ASSIGN_OR_RETURN(const Step step, refs_.OwnStep(*ref));
    KILN_RETURN_IF_ERROR(Remember(step, blob));
    if (options.retain) KILN_RETURN_IF_ERROR(refs_.SetRetained(id));
    if (!options.index_key.empty()) KILN_RETURN_IF_ERROR(refs_.SetIndexKey(id, options.index_key));
    return ref;
  }
  LayerRow row;
  row.diff_id = blob.diff_id;
  row.created_at = blob.created_at;
  row.description = blob.description;
  LayerVariant variant;
  variant.descriptor = blob.descriptor;
  if (!blob.origin.empty()) variant.origins.push_back(blob.origin);
  row.variants.push_back(std::move(variant));
  uint64_t number = 0;
  KILN_ASSIGN_OR_RETURN(
      RefPtr ref,
      refs_.NewLayer(parent, options, chain, [&](uint64_t snapshot, uint64_t base, Batch& batch) {
        number = snapshot;
        batch.Put(Family::kRefs, LayerRowKey(snapshot, base), internal::EncodeLayerRow(row));
      }));
  const absl::Status held = blobs_.Hold(LeaseOf(number), blob.descriptor.digest);
  if (!held.ok() && !absl::IsNotFound(held)) return held;
  return ref;
}

// One more way to have the bytes of a layer that is known.
absl::Status LocalLayerStore::Remember(const Step& step, const LayerBlob& blob) {
  KILN_ASSIGN_OR_RETURN(const NamedLocks::Hold turn,
                        row_turn_.Acquire(LayerRowKey(step.snapshot, step.base), CancelToken()));
  KILN_ASSIGN_OR_RETURN(LayerRow row, ReadRow(step.snapshot, step.base));
  row.diff_id = blob.diff_id;
  if (row.created_at == absl::InfinitePast()) row.created_at = blob.created_at;
  if (row.description.empty()) row.description = blob.description;
  auto variant = std::find_if(row.variants.begin(), row.variants.end(), [&](const auto& known) {
    return known.descriptor.digest == blob.descriptor.digest;
  });
  if (variant == row.variants.end()) {
    variant = row.variants.emplace(row.variants.end());
    variant->descriptor = blob.descriptor;
  }
  if (!blob.origin.empty()) {
    std::vector<std::string>& origins = variant->origins;
    origins.erase(std::remove(origins.begin(), origins.end(), blob.origin), origins.end());
    origins.insert(origins.begin(), blob.origin);
    if (origins.size() > kMaxOrigins) origins.resize(kMaxOrigins);
  }
  KILN_RETURN_IF_ERROR(WriteRow(step.snapshot, step.base, row));
  const absl::Status held = blobs_.Hold(LeaseOf(step.snapshot), blob.descriptor.digest);
  if (absl::IsNotFound(held)) return absl::OkStatus();
  if (held.ok()) refs_.BackingChanged(step.owner);
  return held;
}

absl::Status LocalLayerStore::Ensure(const LayerBlob& blob, absl::string_view lease,
                                     const CancelToken& cancel) {
  return fetcher_.Ensure(blob, {blob.origin}, lease, cancel);
}

// --- Backing of snapshots

absl::Status LocalLayerStore::Fill(uint64_t snapshot, const FillTarget& target,
                                   const CancelToken& cancel) {
  LayerRow row;
  {
    Cursor cursor = database_.Scan(Family::kRefs, LayerRowPrefix(snapshot));
    if (!cursor.Valid()) {
      KILN_RETURN_IF_ERROR(cursor.status());
      return absl::DataLossError(absl::StrCat("nothing is known of layer ", snapshot));
    }
    KILN_ASSIGN_OR_RETURN(row, internal::DecodeLayerRow(cursor.value()));
  }
  // What is stored comes first.
  std::vector<LayerVariant> variants;
  for (const LayerVariant& variant : row.variants)
    if (!variant.rewrite.has_value()) variants.push_back(variant);
  std::stable_partition(variants.begin(), variants.end(), [&](const LayerVariant& variant) {
    return blobs_.Hold(LeaseOf(snapshot), variant.descriptor.digest).ok();
  });
  absl::Status first = absl::DataLossError("no way to have the layer is known");
  for (size_t i = 0; i < variants.size(); ++i) {
    const LayerVariant& variant = variants[i];
    LayerBlob blob;
    blob.descriptor = variant.descriptor;
    blob.diff_id = row.diff_id;
    const absl::Status brought = fetcher_.Ensure(blob, variant.origins, LeaseOf(snapshot), cancel);
    if (brought.ok())
      return Annotate(
          Unpack(variant, variant.own_diff_id.empty() ? row.diff_id : variant.own_diff_id, target,
                 cancel),
          absl::StrCat("layer ", variant.descriptor.digest.ToString(),
                       variant.origins.empty() ? "" : " of ",
                       variant.origins.empty() ? "" : variant.origins.front()));
    KILN_RETURN_IF_ERROR(cancel.status());
    if (i == 0) first = brought;
  }
  return first;
}

absl::Status LocalLayerStore::Unpack(const LayerVariant& variant, const Digest& diff_id,
                                     const FillTarget& target, const CancelToken& cancel) {
  struct statvfs fs;
  if (::statvfs(root_.path().c_str(), &fs) != 0)
    return ErrnoStatus(errno, absl::StrCat("free space of ", root_.path()));
  UnpackOptions options;
  options.overlay_form = target.overlay;
  options.recorder = target.recorder;
  options.lower = target.lower;
  options.cancel = cancel;
  options.limits = limits_;
  const int64_t free_bytes = static_cast<int64_t>(fs.f_bavail) * static_cast<int64_t>(fs.f_frsize);
  options.limits.max_bytes =
      std::min(limits_.max_bytes, std::max<int64_t>(0, free_bytes - kDiskReserve));

  std::shared_ptr<void> shown;
  if (unpacking_) shown = unpacking_(variant.descriptor.digest, variant.origins);
  KILN_ASSIGN_OR_RETURN(Fd file, blobs_.OpenBlob(variant.descriptor.digest));
  const std::unique_ptr<ByteStream> stored = NewFileStream(std::move(file));
  KILN_ASSIGN_OR_RETURN(const std::unique_ptr<ByteStream> plain, NewDecompressor(stored.get()));
  HashingStream tar(plain.get());
  KILN_ASSIGN_OR_RETURN(const std::unique_ptr<LayerUnpacker> unpacker,
                        LayerUnpacker::Create(target.files, options));
  KILN_RETURN_IF_ERROR(unpacker->Unpack(tar));
  const Digest got = tar.Finish();
  if (got != diff_id)
    return absl::DataLossError(absl::StrCat("the unpacked bytes have digest ", got.ToString(),
                                            ", the image says ", diff_id.ToString()));
  if (unpacker->checksums_doubtful() && target.recorder != nullptr) target.recorder->Invalidate();
  KILN_ASSIGN_OR_RETURN(const kiln::store::Layers lower, target.lower());
  return unpacker->Settle(lower);
}

absl::StatusOr<int64_t> LocalLayerStore::Bytes(uint64_t snapshot) {
  KILN_ASSIGN_OR_RETURN(const std::vector<Digest> blobs, blobs_.Held(LeaseOf(snapshot)));
  int64_t bytes = 0;
  for (const Digest& blob : blobs) {
    const absl::StatusOr<int64_t> size = blobs_.Size(blob);
    if (absl::IsNotFound(size.status())) continue;
    KILN_RETURN_IF_ERROR(size.status());
    bytes += *size;
  }
  return bytes;
}

absl::Status LocalLayerStore::Erase(uint64_t snapshot, Batch& batch) {
  Cursor rows = database_.Scan(Family::kRefs, LayerRowPrefix(snapshot));
  for (; rows.Valid(); rows.Next()) batch.Delete(Family::kRefs, rows.key());
  return rows.status();
}

void LocalLayerStore::Erased(uint64_t snapshot) {
  if (absl::Status dropped = blobs_.DropLease(LeaseOf(snapshot)); !dropped.ok())
    spdlog::warn("drop the blobs of snapshot {}: {}; the next start tries again", snapshot,
                 dropped.ToString());
}

absl::Status LocalLayerStore::Sweep() {
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> leases,
                        blobs_.Leases(internal::kLeasePrefix));
  auto gone = [&](uint64_t snapshot) -> absl::StatusOr<bool> {
    KILN_ASSIGN_OR_RETURN(const bool there,
                          database_.Has(Family::kRefs, internal::SnapshotKey(snapshot)));
    return !there;
  };
  for (const std::string& lease : leases) {
    const std::optional<uint64_t> snapshot = internal::SnapshotOfLease(lease);
    if (!snapshot.has_value()) continue;
    KILN_ASSIGN_OR_RETURN(const bool drop, gone(*snapshot));
    if (drop) KILN_RETURN_IF_ERROR(blobs_.DropLease(lease));
  }
  Batch batch;
  Cursor rows = database_.Scan(Family::kRefs, absl::string_view(&internal::kLayerRow, 1));
  for (; rows.Valid(); rows.Next()) {
    const std::optional<uint64_t> snapshot = internal::SnapshotOfRow(rows.key());
    if (!snapshot.has_value()) continue;
    KILN_ASSIGN_OR_RETURN(const bool drop, gone(*snapshot));
    if (drop) batch.Delete(Family::kRefs, rows.key());
  }
  KILN_RETURN_IF_ERROR(rows.status());
  return batch.empty() ? absl::OkStatus() : database_.Write(batch);
}

}  // namespace kiln::store
