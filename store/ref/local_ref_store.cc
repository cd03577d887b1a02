// Making, writing and mounting trees.
#include "store/ref/local_ref_store.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "spdlog/spdlog.h"
#include "store/base/check.h"
#include "store/base/status_macros.h"
#include "store/ref/node.h"

namespace kiln::store {

using internal::RecordKey;
using internal::SnapshotKey;

// --- Mutable refs

LocalMutableRef::~LocalMutableRef() {
  writer_.reset();
  if (dead_) return;
  if (recorder_ != nullptr && retain_) {
    if (mounted_) recorder_->Invalidate();
    recorder_->Commit().IgnoreError();  // what is not saved is computed again
  }
  store_->ReleaseMutable(node_, retain_);
}

absl::StatusOr<Layers> LocalMutableRef::layers() const {
  Layers layers = lower_;
  layers.push_back(upper_dir_);
  return layers;
}

absl::Status LocalMutableRef::StartRecording(ChecksumStore::LayerState state) {
  KILN_ASSIGN_OR_RETURN(recorder_, store_->checksums_.Record(upper_dir_, state));
  return absl::OkStatus();
}

TreeWriter& LocalMutableRef::writer() {
  KILN_CHECK(!dead_);
  if (writer_ == nullptr) {
    // Fails only where an old checksum file cannot be removed, and a new folder has none.
    if (recorder_ == nullptr) StartRecording(ChecksumStore::LayerState::kNew).IgnoreError();
    writer_ = NewTreeWriter(lower_, upper_dir_, store_->driver().stacks(), recorder_.get());
  }
  return *writer_;
}

void LocalMutableRef::UseSynchronizedRoot() {
  if (recorder_ == nullptr)  // as in writer()
    StartRecording(ChecksumStore::LayerState::kNew).IgnoreError();
  if (recorder_ != nullptr) recorder_->UseSynchronizedRoot();
}

absl::StatusOr<RefPtr> LocalMutableRef::Commit() {
  KILN_CHECK(!dead_);
  writer_.reset();
  Batch batch;
  if (recorder_ != nullptr) {
    if (mounted_) recorder_->Invalidate();
    KILN_RETURN_IF_ERROR(recorder_->CommitWith(&batch));
  }
  absl::StatusOr<RefPtr> ref = store_->CommitNode(node_, retain_, &batch);
  // After an error the destructor gets rid of the files.
  if (ref.ok()) dead_ = true;
  return ref;
}

std::unique_ptr<LocalMutableRef> LocalRefStore::OpenMutable(const NodePtr& node, RefPtr parent) {
  Layers lower;
  RecordPtr record;
  {
    MutexLock lock(&mu_);
    record = node->record;
  }
  // `layers` of a mutable ends with its own folder.
  if (driver_->stacks()) {
    lower = DirsOf(record->layers);
    lower.pop_back();
  }
  return std::make_unique<LocalMutableRef>(this, node, std::move(parent), std::move(lower),
                                           driver_->FilesDir(record->snapshot), record->retained);
}

absl::StatusOr<std::unique_ptr<MutableRef>> LocalRefStore::New(RefPtr parent,
                                                               const RefOptions& options) {
  RefRecord record;
  Layers below;
  if (parent != nullptr) {
    KILN_ASSIGN_OR_RETURN(const NodePtr node, NodeOf(parent));
    KILN_RETURN_IF_ERROR(Materialize(node, CancelToken()).status());
    KILN_RETURN_IF_ERROR(Finalize(node));
    if (driver_->stacks()) KILN_RETURN_IF_ERROR(Flatten(node, CancelToken()));
    RecordPtr of_parent;
    {
      MutexLock lock(&mu_);
      of_parent = node->record;
    }
    record.parents = {parent->id()};
    if (driver_->stacks()) record.layers = of_parent->layers;
    record.changes_form = of_parent->changes_form == RefRecord::Changes::kLayers
                              ? RefRecord::Changes::kLayers
                              : RefRecord::Changes::kParentAndOwn;
    below = DirsOf(of_parent->layers);
    // An empty merge or diff has no directory to copy from or stack upon.
  } else if (driver_->stacks()) {
    record.changes_form = RefRecord::Changes::kLayers;
  }
  if (!driver_->stacks()) record.changes_form = RefRecord::Changes::kParentAndOwn;
  record.is_mutable = true;
  record.retained = options.retain;
  record.ready = true;
  record.description = options.description;
  record.record_type = options.record_type;
  record.created_at = absl::Now();
  if (!options.index_key.empty()) record.index_keys = {options.index_key};

  KILN_ASSIGN_OR_RETURN(record.snapshot, CreateSnapshot(below));
  record.layers.push_back(record.snapshot);
  NodePtr node = std::make_shared<Node>(internal::NewId());
  node->writer = true;
  node->used = true;
  const uint64_t number = record.snapshot;
  if (options.retain) {
    if (absl::Status status = Enter(node, std::move(record)); !status.ok()) {
      RemoveFolder(number);
      return status;
    }
  } else {
    node->record = std::make_shared<const RefRecord>(std::move(record));
    MutexLock lock(&mu_);
    nodes_.emplace(node->id, node);
  }
  return OpenMutable(node, std::move(parent));
}

absl::StatusOr<std::unique_ptr<MutableRef>> LocalRefStore::Reopen(absl::string_view id) {
  return ReopenPair(id, /*own_holds=*/0);
}

absl::StatusOr<std::unique_ptr<MutableRef>> LocalRefStore::Rewrite(const RefPtr& held) {
  KILN_ASSIGN_OR_RETURN(const NodePtr node, NodeOf(held));
  std::string id;
  {
    MutexLock lock(&mu_);
    while (node->busy) changed_.Wait(&mu_);
    id = node->record->twin;
  }
  if (id.empty())
    return absl::NotFoundError(absl::StrCat("ref ", node->id, " has no mutable half"));
  return ReopenPair(id, /*own_holds=*/1);
}

absl::StatusOr<RefPtr> LocalRefStore::HoldIdle(absl::string_view id) {
  MutexLock lock(&mu_);
  KILN_ASSIGN_OR_RETURN(const Pair pair, LoadPairLocked(id, /*own_holds=*/0));
  if (pair.immutable == nullptr)
    return absl::NotFoundError(absl::StrCat("mutable ref ", id, " has no immutable half"));
  pair.mutable_half->used = true;
  used_.push_back(pair.mutable_half);
  SettleLater();
  return HandleLocked(pair.immutable);
}

absl::StatusOr<std::unique_ptr<MutableRef>> LocalRefStore::ReopenPair(absl::string_view id,
                                                                      int own_holds) {
  NodePtr node, twin;
  RefRecord record;
  {
    MutexLock lock(&mu_);
    KILN_ASSIGN_OR_RETURN(Pair pair, LoadPairLocked(id, own_holds));
    node = std::move(pair.mutable_half);
    twin = std::move(pair.immutable);
    node->writer = true;
    node->used = true;
    node->busy = true;
    if (twin != nullptr) twin->busy = true;
    record = *node->record;
  }
  // The immutable half vanishes: what it showed is about to change. Nothing was made from it, else
  // it would own the files (Finalize).
  absl::Status status;
  Batch batch;
  if (twin != nullptr) EraseRecord(batch, twin->id, *twin->record);
  record.twin.clear();
  record.size_bytes = -1;
  batch.Put(Family::kRefs, RecordKey(node->id), internal::EncodeRecord(record));
  status = database_.Write(batch);
  {
    MutexLock lock(&mu_);
    node->busy = false;
    if (twin != nullptr) twin->busy = false;
    if (status.ok()) {
      NoteSizeChange(node->id, *node->record, record);
      node->record = std::make_shared<const RefRecord>(record);
      if (twin != nullptr) {
        twin->gone = true;
        nodes_.erase(twin->id);
      }
    } else {
      node->writer = false;
    }
    changed_.SignalAll();
  }
  KILN_RETURN_IF_ERROR(Annotate(status, absl::StrCat("reopen ref ", id)));
  if (twin != nullptr && on_removed_) on_removed_(twin->id);
  RefPtr parent;
  if (!record.parents.empty()) {
    absl::StatusOr<RefPtr> got = Get(record.parents.front());
    if (!got.ok()) {
      ReleaseMutable(node, true);
      return got.status();
    }
    parent = *std::move(got);
  }
  std::unique_ptr<LocalMutableRef> tree = OpenMutable(node, std::move(parent));
  KILN_RETURN_IF_ERROR(tree->StartRecording(ChecksumStore::LayerState::kKnown));
  return tree;
}

absl::StatusOr<RefPtr> LocalRefStore::CommitNode(const NodePtr& node, bool retain, Batch* batch) {
  RefRecord record;
  bool persisted;
  {
    MutexLock lock(&mu_);
    if (node->mount.lock() != nullptr)
      return absl::FailedPreconditionError(
          absl::StrCat("ref ", node->id, " is still mounted; unmount it before the commit"));
    record = *node->record;
    persisted = node->persisted;
  }
  if (retain || persisted) return CommitPair(node, batch);
  record.is_mutable = false;
  record.retained = false;
  PutRecord(*batch, node->id, record);
  KILN_RETURN_IF_ERROR(
      Annotate(database_.Write(*batch), absl::StrCat("commit ref ", record.description)));
  auto committed = std::make_shared<const RefRecord>(std::move(record));
  MutexLock lock(&mu_);
  node->record = std::move(committed);
  node->persisted = true;
  node->writer = false;
  unsized_.insert(node->id);
  return HandleLocked(node);
}

// The mutable stays, to be reopened later; the immutable is a record of its own on the same files.
absl::StatusOr<RefPtr> LocalRefStore::CommitPair(const NodePtr& node, Batch* batch) {
  NodePtr twin = std::make_shared<Node>(internal::NewId());
  RefRecord record, of_twin;
  {
    MutexLock lock(&mu_);
    while (node->busy) changed_.Wait(&mu_);
    node->busy = true;
    record = *node->record;
  }
  record.retained = true;
  record.twin = twin->id;
  record.size_bytes = -1;
  of_twin = record;
  of_twin.is_mutable = false;
  of_twin.index_keys.clear();  // a search is for the mutable
  of_twin.values.clear();
  of_twin.twin = node->id;
  of_twin.created_at = absl::Now();
  PutRecord(*batch, node->id, record);
  PutRecord(*batch, twin->id, of_twin);
  twin->record = std::make_shared<const RefRecord>(std::move(of_twin));
  twin->persisted = true;
  twin->busy = true;
  {
    // In the table before its row can be seen, as in Enter.
    MutexLock lock(&mu_);
    nodes_.emplace(twin->id, twin);
  }
  const absl::Status status = database_.Write(*batch);
  MutexLock lock(&mu_);
  node->busy = false;
  twin->busy = false;
  changed_.SignalAll();
  if (!status.ok()) {
    twin->gone = true;
    nodes_.erase(twin->id);
    return Annotate(status, absl::StrCat("commit ref ", record.description));
  }
  node->record = std::make_shared<const RefRecord>(std::move(record));
  node->persisted = true;
  node->writer = false;
  unsized_.insert(node->id);
  used_.push_back(node);
  SettleLater();
  return HandleLocked(twin);
}

absl::Status LocalRefStore::Finalize(const NodePtr& node) {
  NodePtr twin;
  RefRecord record;
  {
    MutexLock lock(&mu_);
    for (;;) {
      while (node->busy) changed_.Wait(&mu_);
      if (node->record->twin.empty()) return absl::OkStatus();
      KILN_ASSIGN_OR_RETURN(twin, LoadTwinLocked(*node));
      if (!node->busy && (twin == nullptr || (!twin->gone && node->record->twin == twin->id)))
        break;
    }
    node->busy = true;
    if (twin != nullptr) twin->busy = true;
    record = *node->record;
  }
  Batch batch;
  if (twin != nullptr) EraseRecord(batch, twin->id, *twin->record);
  record.twin.clear();
  if (twin != nullptr) record.size_bytes = twin->record->size_bytes;  // of the same files
  batch.Put(Family::kRefs, RecordKey(node->id), internal::EncodeRecord(record));
  batch.Put(Family::kRefs, SnapshotKey(record.snapshot), node->id);
  const bool record_is_unsized = record.size_bytes < 0;
  const absl::Status status = database_.Write(batch);
  MutexLock lock(&mu_);
  node->busy = false;
  if (twin != nullptr) twin->busy = false;
  changed_.SignalAll();
  KILN_RETURN_IF_ERROR(Annotate(status, absl::StrCat("finalize ref ", node->id)));
  node->record = std::make_shared<const RefRecord>(std::move(record));
  if (record_is_unsized) unsized_.insert(node->id);
  if (twin != nullptr) {
    twin->gone = true;
    nodes_.erase(twin->id);
  }
  return absl::OkStatus();
}

// --- Mounts

LocalRefStore::SharedMount::~SharedMount() {
  if (absl::Status status = Close(); !status.ok())
    spdlog::warn("unmount a tree: {}", status.ToString());
}

absl::Status LocalRefStore::SharedMount::Close() {
  KILN_RETURN_IF_ERROR(tree_.mount.Close());
  if (::rmdir(target_.c_str()) != 0 && errno != ENOENT)
    return ErrnoStatus(errno, absl::StrCat("remove ", target_));
  return absl::OkStatus();
}

LocalRefStore::Mounted::~Mounted() {
  if (absl::Status status = Close(); !status.ok())
    spdlog::warn("unmount a tree: {}", status.ToString());
}

absl::Status LocalRefStore::Mounted::Close() {
  if (mount_ == nullptr) return absl::OkStatus();
  absl::Status status;
  if (node_ == nullptr) {
    status = mount_->Close();
    mount_.reset();
  } else {
    status = store_->Unmount(node_, std::move(mount_));
  }
  hold_.reset();
  return status;
}

// The last user unmounts. Nobody can mount anew meanwhile: overlayfs would find the work directory
// in use.
absl::Status LocalRefStore::Unmount(const NodePtr& node, std::shared_ptr<SharedMount> mount) {
  {
    MutexLock lock(&mu_);
    while (node->making) changed_.Wait(&mu_);
    if (mount.use_count() > 1) {
      mount.reset();
      return absl::OkStatus();
    }
    node->making = true;
  }
  const absl::Status status = mount->Close();
  mount.reset();  // detaches what was busy
  EndMaking(node);
  return status;
}

absl::StatusOr<std::string> LocalRefStore::MountPoint() {
  std::string path = absl::StrCat(mounts_dir_, "/", next_mount_++);
  if (::mkdir(path.c_str(), 0755) != 0) return ErrnoStatus(errno, absl::StrCat("create ", path));
  return path;
}

absl::StatusOr<std::unique_ptr<MountedTree>> LocalRefStore::Mount(const RefPtr& ref) {
  Layers layers;
  if (ref != nullptr) {
    KILN_ASSIGN_OR_RETURN(layers, ref->Materialize(CancelToken()));
  }
  KILN_ASSIGN_OR_RETURN(const std::string target, MountPoint());
  absl::StatusOr<TreeMount> tree = driver_->MountReadOnly(layers, target);
  if (!tree.ok()) {
    ::rmdir(target.c_str());
    return Annotate(tree.status(), absl::StrCat("mount ref ", ref == nullptr ? "" : ref->id()));
  }
  return std::make_unique<Mounted>(this, nullptr,
                                   std::make_shared<SharedMount>(*std::move(tree), target), ref);
}

absl::StatusOr<std::unique_ptr<MountedTree>> LocalRefStore::Mount(MutableRef& ref) {
  auto* local = dynamic_cast<LocalMutableRef*>(&ref);
  if (local == nullptr || local->store() != this || local->dead())
    return absl::InvalidArgumentError(absl::StrCat("ref ", ref.id(), " cannot be mounted here"));
  local->MountedForWriting();
  const NodePtr& node = local->node();
  uint64_t number;
  {
    // Two overlay mounts with one upper directory are undefined (overlayfs.rst): users share one.
    MutexLock lock(&mu_);
    while (node->making) changed_.Wait(&mu_);
    if (std::shared_ptr<SharedMount> mount = node->mount.lock())
      return std::make_unique<Mounted>(this, node, std::move(mount), nullptr);
    node->making = true;
    number = node->record->snapshot;
  }
  std::shared_ptr<SharedMount> mount;
  absl::Status status = [&]() -> absl::Status {
    KILN_ASSIGN_OR_RETURN(const std::string target, MountPoint());
    absl::StatusOr<TreeMount> tree = driver_->MountWritable(local->lower(), number, target);
    if (!tree.ok()) {
      ::rmdir(target.c_str());
      return Annotate(tree.status(), absl::StrCat("mount ref ", ref.id()));
    }
    mount = std::make_shared<SharedMount>(*std::move(tree), target);
    return absl::OkStatus();
  }();
  {
    MutexLock lock(&mu_);
    node->making = false;
    node->mount = mount;
    changed_.SignalAll();
  }
  KILN_RETURN_IF_ERROR(status);
  return std::make_unique<Mounted>(this, node, std::move(mount), nullptr);
}

}  // namespace kiln::store
