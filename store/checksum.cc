#include "store/checksum.h"

#include <fcntl.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "store/base/status_macros.h"
#include "store/checksum_run.h"
#include "store/database.h"
#include "store/file_digest.h"

namespace kiln::store {

namespace {

absl::Status NotFound(absl::string_view path) {
  return absl::NotFoundError(absl::StrCat("\"", path, "\": not found"));
}

// Folder and name of a layer ("/7/fs"): the store may move as a whole.
absl::string_view LocalName(absl::string_view layer_dir) {
  size_t from = layer_dir.rfind('/');
  if (from != layer_dir.npos && from > 0) from = layer_dir.rfind('/', from - 1);
  return layer_dir.substr(from == layer_dir.npos ? 0 : from);
}

constexpr uint64_t kNoLayers = 0xcbf29ce484222325;

// Names a stack of layers. FNV-1a; a collision would need two stacks below one and the same layer.
void MixIn(absl::string_view layer_dir, uint64_t* id) {
  for (const char c : LocalName(layer_dir))
    *id = (*id ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  *id = (*id ^ 0x100) * 0x100000001b3;
}

// Names a request on a tree. Equal to another one's only if the answers are equal.
std::string RequestName(const Layers& layers, absl::string_view path,
                        const ChecksumOptions& options) {
  uint64_t stack = kNoLayers;
  for (const std::string& layer : layers) MixIn(layer, &stack);
  std::string name = absl::StrCat(absl::Hex(stack), options.follow ? "f" : "-",
                                  options.wildcard ? "w" : "-", path.size(), ":", path);
  for (const auto* list :
       {&options.include_patterns, &options.exclude_patterns, &options.required_paths}) {
    absl::StrAppend(&name, list->size(), ";");
    for (const std::string& item : *list) absl::StrAppend(&name, item.size(), ":", item);
  }
  return name;
}

}  // namespace

ChecksumRun::ChecksumRun(ChecksumStore* store, const Layers& layers, const CancelToken& cancel)
    : store_(store), tree_(layers), cancel_(cancel), tables_(layers.size()) {
  uint64_t id = kNoLayers;
  for (const std::string& layer : layers) {
    MixIn(layer, &id);
    stack_ids_.push_back(id);
  }
}

ChecksumTable& ChecksumRun::Table(int layer) {
  auto& table = tables_[static_cast<size_t>(layer)];
  if (table == nullptr) table = store_->Table(tree_.layers()[static_cast<size_t>(layer)]);
  return *table;
}

void ChecksumRun::Save() {
  for (const auto& table : tables_) {
    // Not saved is not lost: what is missing is computed again. A full disk must not fail a build
    // that writes nothing.
    if (table != nullptr) table->Save().IgnoreError();
  }
}

absl::StatusOr<Digest> ChecksumRun::Path(absl::string_view path, bool follow) {
  const std::string clean = CleanPath(path);
  const auto resolved = tree_.Resolve(clean, follow);
  if (absl::IsNotFound(resolved.status())) return NotFound(clean);
  KILN_RETURN_IF_ERROR(resolved.status());
  const auto entry = tree_.Lstat(*resolved);
  if (absl::IsNotFound(entry.status())) return NotFound(clean);
  KILN_RETURN_IF_ERROR(entry.status());
  if (!S_ISDIR(entry->st.st_mode)) return Single(entry->layer, *resolved);
  KILN_ASSIGN_OR_RETURN(const DirView dir, tree_.OpenDir(*resolved));
  return Recursive(dir);
}

absl::StatusOr<Digest> ChecksumRun::Single(int layer, const std::string& path) {
  Entry entry;
  entry.layer = layer;
  const std::string host = tree_.HostPath(entry, path);
  return Table(layer).GetOrMake(ChecksumTable::FileKey(path), cancel_,
                                [&] { return Hash(host, path); });
}

absl::StatusOr<Digest> ChecksumRun::Hash(const std::string& host, const std::string& path) {
  // The tree walk reached `host` through real directories of the layer only.
  KILN_ASSIGN_OR_RETURN(const Fd handle, OpenFile(host, O_PATH | O_NOFOLLOW));
  DigestedMetadata metadata;
  if (::fstat(handle.get(), &metadata.st) != 0)
    return ErrnoStatus(errno, absl::StrCat("stat ", path));
  KILN_ASSIGN_OR_RETURN(metadata.xattrs, HostXattrs(host));
  if (S_ISLNK(metadata.st.st_mode)) {
    KILN_ASSIGN_OR_RETURN(metadata.link, ReadHostLink(host, metadata.st.st_size));
  }
  if (!S_ISREG(metadata.st.st_mode)) return DigestWithoutContent(metadata);
  store_->CountHashedFile();
  KILN_ASSIGN_OR_RETURN(const Fd fd, OpenFile(host, O_RDONLY | O_NOFOLLOW));
  return Annotate(DigestFile(metadata, fd.get(), cancel_), path);
}

absl::StatusOr<Digest> ChecksumRun::Recursive(const DirView& dir) {
  const int layer = dir.layers.front();
  const uint64_t stack = stack_ids_[static_cast<size_t>(layer)];
  return Table(layer).GetOrMake(ChecksumTable::DirKey(dir.path, stack), cancel_,
                                [&] { return HashDirectory(dir); });
}

absl::StatusOr<Digest> ChecksumRun::HashDirectory(const DirView& dir) {
  const absl::string_view separator("\0", 1);
  Sha256 hash;
  KILN_ASSIGN_OR_RETURN(const Digest header, Single(dir.layers.front(), dir.path));
  hash.Update(separator).Update(header.ToString());
  KILN_ASSIGN_OR_RETURN(const std::vector<NamedChild> children, tree_.Names(dir));
  for (const NamedChild& child : children) {
    Digest digest;
    if (S_ISDIR(child.type)) {
      KILN_ASSIGN_OR_RETURN(const DirView below, tree_.OpenChild(dir, child.name));
      KILN_ASSIGN_OR_RETURN(digest, Recursive(below));
    } else {
      const std::string path = absl::StrCat(dir.path == "/" ? "" : dir.path, "/", child.name);
      KILN_ASSIGN_OR_RETURN(digest, Single(child.layer, path));
    }
    hash.Update(separator).Update(child.name).Update(digest.ToString());
  }
  return hash.Finish();
}

void LayerRecorder::Recorded(absl::string_view path, const Digest& digest) {
  table_->Set(ChecksumTable::FileKey(path), digest);
}

void LayerRecorder::Changed(absl::string_view path) { table_->Forget(path); }

void LayerRecorder::Removed(absl::string_view path) { table_->ForgetBelow(path); }

std::optional<Digest> LayerRecorder::Known(const std::string& layer_dir, absl::string_view path) {
  return store_->Table(layer_dir)->Find(ChecksumTable::FileKey(path));
}

void LayerRecorder::UseSynchronizedRoot() {
  table_->Forget("/");
  table_->Set(ChecksumTable::FileKey("/"), Digest::Of(""));
}

void LayerRecorder::Invalidate() { table_->Clear(); }

absl::Status LayerRecorder::Commit() { return table_->Save(); }

absl::Status LayerRecorder::CommitWith(Batch* batch) { return table_->SaveWith(batch); }

ChecksumStore::ChecksumStore(size_t max_cached_digests, Database* database)
    : max_cached_(max_cached_digests), database_(database) {}
ChecksumStore::~ChecksumStore() = default;

std::string ChecksumStore::FileFor(absl::string_view layer_dir) {
  return absl::StrCat(layer_dir, ".sums");
}

absl::StatusOr<Digest> ChecksumStore::Checksum(const Layers& layers, absl::string_view path,
                                               const ChecksumOptions& options,
                                               const CancelToken& cancel) {
  if (layers.empty()) {
    const std::string clean = CleanPath(path);
    if (clean == "/") return Digest::Of("");
    return absl::NotFoundError(absl::StrCat(clean, ": no such file or directory"));
  }
  const std::string request = RequestName(layers, path, options);
  const std::shared_ptr<ChecksumTable> top = Table(layers.back());
  if (const auto known = top->Answer(request)) return *known;
  ChecksumRun run(this, layers, cancel);
  const bool plain =
      !options.wildcard && options.include_patterns.empty() && options.exclude_patterns.empty();
  absl::StatusOr<Digest> digest =
      plain ? run.Path(path, options.follow) : ChecksumOfSelection(run, path, options);
  run.Save();
  if (digest.ok()) top->KeepAnswer(request, *digest);
  return digest;
}

std::optional<Digest> ChecksumStore::Known(const Layers& layers, absl::string_view path,
                                           const ChecksumOptions& options) {
  if (layers.empty()) return std::nullopt;
  std::shared_ptr<ChecksumTable> top;
  {
    MutexLock lock(&mu_);
    const auto found = tables_.find(layers.back());
    if (found == tables_.end()) return std::nullopt;
    top = found->second.table;
  }
  return top->Answer(RequestName(layers, path, options));
}

absl::StatusOr<std::unique_ptr<LayerRecorder>> ChecksumStore::Record(const std::string& layer_dir,
                                                                     LayerState state) {
  std::shared_ptr<ChecksumTable> table;
  if (state == LayerState::kKnown) {
    table = Table(layer_dir);
    KILN_RETURN_IF_ERROR(table->RemoveKept());
  } else {
    ChecksumTable::Place place = PlaceOf(layer_dir);
    if (state == LayerState::kNewUnowned) place.database = nullptr;
    table = Enter(layer_dir, std::make_shared<ChecksumTable>(std::move(place), /*is_new=*/true));
  }
  return std::unique_ptr<LayerRecorder>(new LayerRecorder(this, std::move(table)));
}

std::shared_ptr<ChecksumTable> ChecksumStore::Table(const std::string& layer_dir) {
  {
    MutexLock lock(&mu_);
    const auto found = tables_.find(layer_dir);
    if (found != tables_.end()) {
      recently_used_.splice(recently_used_.begin(), recently_used_, found->second.place);
      return found->second.table;
    }
  }
  return Enter(layer_dir, std::make_shared<ChecksumTable>(PlaceOf(layer_dir)));
}

ChecksumTable::Place ChecksumStore::PlaceOf(const std::string& layer_dir) const {
  return {FileFor(layer_dir), database_, std::string(LocalName(layer_dir))};
}

void ChecksumStore::EraseRow(const std::string& layer_dir, Batch* batch) {
  batch->Delete(Family::kChecksums, LocalName(layer_dir));
}

std::shared_ptr<ChecksumTable> ChecksumStore::Enter(const std::string& layer_dir,
                                                    std::shared_ptr<ChecksumTable> table) {
  MutexLock lock(&mu_);
  const auto [entry, added] = tables_.try_emplace(layer_dir);
  if (!added) return entry->second.table;
  recently_used_.push_front(layer_dir);
  entry->second = {table, recently_used_.begin()};
  // Once for every so many new ones, so that a new one costs O(1) on average.
  if (++added_since_trim_ > tables_.size() / 4 + 16) Trim();
  return table;
}

void ChecksumStore::Trim() {
  added_since_trim_ = 0;
  size_t kept = 0;
  for (auto it = recently_used_.begin(); it != recently_used_.end();) {
    const auto found = tables_.find(*it);
    // An empty table still costs its object.
    const size_t weight = found->second.table->size() + 1;
    // In use: dropping it would save nothing and let a second copy appear.
    const bool in_use = found->second.table.use_count() > 1;
    if (kept + weight > max_cached_ && !in_use) {
      tables_.erase(found);
      it = recently_used_.erase(it);
    } else {
      kept += weight;
      ++it;
    }
  }
}

void ChecksumStore::Forget(const std::string& layer_dir) {
  MutexLock lock(&mu_);
  const auto found = tables_.find(layer_dir);
  if (found == tables_.end()) return;
  recently_used_.erase(found->second.place);
  tables_.erase(found);
}

}  // namespace kiln::store
