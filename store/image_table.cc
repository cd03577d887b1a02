#include "store/image_table.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"
#include "store/codec.h"

namespace kiln::store {
namespace {

// Rows of family blobs (DESIGN.md): 'n' | name.
constexpr uint8_t kVersion = 1;

std::string RowKey(absl::string_view name) { return absl::StrCat("n", name); }

// Of a name and what it names: when the name moves, both holds exist until the old one is dropped.
std::string LeaseOf(const NamedImage& image) {
  return absl::StrCat(ImageTable::kLeasePrefix, image.name, "@", image.root.digest.ToString());
}

void AppendDescriptor(std::string* out, const Descriptor& descriptor) {
  AppendText(out, descriptor.media_type);
  AppendKey(out, descriptor.digest);
  AppendOrdered64(out, descriptor.size_bytes);
}

Descriptor ReadDescriptor(Decoder& in) {
  Descriptor descriptor;
  descriptor.media_type = std::string(in.Text());
  descriptor.digest = in.Key();
  descriptor.size_bytes = in.Ordered64();
  return descriptor;
}

std::string Encode(const NamedImage& image) {
  std::string value(1, static_cast<char>(kVersion));
  AppendDescriptor(&value, image.root);
  AppendOrdered64(&value, absl::ToUnixNanos(image.created_at));
  AppendFixed32(&value, static_cast<uint32_t>(image.remote_layers.size()));
  for (const NamedImage::RemoteLayer& layer : image.remote_layers) {
    AppendDescriptor(&value, layer.descriptor);
    AppendKey(&value, layer.diff_id);
    AppendText(&value, layer.origin);
  }
  return value;
}

absl::StatusOr<NamedImage> Decode(absl::string_view name, absl::string_view value) {
  NamedImage image;
  image.name = std::string(name);
  Decoder in(value);
  const uint8_t version = in.Byte();
  image.root = ReadDescriptor(in);
  image.created_at = absl::FromUnixNanos(in.Ordered64());
  const uint32_t layers = in.Fixed32();
  for (uint32_t i = 0; i < layers && in.ok(); ++i) {
    NamedImage::RemoteLayer layer;
    layer.descriptor = ReadDescriptor(in);
    layer.diff_id = in.Key();
    layer.origin = std::string(in.Text());
    image.remote_layers.push_back(std::move(layer));
  }
  if (version != kVersion || !in.Done())
    return absl::DataLossError(absl::StrCat("the row of image ", name, " is ill-formed"));
  return image;
}

absl::Status NoImage(absl::string_view name) {
  return absl::NotFoundError(absl::StrCat("no image \"", name, "\""));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ImageTable>> ImageTable::Open(Database* database, BlobStore* blobs) {
  std::unique_ptr<ImageTable> table(new ImageTable(database, blobs));
  KILN_RETURN_IF_ERROR(table->SweepLeases());
  return table;
}

absl::Status ImageTable::SweepLeases() {
  KILN_ASSIGN_OR_RETURN(const auto leases, blobs_->Leases(kLeasePrefix));
  for (const std::string& lease : leases) {
    const size_t at = lease.rfind("@sha256:");
    const std::string name = at == std::string::npos ? ""
                                                     : lease.substr(sizeof(kLeasePrefix) - 1,
                                                                    at + 1 - sizeof(kLeasePrefix));
    const auto image = Get(name);
    if (image.ok() && LeaseOf(*image) == lease) continue;
    if (!image.ok() && !absl::IsNotFound(image.status())) return image.status();
    KILN_RETURN_IF_ERROR(blobs_->DropLease(lease));
  }
  return absl::OkStatus();
}

absl::Status ImageTable::Put(const NamedImage& image, const std::vector<Digest>& blobs) {
  MutexLock lock(&change_mu_);
  return PutLocked(image, blobs);
}

// Holds before the name, the name before the end of the old holds.
absl::Status ImageTable::PutLocked(const NamedImage& image, const std::vector<Digest>& blobs) {
  if (image.name.empty()) return absl::InvalidArgumentError("an image needs a name");
  const auto before = Get(image.name);
  if (!before.ok() && !absl::IsNotFound(before.status())) return before.status();
  const std::string lease = LeaseOf(image);
  const bool moves = before.ok() && LeaseOf(*before) != lease;
  for (const Digest& digest : blobs) {
    const absl::Status held = blobs_->Hold(lease, digest);
    if (held.ok()) continue;
    if (!before.ok() || moves) blobs_->DropLease(lease).IgnoreError();
    return Annotate(held, absl::StrCat("name image ", image.name));
  }
  Batch batch;
  batch.Put(Family::kBlobs, RowKey(image.name), Encode(image));
  KILN_RETURN_IF_ERROR(database_->Write(batch));
  return moves ? blobs_->DropLease(LeaseOf(*before)) : absl::OkStatus();
}

absl::Status ImageTable::Tag(absl::string_view source, absl::string_view target, absl::Time now) {
  MutexLock lock(&change_mu_);
  KILN_ASSIGN_OR_RETURN(NamedImage image, Get(source));
  KILN_ASSIGN_OR_RETURN(const std::vector<Digest> blobs, BlobsOf(image));
  image.name = std::string(target);
  image.created_at = now;
  return PutLocked(image, blobs);
}

absl::StatusOr<NamedImage> ImageTable::Get(absl::string_view name) const {
  KILN_ASSIGN_OR_RETURN(const auto value, database_->Get(Family::kBlobs, RowKey(name)));
  if (!value.has_value()) return NoImage(name);
  return Decode(name, *value);
}

absl::StatusOr<std::vector<NamedImage>> ImageTable::List() const {
  std::vector<NamedImage> images;
  Cursor cursor = database_->Scan(Family::kBlobs, "n");
  for (; cursor.Valid(); cursor.Next()) {
    KILN_ASSIGN_OR_RETURN(NamedImage image, Decode(cursor.key().substr(1), cursor.value()));
    images.push_back(std::move(image));
  }
  KILN_RETURN_IF_ERROR(cursor.status());
  return images;
}

absl::Status ImageTable::Remove(absl::string_view name) {
  MutexLock lock(&change_mu_);
  KILN_ASSIGN_OR_RETURN(const NamedImage image, Get(name));
  Batch batch;
  batch.Delete(Family::kBlobs, RowKey(name));
  KILN_RETURN_IF_ERROR(database_->Write(batch));
  return blobs_->DropLease(LeaseOf(image));
}

absl::StatusOr<std::vector<Digest>> ImageTable::BlobsOf(const NamedImage& image) const {
  return blobs_->Held(LeaseOf(image));
}

}  // namespace kiln::store
