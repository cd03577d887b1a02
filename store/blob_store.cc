#include "store/blob_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "store/base/status_macros.h"
#include "store/codec.h"

namespace kiln::store {
namespace {

// Rows of family blobs (DESIGN.md): 'b' | digest, 'h' | digest | lease, 'l' | lease | digest, 't'.
constexpr uint8_t kBlobVersion = 1;
constexpr char kTotalKey[] = "t";

std::string BlobKey(const Digest& digest) { return absl::StrCat("b", digest.raw()); }

std::string HolderPrefix(const Digest& digest) { return absl::StrCat("h", digest.raw()); }

std::string LeasePrefix(absl::string_view lease) {
  std::string key("l");
  AppendOrderedText(&key, lease);
  return key;
}

std::string LeaseKey(absl::string_view lease, const Digest& digest) {
  return absl::StrCat(LeasePrefix(lease), digest.raw());
}

void AddHold(Batch& batch, absl::string_view lease, const Digest& digest) {
  batch.Put(Family::kBlobs, absl::StrCat(HolderPrefix(digest), lease), "");
  batch.Put(Family::kBlobs, LeaseKey(lease, digest), "");
}

std::string SizeValue(int64_t size_bytes) {
  std::string value(1, static_cast<char>(kBlobVersion));
  AppendOrdered64(&value, size_bytes);
  return value;
}

absl::StatusOr<int64_t> DecodeSize(absl::string_view value) {
  Decoder in(value);
  const uint8_t version = in.Byte();
  const int64_t size_bytes = in.Ordered64();
  if (version != kBlobVersion || !in.Done())
    return absl::DataLossError("the index of blobs holds an ill-formed row");
  return size_bytes;
}

}  // namespace

BlobStore::BlobStore(Root* root, Database* database, const BlobStoreOptions& options)
    : root_(root),
      database_(database),
      options_(options),
      folder_(absl::StrCat(root->blobs_dir(), "/sha256")) {}

absl::StatusOr<std::unique_ptr<BlobStore>> BlobStore::Open(Root* root, Database* database,
                                                           const BlobStoreOptions& options) {
  std::unique_ptr<BlobStore> store(new BlobStore(root, database, options));
  KILN_RETURN_IF_ERROR(store->Load());
  return store;
}

absl::Status BlobStore::Load() {
  std::error_code ec;
  std::filesystem::create_directories(folder_, ec);
  if (ec) return ErrnoStatus(ec.value(), absl::StrCat("create folder ", folder_));
  KILN_ASSIGN_OR_RETURN(const std::optional<std::string> total,
                        database_->Get(Family::kBlobs, kTotalKey));
  if (total.has_value()) {
    KILN_ASSIGN_OR_RETURN(const int64_t bytes, DecodeSize(*total));
    MutexLock lock(&mu_);
    used_bytes_ = bytes;
  }
  std::vector<Digest> doubtful;
  for (const RowName& row : database_->unsettled()) {
    if (row.family != Family::kBlobs) continue;
    Decoder in(row.key);
    in.Byte();
    doubtful.push_back(in.Key());
    if (!in.Done()) return absl::DataLossError("the index lists an ill-formed blob as unsettled");
  }
  MutexLock lock(&change_mu_);
  return RemoveAll(doubtful, Batch());
}

std::string BlobStore::PathOf(const Digest& digest) const {
  return absl::StrCat(folder_, "/", digest.hex());
}

absl::StatusOr<std::optional<int64_t>> BlobStore::Stored(const Digest& digest) const {
  KILN_ASSIGN_OR_RETURN(const std::optional<std::string> value,
                        database_->Get(Family::kBlobs, BlobKey(digest)));
  if (!value.has_value()) return std::optional<int64_t>();
  KILN_ASSIGN_OR_RETURN(const int64_t size, DecodeSize(*value));
  return std::optional<int64_t>(size);
}

absl::StatusOr<Fd> BlobStore::OpenBlob(const Digest& digest) {
  KILN_ASSIGN_OR_RETURN(const std::optional<int64_t> size, Stored(digest));
  if (!size.has_value())
    return absl::NotFoundError(absl::StrCat("blob ", digest.ToString(), " is not stored"));
  absl::StatusOr<Fd> file = OpenFile(PathOf(digest), O_RDONLY);
  struct stat st = {};
  if (file.ok() && ::fstat(file->get(), &st) != 0)
    return ErrnoStatus(errno, absl::StrCat("stat blob ", digest.ToString()));
  if (file.ok() && st.st_size == *size) return file;
  if (!file.ok() && !absl::IsNotFound(file.status())) return file.status();
  // It may have been removed between the two looks.
  KILN_ASSIGN_OR_RETURN(const std::optional<int64_t> again, Stored(digest));
  if (!again.has_value())
    return absl::NotFoundError(absl::StrCat("blob ", digest.ToString(), " is not stored"));
  return absl::DataLossError(
      absl::StrCat("blob ", digest.ToString(), " should have ", *size, " bytes, its file has ",
                   file.ok() ? absl::StrCat(st.st_size) : std::string("gone")));
}

absl::StatusOr<int64_t> BlobStore::Size(const Digest& digest) {
  KILN_ASSIGN_OR_RETURN(const Fd file, OpenBlob(digest));
  struct stat st = {};
  if (::fstat(file.get(), &st) != 0)
    return ErrnoStatus(errno, absl::StrCat("stat blob ", digest.ToString()));
  return st.st_size;
}

absl::StatusOr<size_t> BlobStore::ReadAt(const Digest& digest, int64_t offset,
                                         absl::Span<char> out) {
  if (offset < 0) return absl::InvalidArgumentError(absl::StrCat("read blob at offset ", offset));
  KILN_ASSIGN_OR_RETURN(const Fd file, OpenBlob(digest));
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = ::pread(file.get(), out.data() + done, out.size() - done,
                              static_cast<off_t>(offset + static_cast<int64_t>(done)));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, absl::StrCat("read blob ", digest.ToString()));
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

absl::Status BlobStore::Reserve(int64_t bytes) {
  MutexLock lock(&mu_);
  if (options_.quota_bytes > 0 && used_bytes_ + bytes > options_.quota_bytes)
    return absl::ResourceExhaustedError(absl::StrCat("the quota of ", options_.quota_bytes,
                                                     " bytes for blobs is reached: ", used_bytes_,
                                                     " in use, ", bytes, " more needed"));
  used_bytes_ += bytes;
  return absl::OkStatus();
}

void BlobStore::Unreserve(int64_t bytes) {
  MutexLock lock(&mu_);
  used_bytes_ -= bytes;
}

int64_t BlobStore::UsedBytes() const {
  MutexLock lock(&mu_);
  return used_bytes_;
}

absl::StatusOr<std::unique_ptr<BlobWriter>> BlobStore::Ingest(const BlobWant& want,
                                                              absl::string_view lease) {
  if (lease.empty()) return absl::InvalidArgumentError("a blob needs a lease with a name");
  if (want.digest.has_value()) {
    const absl::Status held = Hold(lease, *want.digest);
    if (held.ok())
      return absl::AlreadyExistsError(
          absl::StrCat("blob ", want.digest->ToString(), " is stored already"));
    if (!absl::IsNotFound(held)) return held;
  }
  int64_t number = 0;
  {
    MutexLock lock(&mu_);
    number = next_file_++;
  }
  std::string path = absl::StrCat(root_->tmp_dir(), "/blob-", number);
  KILN_ASSIGN_OR_RETURN(Fd file, OpenFile(path, O_WRONLY | O_CREAT | O_EXCL, 0600));
  return std::unique_ptr<BlobWriter>(
      new BlobWriter(this, want, std::string(lease), std::move(path), std::move(file)));
}

absl::Status BlobStore::Hold(absl::string_view lease, const Digest& digest) {
  if (lease.empty()) return absl::InvalidArgumentError("a blob needs a lease with a name");
  MutexLock lock(&change_mu_);
  KILN_ASSIGN_OR_RETURN(const std::optional<int64_t> size, Stored(digest));
  if (!size.has_value())
    return absl::NotFoundError(absl::StrCat("blob ", digest.ToString(), " is not stored"));
  KILN_ASSIGN_OR_RETURN(const bool held, database_->Has(Family::kBlobs, LeaseKey(lease, digest)));
  if (held) return absl::OkStatus();
  Batch batch;
  AddHold(batch, lease, digest);
  return database_->Write(batch);
}

absl::Status BlobStore::Publish(const Digest& digest, int64_t size_bytes, const std::string& path,
                                const std::string& lease) {
  MutexLock lock(&change_mu_);
  Batch batch;
  AddHold(batch, lease, digest);
  KILN_ASSIGN_OR_RETURN(const std::optional<int64_t> present, Stored(digest));
  if (present.has_value()) {
    // Somebody else was faster; ours goes.
    KILN_RETURN_IF_ERROR(database_->Write(batch));
    if (::unlink(path.c_str()) != 0) spdlog::warn("remove {}: errno {}", path, errno);
    Unreserve(size_bytes);
    return absl::OkStatus();
  }
  if (::rename(path.c_str(), PathOf(digest).c_str()) != 0)
    return ErrnoStatus(errno, absl::StrCat("publish blob ", digest.ToString()));
  int64_t total = size_bytes;
  KILN_ASSIGN_OR_RETURN(const std::optional<std::string> before,
                        database_->Get(Family::kBlobs, kTotalKey));
  if (before.has_value()) {
    KILN_ASSIGN_OR_RETURN(const int64_t bytes, DecodeSize(*before));
    total += bytes;
  }
  batch.Put(Family::kBlobs, BlobKey(digest), SizeValue(size_bytes));
  batch.Put(Family::kBlobs, kTotalKey, SizeValue(total));
  batch.MarkUnsettled(Family::kBlobs, BlobKey(digest));
  absl::Status written = database_->Write(batch);
  // Nothing names the file then. Back to where its writer, or the next start, removes it.
  if (!written.ok() && ::rename(PathOf(digest).c_str(), path.c_str()) != 0)
    spdlog::warn("take back blob {}: errno {}", digest.ToString(), errno);
  return written;
}

absl::StatusOr<std::vector<std::string>> BlobStore::Holders(const Digest& digest) const {
  const std::string prefix = HolderPrefix(digest);
  std::vector<std::string> leases;
  Cursor cursor = database_->Scan(Family::kBlobs, prefix);
  for (; cursor.Valid(); cursor.Next()) leases.emplace_back(cursor.key().substr(prefix.size()));
  KILN_RETURN_IF_ERROR(cursor.status());
  return leases;
}

// Index before files: a kill in between leaves files that SweepFiles finds. The log is synced
// first, or a power loss could bring back a row whose file is gone for good.
absl::Status BlobStore::RemoveAll(const std::vector<Digest>& blobs, Batch batch) {
  int64_t freed = 0;
  for (const Digest& digest : blobs) {
    KILN_ASSIGN_OR_RETURN(const std::optional<int64_t> size, Stored(digest));
    freed += size.value_or(0);
    KILN_ASSIGN_OR_RETURN(const std::vector<std::string> leases, Holders(digest));
    for (const std::string& lease : leases) {
      batch.Delete(Family::kBlobs, absl::StrCat(HolderPrefix(digest), lease));
      batch.Delete(Family::kBlobs, LeaseKey(lease, digest));
    }
    batch.Delete(Family::kBlobs, BlobKey(digest));
  }
  if (freed > 0) {
    KILN_ASSIGN_OR_RETURN(const std::optional<std::string> total,
                          database_->Get(Family::kBlobs, kTotalKey));
    KILN_ASSIGN_OR_RETURN(const int64_t bytes, DecodeSize(total.value_or("")));
    batch.Put(Family::kBlobs, kTotalKey, SizeValue(bytes - freed));
  }
  if (batch.empty()) return absl::OkStatus();
  KILN_RETURN_IF_ERROR(database_->Write(
      batch, blobs.empty() ? Database::Durability::kLogged : Database::Durability::kSynced));
  Unreserve(freed);
  absl::Status status;
  for (const Digest& digest : blobs)
    if (::unlink(PathOf(digest).c_str()) != 0 && errno != ENOENT)
      status.Update(ErrnoStatus(errno, absl::StrCat("remove blob ", digest.ToString())));
  return status;
}

absl::Status BlobStore::DropLease(absl::string_view lease) {
  MutexLock lock(&change_mu_);
  KILN_ASSIGN_OR_RETURN(const std::vector<Digest> held, Held(lease));
  Batch batch;
  std::vector<Digest> last;
  for (const Digest& digest : held) {
    batch.Delete(Family::kBlobs, LeaseKey(lease, digest));
    batch.Delete(Family::kBlobs, absl::StrCat(HolderPrefix(digest), lease));
    KILN_ASSIGN_OR_RETURN(const std::vector<std::string> holders, Holders(digest));
    if (holders.size() <= 1) last.push_back(digest);
  }
  return RemoveAll(last, std::move(batch));
}

absl::StatusOr<std::vector<std::string>> BlobStore::Leases(absl::string_view prefix) {
  std::vector<std::string> leases;
  Cursor cursor = database_->Scan(Family::kBlobs, "l");
  while (cursor.Valid()) {
    Decoder in(cursor.key().substr(1));
    const std::string lease = in.OrderedText();
    if (!in.ok()) return absl::DataLossError("the index of blobs holds an ill-formed row");
    if (absl::StartsWith(lease, prefix)) leases.push_back(lease);
    // Past everything that it holds: digests are 32 bytes.
    cursor.Seek(absl::StrCat(LeasePrefix(lease), std::string(Digest::kSize + 1, '\xff')));
  }
  KILN_RETURN_IF_ERROR(cursor.status());
  return leases;
}

absl::StatusOr<std::vector<Digest>> BlobStore::Held(absl::string_view lease) {
  const std::string prefix = LeasePrefix(lease);
  std::vector<Digest> held;
  Cursor cursor = database_->Scan(Family::kBlobs, prefix);
  for (; cursor.Valid(); cursor.Next()) {
    KILN_ASSIGN_OR_RETURN(const Digest digest, Digest::FromRaw(cursor.key().substr(prefix.size())));
    held.push_back(digest);
  }
  KILN_RETURN_IF_ERROR(cursor.status());
  return held;
}

absl::StatusOr<std::vector<std::pair<Digest, int64_t>>> BlobStore::List() const {
  std::vector<std::pair<Digest, int64_t>> blobs;
  Cursor cursor = database_->Scan(Family::kBlobs, "b");
  for (; cursor.Valid(); cursor.Next()) {
    KILN_ASSIGN_OR_RETURN(const Digest digest, Digest::FromRaw(cursor.key().substr(1)));
    KILN_ASSIGN_OR_RETURN(const int64_t size, DecodeSize(cursor.value()));
    blobs.emplace_back(digest, size);
  }
  KILN_RETURN_IF_ERROR(cursor.status());
  return blobs;
}

absl::StatusOr<bool> BlobStore::HeldOutside(const Digest& digest, absl::string_view prefix) const {
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> leases, Holders(digest));
  return std::any_of(leases.begin(), leases.end(), [prefix](const std::string& lease) {
    return !absl::StartsWith(lease, prefix);
  });
}

absl::StatusOr<int64_t> BlobStore::SweepFiles() {
  std::error_code ec;
  std::filesystem::directory_iterator it(folder_, ec);
  int64_t removed = 0;
  for (const std::filesystem::directory_iterator end; !ec && it != end; it.increment(ec)) {
    const std::string name = it->path().filename().string();
    const absl::StatusOr<Digest> digest = Digest::Parse(absl::StrCat("sha256:", name));
    // Not while one is being published: its file comes before its row.
    MutexLock lock(&change_mu_);
    if (digest.ok()) {
      KILN_ASSIGN_OR_RETURN(const std::optional<int64_t> size, Stored(*digest));
      if (size.has_value()) continue;
    }
    std::error_code failed;
    std::filesystem::remove_all(it->path(), failed);
    if (failed) return ErrnoStatus(failed.value(), absl::StrCat("remove ", it->path().string()));
    ++removed;
  }
  if (ec) return ErrnoStatus(ec.value(), absl::StrCat("list ", folder_));
  return removed;
}

BlobWriter::BlobWriter(BlobStore* store, BlobWant want, std::string lease, std::string path,
                       Fd file)
    : store_(store),
      want_(want),
      lease_(std::move(lease)),
      path_(std::move(path)),
      file_(std::move(file)) {}

BlobWriter::~BlobWriter() {
  if (path_.empty()) return;
  store_->Unreserve(size_bytes_);
  if (::unlink(path_.c_str()) != 0) spdlog::warn("remove {}: errno {}", path_, errno);
}

absl::Status BlobWriter::Append(absl::string_view bytes) {
  const auto more = static_cast<int64_t>(bytes.size());
  if (want_.size_bytes.has_value() && size_bytes_ + more > *want_.size_bytes)
    return absl::DataLossError(
        absl::StrCat("blob has more than the ", *want_.size_bytes, " bytes that were announced"));
  KILN_RETURN_IF_ERROR(store_->Reserve(more));
  size_bytes_ += more;
  hash_.Update(bytes);
  return Annotate(WriteAll(file_.get(), bytes), absl::StrCat("write blob to ", path_));
}

absl::StatusOr<Digest> BlobWriter::Commit() {
  if (want_.size_bytes.has_value() && size_bytes_ != *want_.size_bytes)
    return absl::DataLossError(
        absl::StrCat("blob has ", size_bytes_, " bytes, ", *want_.size_bytes, " were announced"));
  const Digest digest = hash_.Finish();
  if (want_.digest.has_value() && digest != *want_.digest)
    return absl::DataLossError(
        absl::StrCat("blob has digest ", digest.ToString(), ", wanted ", want_.digest->ToString()));
  KILN_RETURN_IF_ERROR(Annotate(file_.Close(), absl::StrCat("close ", path_)));
  KILN_RETURN_IF_ERROR(store_->Publish(digest, size_bytes_, path_, lease_));
  path_.clear();
  return digest;
}

}  // namespace kiln::store
