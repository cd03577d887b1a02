#include "store/checksum_table.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"
#include "store/database.h"

namespace kiln::store {

namespace {

constexpr absl::string_view kMagic = "KILNSUM1";
constexpr size_t kBlockHead = 12;  // payload length (4), start of its sha256 (8)
constexpr size_t kMaxFileSize = size_t{1} << 30;
// Encoded, about 60 entries. A file costs an inode, and making it more than all else that a small
// step does.
constexpr size_t kMaxRowSize = 4096;
constexpr size_t kMaxRowEntries = kMaxRowSize / Digest::kSize;

void PutVarint(size_t value, std::string* out) {
  for (; value >= 0x80; value >>= 7) out->push_back(static_cast<char>(value | 0x80));
  out->push_back(static_cast<char>(value));
}

bool TakeVarint(absl::string_view* in, size_t* value) {
  *value = 0;
  for (int shift = 0; shift < 35 && !in->empty(); shift += 7) {
    const unsigned char byte = static_cast<unsigned char>(in->front());
    in->remove_prefix(1);
    *value |= static_cast<size_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

std::string Guard(absl::string_view payload) {
  return std::string(Digest::Of(payload).raw().substr(0, 8));
}

using Entries = std::vector<std::pair<std::string, Digest>>;

// False when the block is not what EncodeChecksumBlock writes; `out` may have gained entries.
bool DecodeBlock(absl::string_view payload, Entries* out) {
  std::string key;
  while (!payload.empty()) {
    size_t shared = 0, added = 0;
    if (!TakeVarint(&payload, &shared) || !TakeVarint(&payload, &added)) return false;
    if (shared > key.size() || payload.size() < Digest::kSize ||
        added > payload.size() - Digest::kSize)
      return false;
    key.resize(shared);
    key.append(payload.data(), added);
    payload.remove_prefix(added);
    const auto digest = Digest::FromRaw(payload.substr(0, Digest::kSize));
    payload.remove_prefix(Digest::kSize);
    out->emplace_back(key, *digest);
  }
  return true;
}

uint32_t TakeLength(absl::string_view head) {
  uint32_t length = 0;
  for (int i = 3; i >= 0; --i)
    length = (length << 8) | static_cast<unsigned char>(head[static_cast<size_t>(i)]);
  return length;
}

// Sorts by key; of equal keys the last one stays.
void SortAndUnite(Entries* entries) {
  std::stable_sort(entries->begin(), entries->end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  size_t kept = 0;
  for (size_t i = 0; i < entries->size(); ++i) {
    if (i + 1 < entries->size() && (*entries)[i].first == (*entries)[i + 1].first) continue;
    if (kept != i) (*entries)[kept] = std::move((*entries)[i]);
    ++kept;
  }
  entries->resize(kept);
}

}  // namespace

absl::string_view ChecksumFileMagic() { return kMagic; }

ChecksumFile DecodeChecksumFile(absl::string_view bytes) {
  ChecksumFile out;
  if (!absl::StartsWith(bytes, kMagic)) {
    out.damaged = true;
    return out;
  }
  bytes.remove_prefix(kMagic.size());
  while (!bytes.empty() && !out.damaged) {
    const uint32_t length = bytes.size() < kBlockHead ? 0 : TakeLength(bytes);
    if (bytes.size() < kBlockHead || length > bytes.size() - kBlockHead) {
      out.damaged = true;
      break;
    }
    const absl::string_view payload = bytes.substr(kBlockHead, length);
    const size_t before = out.entries.size();
    if (Guard(payload) != bytes.substr(4, 8) || !DecodeBlock(payload, &out.entries)) {
      out.entries.resize(before);
      out.damaged = true;
    }
    bytes.remove_prefix(kBlockHead + length);
  }
  SortAndUnite(&out.entries);
  return out;
}

std::string EncodeChecksumBlock(absl::Span<const std::pair<std::string, Digest>> entries) {
  std::string payload;
  absl::string_view previous;
  for (const auto& [key, digest] : entries) {
    const size_t limit = std::min(previous.size(), key.size());
    const size_t shared = static_cast<size_t>(
        std::mismatch(previous.begin(), previous.begin() + limit, key.begin()).first -
        previous.begin());
    PutVarint(shared, &payload);
    PutVarint(key.size() - shared, &payload);
    payload.append(key, shared, std::string::npos);
    absl::StrAppend(&payload, digest.raw());
    previous = key;
  }
  std::string head;
  for (int i = 0; i < 4; ++i) head.push_back(static_cast<char>(payload.size() >> (8 * i)));
  return absl::StrCat(head, Guard(payload), payload);
}

std::string ChecksumTable::FileKey(absl::string_view path) { return absl::StrCat("f", path); }

std::string ChecksumTable::DirKey(absl::string_view path, uint64_t stack_id) {
  // No path contains a NUL byte, so the keys of one directory lie together.
  return absl::StrCat("d", path, absl::string_view("\0", 1), absl::Hex(stack_id, absl::kZeroPad16));
}

size_t ChecksumTable::Sorted::LowerBound(absl::string_view wanted) const {
  size_t low = 0, high = size();
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (key(middle) < wanted)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

void ChecksumTable::Sorted::Add(absl::string_view key, const Digest& digest) {
  keys.append(key.data(), key.size());
  offsets.push_back(static_cast<uint32_t>(keys.size()));
  digests.push_back(digest);
}

ChecksumTable::ChecksumTable(Place place, bool is_new) : place_(std::move(place)) {
  if (is_new) return;
  MutexLock lock(&mu_);
  if (place_.database != nullptr) {
    const auto row = place_.database->Get(Family::kChecksums, place_.row);
    has_row_ = row.ok() && row->has_value();
    if (has_row_) {
      Load(**row);
      return;
    }
  }
  const auto bytes = ReadFileToString(place_.file, kMaxFileSize);
  has_file_ = !absl::IsNotFound(bytes.status());
  if (bytes.ok()) Load(*bytes);  // unreadable: everything is made anew
}

void ChecksumTable::Load(absl::string_view bytes) {
  const ChecksumFile content = DecodeChecksumFile(bytes);
  for (const auto& [key, digest] : content.entries) sorted_.Add(key, digest);
  rewrite_ = content.damaged;
  in_file_ = sorted_.size();
}

std::optional<Digest> ChecksumTable::FindLocked(absl::string_view key) const {
  const auto recent = recent_.find(key);
  if (recent != recent_.end()) return recent->second;
  const size_t i = sorted_.LowerBound(key);
  if (i < sorted_.size() && sorted_.key(i) == key) return sorted_.digests[i];
  return std::nullopt;
}

std::optional<Digest> ChecksumTable::Find(absl::string_view key) const {
  MutexLock lock(&mu_);
  return FindLocked(key);
}

void ChecksumTable::Set(absl::string_view key, const Digest& digest) {
  MutexLock lock(&mu_);
  DropAnswers();
  recent_[std::string(key)] = digest;
}

void ChecksumTable::EraseKey(const std::string& key) {
  const size_t i = sorted_.LowerBound(key);
  if (i < sorted_.size() && sorted_.key(i) == key) {
    recent_[key] = std::nullopt;
    rewrite_ = true;
  } else {
    recent_.erase(key);
  }
}

void ChecksumTable::ErasePrefix(const std::string& prefix) {
  auto it = recent_.lower_bound(prefix);
  while (it != recent_.end() && absl::StartsWith(it->first, prefix)) it = recent_.erase(it);
  for (size_t i = sorted_.LowerBound(prefix);
       i < sorted_.size() && absl::StartsWith(sorted_.key(i), prefix); ++i) {
    recent_[std::string(sorted_.key(i))] = std::nullopt;
    rewrite_ = true;
  }
}

void ChecksumTable::ForgetDirsAbove(absl::string_view path) {
  for (;;) {
    ErasePrefix(absl::StrCat("d", path, absl::string_view("\0", 1)));
    if (path == "/") return;
    path = path.substr(0, std::max<size_t>(path.rfind('/'), 1));
  }
}

void ChecksumTable::Forget(absl::string_view path) {
  MutexLock lock(&mu_);
  DropAnswers();
  EraseKey(FileKey(path));
  ForgetDirsAbove(path);
}

void ChecksumTable::ForgetBelow(absl::string_view path) {
  MutexLock lock(&mu_);
  DropAnswers();
  const std::string below = path == "/" ? "/" : absl::StrCat(path, "/");
  ErasePrefix(absl::StrCat("f", below));
  ErasePrefix(absl::StrCat("d", below));
  EraseKey(FileKey(path));
  ForgetDirsAbove(path);
}

void ChecksumTable::Clear() {
  MutexLock lock(&mu_);
  DropAnswers();
  sorted_ = Sorted();
  recent_.clear();
  rewrite_ = true;
}

absl::StatusOr<Digest> ChecksumTable::GetOrMake(
    const std::string& key, const CancelToken& cancel,
    const std::function<absl::StatusOr<Digest>()>& make) {
  {
    CancelRegistration wake;
    bool registered = false;
    for (;;) {
      {
        MutexLock lock(&mu_);
        if (const auto known = FindLocked(key)) return *known;
        if (cancel.Cancelled()) return cancel.status();
        if (being_made_.insert(key).second) break;
        if (registered) {
          made_.Wait(&mu_);
          continue;
        }
      }
      // Registering calls back at once when already cancelled: not under the lock.
      wake = cancel.OnCancel([this] {
        MutexLock lock(&mu_);
        made_.SignalAll();
      });
      registered = true;
    }
  }
  absl::StatusOr<Digest> digest = make();
  MutexLock lock(&mu_);
  being_made_.erase(key);
  if (digest.ok()) recent_[key] = *digest;
  made_.SignalAll();
  return digest;
}

std::optional<Digest> ChecksumTable::Answer(absl::string_view request) const {
  MutexLock lock(&answers_mu_);
  const auto found = answers_.find(request);
  return found == answers_.end() ? std::nullopt : std::make_optional(found->second);
}

void ChecksumTable::KeepAnswer(absl::string_view request, const Digest& digest) {
  constexpr size_t kMaxAnswers = 4096;
  MutexLock lock(&answers_mu_);
  if (answers_.size() >= kMaxAnswers) answers_.clear();
  answers_.insert_or_assign(std::string(request), digest);
}

void ChecksumTable::DropAnswers() {
  MutexLock lock(&answers_mu_);
  answers_.clear();
}

void ChecksumTable::MergeLocked() {
  Sorted merged;
  merged.keys.reserve(sorted_.keys.size());
  merged.offsets.reserve(sorted_.offsets.size() + recent_.size());
  merged.digests.reserve(sorted_.digests.size() + recent_.size());
  size_t i = 0;
  for (const auto& [key, digest] : recent_) {
    for (; i < sorted_.size() && sorted_.key(i) < key; ++i)
      merged.Add(sorted_.key(i), sorted_.digests[i]);
    if (i < sorted_.size() && sorted_.key(i) == key) ++i;
    if (digest.has_value()) merged.Add(key, *digest);
  }
  for (; i < sorted_.size(); ++i) merged.Add(sorted_.key(i), sorted_.digests[i]);
  sorted_ = std::move(merged);
  recent_.clear();
}

absl::Status ChecksumTable::Save() {
  Batch batch;
  KILN_RETURN_IF_ERROR(SaveWith(&batch));
  return batch.empty() ? absl::OkStatus() : place_.database->Write(batch);
}

absl::Status ChecksumTable::SaveWith(Batch* batch) {
  MutexLock lock(&mu_);
  return SaveLocked(batch);
}

absl::Status ChecksumTable::SaveLocked(Batch* batch) {
  if (recent_.empty() && (!rewrite_ || sorted_.size() == 0)) return absl::OkStatus();
  if (PutRow(batch)) return absl::OkStatus();
  KILN_RETURN_IF_ERROR(SaveFile());
  // A kill in between leaves an older row, which knows less.
  if (has_row_) batch->Delete(Family::kChecksums, place_.row);
  has_row_ = false;
  return absl::OkStatus();
}

bool ChecksumTable::PutRow(Batch* batch) {
  if (place_.database == nullptr || has_file_ || sorted_.size() + recent_.size() > kMaxRowEntries)
    return false;
  MergeLocked();
  const std::string block = EncodeChecksumBlock(EntriesLocked());
  if (block.size() > kMaxRowSize) return false;
  batch->Put(Family::kChecksums, place_.row, absl::StrCat(kMagic, block));
  has_row_ = true;
  rewrite_ = false;
  return true;
}

std::vector<std::pair<std::string, Digest>> ChecksumTable::EntriesLocked() const {
  Entries entries;
  entries.reserve(sorted_.size());
  for (size_t i = 0; i < sorted_.size(); ++i)
    entries.emplace_back(std::string(sorted_.key(i)), sorted_.digests[i]);
  return entries;
}

absl::Status ChecksumTable::SaveFile() {
  // Rewriting when half of the file is appended keeps the cost of all saves linear.
  const bool rewrite = rewrite_ || !has_file_ || appended_ + recent_.size() > in_file_ / 2 + 64;
  Entries entries;
  if (rewrite) {
    MergeLocked();
    entries = EntriesLocked();
  } else {
    for (const auto& [key, digest] : recent_) {
      if (digest.has_value()) entries.emplace_back(key, *digest);
    }
    MergeLocked();
  }
  const std::string block = EncodeChecksumBlock(entries);
  if (!rewrite) {
    KILN_ASSIGN_OR_RETURN(const Fd fd, OpenFile(place_.file, O_WRONLY | O_APPEND));
    appended_ += entries.size();
    return Annotate(WriteAll(fd.get(), block), place_.file);
  }
  const std::string temporary = absl::StrCat(place_.file, ".tmp");
  KILN_ASSIGN_OR_RETURN(Fd fd, OpenFile(temporary, O_WRONLY | O_CREAT | O_TRUNC));
  absl::Status written = WriteAll(fd.get(), absl::StrCat(kMagic, block));
  if (written.ok() && ::rename(temporary.c_str(), place_.file.c_str()) != 0)
    written = ErrnoStatus(errno, "rename");
  if (!written.ok()) {
    ::unlink(temporary.c_str());  // best effort: the error above is what matters
    return Annotate(written, place_.file);
  }
  has_file_ = true;
  rewrite_ = false;
  in_file_ = entries.size();
  appended_ = 0;
  return absl::OkStatus();
}

absl::Status ChecksumTable::RemoveKept() {
  MutexLock lock(&mu_);
  DropAnswers();
  rewrite_ = true;
  if (::unlink(place_.file.c_str()) != 0 && errno != ENOENT)
    return ErrnoStatus(errno, absl::StrCat("remove ", place_.file));
  has_file_ = false;
  if (!has_row_) return absl::OkStatus();
  Batch batch;
  batch.Delete(Family::kChecksums, place_.row);
  KILN_RETURN_IF_ERROR(place_.database->Write(batch));
  has_row_ = false;
  return absl::OkStatus();
}

size_t ChecksumTable::size() const {
  MutexLock lock(&mu_);
  MutexLock answers_lock(&answers_mu_);
  return sorted_.size() + recent_.size() + answers_.size();
}

}  // namespace kiln::store
