// Records whose files come from image layers when they are asked for.
#include <cerrno>
#include <cstdio>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "store/base/status_macros.h"
#include "store/ref/node.h"

namespace kiln::store {

using internal::RecordKey;
using internal::SnapshotKey;
using Changes = internal::RefRecord::Changes;
using Kind = internal::RefRecord::Kind;

namespace {

// This thread belongs to the pool that fills layers. It must not wait for what is queued there, so
// whatever it needs it brings itself.
thread_local bool on_fill_pool = false;

}  // namespace

absl::StatusOr<RefPtr> LocalRefStore::NewLayer(
    const RefPtr& parent, const RefOptions& options, const std::string& chain,
    const std::function<void(uint64_t snapshot, uint64_t base, Batch& batch)>& rows) {
  RefRecord record;
  uint64_t base = 0;
  record.changes_form = driver_->stacks() ? Changes::kLayers : Changes::kParentAndOwn;
  if (parent != nullptr) {
    KILN_ASSIGN_OR_RETURN(const NodePtr node, NodeOf(parent));
    KILN_RETURN_IF_ERROR(Finalize(node));
    KILN_ASSIGN_OR_RETURN(RecordPtr of_parent, Peek(node->id));
    if (of_parent->kind != Kind::kLayer ||
        (driver_->stacks() && of_parent->layers.size() >= max_layers_)) {
      KILN_RETURN_IF_ERROR(Materialize(node, CancelToken()).status());
      if (driver_->stacks()) KILN_RETURN_IF_ERROR(Flatten(node, CancelToken()));
      KILN_ASSIGN_OR_RETURN(of_parent, Peek(node->id));
    }
    record.parents = {node->id};
    if (driver_->stacks()) {
      record.layers = of_parent->layers;
      if (of_parent->changes_form != Changes::kLayers) record.changes_form = Changes::kParentAndOwn;
    } else if (!of_parent->layers.empty()) {
      base = of_parent->layers.front();
    }
  }
  KILN_ASSIGN_OR_RETURN(record.snapshot, NextNumber());
  record.layers.push_back(record.snapshot);
  record.retained = options.retain;
  record.description = options.description;
  record.record_type = options.record_type;
  record.created_at = absl::Now();
  if (!options.index_key.empty()) record.index_keys.push_back(options.index_key);
  record.index_keys.push_back(chain);
  record.values[kChainValue] = chain;
  NodePtr node = std::make_shared<Node>(internal::NewId());
  node->holds = 1;  // against a removal before the handle exists
  const uint64_t number = record.snapshot;
  KILN_RETURN_IF_ERROR(
      Enter(node, std::move(record), [&](Batch& batch) { rows(number, base, batch); }));
  MutexLock lock(&mu_);
  RefPtr ref = HandleLocked(node);
  --node->holds;
  return ref;
}

absl::StatusOr<RefPtr> LocalRefStore::OwnerOf(uint64_t snapshot) {
  KILN_ASSIGN_OR_RETURN(const auto id, database_.Get(Family::kRefs, SnapshotKey(snapshot)));
  if (!id.has_value())
    return absl::NotFoundError(absl::StrCat("snapshot ", snapshot, " has no record"));
  return Get(*id);
}

absl::StatusOr<bool> LocalRefStore::IsLazy(uint64_t snapshot) {
  KILN_ASSIGN_OR_RETURN(const RefPtr owner, OwnerOf(snapshot));
  KILN_ASSIGN_OR_RETURN(const RecordPtr record, Peek(owner->id()));
  return record->lazy();
}

absl::Status LocalRefStore::FillLayers(absl::Span<const LayerChange> changes,
                                       const CancelToken& cancel) {
  std::vector<std::pair<NodePtr, RefPtr>> lazy;
  for (const LayerChange& change : changes) {
    for (const uint64_t number : {change.base, change.snapshot}) {
      if (number == 0) continue;
      absl::StatusOr<RefPtr> owner = OwnerOf(number);
      // The mutable half of a pair: its files are there.
      if (absl::IsFailedPrecondition(owner.status())) continue;
      KILN_RETURN_IF_ERROR(owner.status());
      KILN_ASSIGN_OR_RETURN(NodePtr node, NodeOf(*owner));
      MutexLock lock(&mu_);
      if (node->record->lazy()) lazy.emplace_back(std::move(node), *std::move(owner));
    }
  }
  // Under native each tree is made from the one below.
  if (lazy.size() < 2 || on_fill_pool || !driver_->stacks()) {
    for (const auto& [node, hold] : lazy) KILN_RETURN_IF_ERROR(FillLayer(node, cancel));
    return absl::OkStatus();
  }

  // The first failure ends the others.
  CancelSource stop;
  const CancelRegistration passed_on =
      cancel.OnCancel([&stop, &cancel] { stop.Cancel(cancel.status()); });
  Mutex mu;
  CondVar changed;
  size_t left = lazy.size();
  absl::Status first;
  for (const auto& item : lazy) {
    fill_pool_.Post([&, node = item.first] {
      on_fill_pool = true;
      const absl::Status filled = FillLayer(node, stop.token());
      MutexLock lock(&mu);
      if (first.ok() && !filled.ok()) {
        first = filled;
        stop.Cancel(filled);
      }
      --left;
      changed.SignalAll();
    });
  }
  MutexLock lock(&mu);
  while (left > 0) changed.Wait(&mu);
  return first;
}

absl::Status LocalRefStore::FillLayer(const NodePtr& node, const CancelToken& cancel) {
  KILN_ASSIGN_OR_RETURN(const bool ours, BeginMaking(node, cancel, [](const RefRecord& record) {
                          return record.ready;
                        }));
  if (!ours) return absl::OkStatus();
  absl::Status status = [&]() -> absl::Status {
    KILN_RETURN_IF_ERROR(cancel.status());
    KILN_ASSIGN_OR_RETURN(const RecordPtr record, Peek(node->id));
    Layers below;
    if (!driver_->stacks() && !record->parents.empty()) {
      KILN_ASSIGN_OR_RETURN(const RefPtr parent, Get(record->parents.front()));
      KILN_ASSIGN_OR_RETURN(below, parent->Materialize(cancel));
    }
    // Under another number first: a half-filled folder must never have the layer's.
    KILN_ASSIGN_OR_RETURN(const uint64_t made, CreateSnapshot(below));
    absl::Status filled = FillSnapshot(*record, made, cancel);
    if (!filled.ok()) {
      RemoveFolder(made);
      return filled;
    }
    return Update(node, [&](RefRecord& edited, Batch& batch) {
      edited.ready = true;
      edited.size_bytes = -1;
      batch.MarkUnsettled(Family::kRefs, RecordKey(node->id));
    });
  }();
  EndMaking(node);
  return Annotate(status, absl::StrCat("unpack layer of ref ", node->id));
}

absl::Status LocalRefStore::FillSnapshot(const RefRecord& record, uint64_t made,
                                         const CancelToken& cancel) {
  LayerBacking* const backing = backing_;
  if (backing == nullptr)
    return absl::FailedPreconditionError("image layers cannot be fetched here");
  const std::string files = driver_->FilesDir(made);
  KILN_ASSIGN_OR_RETURN(const std::unique_ptr<LayerRecorder> recorder,
                        checksums_.Record(files, ChecksumStore::LayerState::kNewUnowned));
  LayerBacking::FillTarget target;
  target.files = files;
  target.overlay = driver_->stacks();
  target.recorder = recorder.get();
  target.lower = [&]() -> absl::StatusOr<Layers> {
    if (record.parents.empty()) return Layers();
    KILN_ASSIGN_OR_RETURN(const RefPtr parent, Get(record.parents.front()));
    return parent->Materialize(cancel);
  };
  KILN_RETURN_IF_ERROR(backing->Fill(record.snapshot, target, cancel));
  KILN_RETURN_IF_ERROR(recorder->Commit());
  checksums_.Forget(files);
  // A kill may have come between the renaming and the row.
  const std::string folder = driver_->Folder(record.snapshot);
  KILN_RETURN_IF_ERROR(RemoveTree(folder));
  checksums_.Forget(driver_->FilesDir(record.snapshot));
  if (::rename(driver_->Folder(made).c_str(), folder.c_str()) != 0)
    return ErrnoStatus(errno, absl::StrCat("rename to ", folder));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<LocalRefStore::Step>> LocalRefStore::StepsOf(const RefPtr& ref,
                                                                        const CancelToken& cancel) {
  std::vector<Step> steps;
  if (ref == nullptr) return steps;
  KILN_ASSIGN_OR_RETURN(const NodePtr node, NodeOf(ref));
  // What the layers are made of must not be written any more.
  KILN_RETURN_IF_ERROR(Finalize(node));
  KILN_RETURN_IF_ERROR(FindChanges(node, cancel));
  KILN_ASSIGN_OR_RETURN(const RecordPtr record, Peek(node->id));
  KILN_ASSIGN_OR_RETURN(const std::vector<LayerChange> changes, KnownChanges(record));
  for (const LayerChange& change : changes) {
    if (change.snapshot == 0) continue;  // the empty tree
    KILN_ASSIGN_OR_RETURN(RefPtr owner, OwnerOf(change.snapshot));
    KILN_ASSIGN_OR_RETURN(const RecordPtr of_owner, Peek(owner->id()));
    steps.push_back({change.snapshot, change.base, std::move(owner), of_owner->created_at,
                     of_owner->description});
  }
  return steps;
}

absl::StatusOr<LocalRefStore::Step> LocalRefStore::OwnStep(const RefPtr& ref) {
  KILN_ASSIGN_OR_RETURN(const RecordPtr record, Peek(ref->id()));
  if (record->kind != Kind::kLayer)
    return absl::InvalidArgumentError(absl::StrCat("ref ", ref->id(), " is no layer"));
  Step step{record->snapshot, 0, ref, record->created_at, record->description};
  if (!driver_->stacks() && !record->parents.empty()) {
    KILN_ASSIGN_OR_RETURN(const RecordPtr parent, Peek(record->parents.front()));
    if (!parent->layers.empty()) step.base = parent->layers.front();
  }
  return step;
}

absl::StatusOr<LocalRefStore::StepTrees> LocalRefStore::TreesOf(const Step& step,
                                                                const CancelToken& cancel) {
  StepTrees trees;
  trees.holds.push_back(step.owner);
  const LayerChange change{step.snapshot, 0, false};
  KILN_RETURN_IF_ERROR(FillLayers(absl::MakeConstSpan(&change, 1), cancel));
  const std::string files = driver_->FilesDir(step.snapshot);
  RefPtr below;
  if (driver_->stacks()) {
    KILN_ASSIGN_OR_RETURN(const RecordPtr record, Peek(step.owner->id()));
    if (!record->parents.empty() && !record->parents.front().empty()) {
      KILN_ASSIGN_OR_RETURN(below, Get(record->parents.front()));
    }
    trees.top = files;
  } else if (step.base != 0) {
    KILN_ASSIGN_OR_RETURN(below, OwnerOf(step.base));
  }
  if (below != nullptr) {
    KILN_ASSIGN_OR_RETURN(trees.lower, below->Materialize(cancel));
    trees.holds.push_back(below);
  }
  if (driver_->stacks()) trees.upper = trees.lower;
  trees.upper.push_back(files);
  return trees;
}

void LocalRefStore::BackingChanged(const RefPtr& owner) {
  absl::StatusOr<NodePtr> node = NodeOf(owner);
  if (!node.ok()) return;
  // The size is only an estimate until then.
  Update(*node, [](RefRecord& record, Batch&) { record.size_bytes = -1; }).IgnoreError();
}

}  // namespace kiln::store
