#include "daemon/exporter/blob_lease.h"

#include <spdlog/spdlog.h>

#include "absl/strings/str_cat.h"
#include "daemon/gateway/bridge.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr char kPrefix[] = "export:";
constexpr int64_t kMaxSmallBytes = 16 << 20;

}  // namespace

BlobLease::BlobLease(store::BlobStore* blobs)
    : blobs_(blobs), name_(absl::StrCat(kPrefix, NewId())) {}

BlobLease::~BlobLease() {
  const absl::Status status = blobs_->DropLease(name_);
  if (!status.ok()) spdlog::warn("end lease {}: {}", name_, std::string(status.message()));
}

absl::StatusOr<Digest> BlobLease::Put(absl::string_view bytes) {
  store::BlobWant want;
  want.digest = Digest::Of(bytes);
  want.size_bytes = static_cast<int64_t>(bytes.size());
  auto writer = blobs_->Ingest(want, name_);
  if (absl::IsAlreadyExists(writer.status())) return *want.digest;
  KILN_RETURN_IF_ERROR(writer.status());
  KILN_RETURN_IF_ERROR((*writer)->Append(bytes));
  return (*writer)->Commit();
}

absl::Status SweepExportLeases(store::BlobStore& blobs) {
  KILN_ASSIGN_OR_RETURN(const auto leases, blobs.Leases(kPrefix));
  for (const std::string& lease : leases) KILN_RETURN_IF_ERROR(blobs.DropLease(lease));
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadSmallBlob(store::BlobStore& blobs, const Digest& digest) {
  KILN_ASSIGN_OR_RETURN(const int64_t size, blobs.Size(digest));
  if (size > kMaxSmallBytes)
    return absl::ResourceExhaustedError(
        absl::StrCat("blob ", digest.ToString(), " has ", size, " bytes: too much for a manifest"));
  std::string bytes(static_cast<size_t>(size), '\0');
  KILN_ASSIGN_OR_RETURN(const size_t got, blobs.ReadAt(digest, 0, absl::MakeSpan(bytes)));
  bytes.resize(got);
  return bytes;
}

}  // namespace kiln::daemon
