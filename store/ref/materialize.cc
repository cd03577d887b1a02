// Merge and diff (llb.md 5.4): which changes they consist of, and their trees.
#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "store/base/status_macros.h"
#include "store/ref/node.h"
#include "store/snapshot/apply.h"
#include "store/snapshot/changes.h"

namespace kiln::store {

using internal::RecordKey;
using internal::SnapshotKey;
using Changes = internal::RefRecord::Changes;
using Kind = internal::RefRecord::Kind;

namespace {

// Where two layers are the same, the later one decides alone: whatever the earlier one says about a
// path, the later one says it again, nearer to the top. overlayfs refuses a layer given twice.
std::vector<internal::LayerChange> KeepLast(const std::vector<internal::LayerChange>& changes) {
  absl::flat_hash_set<std::pair<uint64_t, uint64_t>> seen;
  std::vector<internal::LayerChange> kept;
  for (auto it = changes.rbegin(); it != changes.rend(); ++it)
    if (seen.emplace(it->snapshot, it->base).second) kept.push_back(*it);
  std::reverse(kept.begin(), kept.end());
  return kept;
}

// Found is cheaper than absent: the walk ends at the first whiteout.
absl::StatusOr<bool> HasWhiteouts(const std::string& layer, const CancelToken& cancel) {
  const absl::Status found = absl::AlreadyExistsError("");
  absl::Status walked = LayerChanges(
      layer,
      [&](const Change& change) {
        return change.kind == Change::Kind::kDelete ? found : absl::OkStatus();
      },
      cancel);
  if (walked == found) return true;
  KILN_RETURN_IF_ERROR(walked);
  return false;
}

}  // namespace

absl::StatusOr<RefPtr> LocalRefStore::NewLazy(RefRecord record, const RefOptions& options) {
  record.retained = options.retain;
  record.description = options.description;
  record.record_type = options.record_type;
  record.created_at = absl::Now();
  if (!options.index_key.empty()) record.index_keys = {options.index_key};
  NodePtr node = std::make_shared<Node>(internal::NewId());
  node->holds = 1;  // against a removal before the handle exists
  KILN_RETURN_IF_ERROR(Enter(node, std::move(record)));
  MutexLock lock(&mu_);
  RefPtr ref = HandleLocked(node);
  --node->holds;
  return ref;
}

absl::StatusOr<RefPtr> LocalRefStore::Merge(absl::Span<const RefPtr> inputs,
                                            const RefOptions& options) {
  RefRecord record;
  record.kind = Kind::kMerge;
  RefPtr last;
  for (const RefPtr& input : inputs) {
    if (input == nullptr) continue;
    KILN_ASSIGN_OR_RETURN(const NodePtr node, NodeOf(input));
    record.parents.push_back(node->id);
    last = input;
  }
  if (record.parents.size() < 2) return last;
  for (const RefPtr& input : inputs) {
    if (input != nullptr) KILN_RETURN_IF_ERROR(Finalize(*NodeOf(input)));
  }
  return NewLazy(std::move(record), options);
}

absl::StatusOr<RefPtr> LocalRefStore::Diff(RefPtr lower, RefPtr upper, const RefOptions& options) {
  if (lower == nullptr) return upper;
  if (upper != nullptr && lower->id() == upper->id()) return RefPtr();
  RefRecord record;
  record.kind = Kind::kDiff;
  for (const RefPtr& side : {lower, upper}) {
    if (side != nullptr) {
      KILN_ASSIGN_OR_RETURN(const NodePtr node, NodeOf(side));
      KILN_RETURN_IF_ERROR(Finalize(node));
    }
    record.parents.push_back(side == nullptr ? "" : side->id());
  }
  return NewLazy(std::move(record), options);
}

// True: the caller makes what is missing and then calls EndMaking. False: somebody else did.
absl::StatusOr<bool> LocalRefStore::BeginMaking(const NodePtr& node, const CancelToken& cancel,
                                                const std::function<bool(const RefRecord&)>& done) {
  const CancelRegistration wake = cancel.OnCancel([this] {
    MutexLock lock(&mu_);
    changed_.SignalAll();
  });
  MutexLock lock(&mu_);
  for (;;) {
    if (done(*node->record)) return false;
    if (!node->making) {
      node->making = true;
      return true;
    }
    KILN_RETURN_IF_ERROR(cancel.status());
    changed_.Wait(&mu_);
  }
}

void LocalRefStore::EndMaking(const NodePtr& node) {
  MutexLock lock(&mu_);
  node->making = false;
  changed_.SignalAll();
}

absl::StatusOr<Layers> LocalRefStore::Materialize(const NodePtr& node, const CancelToken& cancel) {
  auto ready = [](const RefRecord& seen) { return seen.ready; };
  RecordPtr record;
  {
    MutexLock lock(&mu_);
    if (ready(*node->record)) return DirsOf(node->record->layers);
    record = node->record;
  }
  if (record->lazy()) {
    KILN_ASSIGN_OR_RETURN(const std::vector<LayerChange> changes, KnownChanges(record));
    // Under native the one folder holds the tree, and brings those that it is made from.
    const size_t needed = driver_->stacks() ? changes.size() : 1;
    KILN_RETURN_IF_ERROR(
        FillLayers(absl::MakeConstSpan(changes).subspan(changes.size() - needed), cancel));
    return DirsOf(record->layers);
  }
  KILN_RETURN_IF_ERROR(FindChanges(node, cancel));
  KILN_ASSIGN_OR_RETURN(const bool ours, BeginMaking(node, cancel, ready));
  if (ours) {
    const absl::Status made = MakeTree(node, cancel);
    EndMaking(node);
    KILN_RETURN_IF_ERROR(Annotate(made, absl::StrCat("make the files of ref ", node->id)));
  }
  MutexLock lock(&mu_);
  return DirsOf(node->record->layers);
}

// The list of a record that knows it. O(layers), plus one look-up for each record between a
// flattened one and its end.
absl::StatusOr<std::vector<LocalRefStore::LayerChange>> LocalRefStore::KnownChanges(
    RecordPtr record) {
  std::vector<LayerChange> own;  // top first
  while (record != nullptr && record->changes_form == Changes::kParentAndOwn) {
    LayerChange change{record->snapshot, 0, false};
    RecordPtr parent;
    if (!record->parents.empty()) {
      KILN_ASSIGN_OR_RETURN(parent, Peek(record->parents.front()));
      if (!driver_->stacks() && !parent->layers.empty()) change.base = parent->layers.front();
    }
    own.push_back(change);
    record = std::move(parent);
  }
  std::vector<LayerChange> changes;
  if (record != nullptr && record->changes_form == Changes::kLayers) {
    for (const uint64_t layer : record->layers) changes.push_back({layer, 0, false});
  } else if (record != nullptr) {
    changes = record->changes;
  }
  changes.insert(changes.end(), own.rbegin(), own.rend());
  return changes;
}

// Finds the list for `node` and for every merge and diff it is made of, inputs first; without
// recursion, as graphs may be deep.
absl::Status LocalRefStore::FindChanges(const NodePtr& node, const CancelToken& cancel) {
  auto known = [](const RefRecord& record) { return record.changes_form != Changes::kUnknown; };
  std::vector<std::pair<NodePtr, RefPtr>> stack = {{node, nullptr}};
  while (!stack.empty()) {
    const NodePtr top = stack.back().first;
    RecordPtr record;
    {
      MutexLock lock(&mu_);
      record = top->record;
    }
    const size_t height = stack.size();
    if (!known(*record)) {
      for (const std::string& parent : record->parents) {
        if (parent.empty()) continue;
        KILN_ASSIGN_OR_RETURN(const RecordPtr of_parent, Peek(parent));
        if (known(*of_parent)) continue;
        KILN_ASSIGN_OR_RETURN(RefPtr hold, Get(parent));
        KILN_ASSIGN_OR_RETURN(NodePtr input, NodeOf(hold));
        stack.emplace_back(std::move(input), std::move(hold));
      }
      if (stack.size() > height) continue;
      KILN_ASSIGN_OR_RETURN(const bool ours, BeginMaking(top, cancel, known));
      if (ours) {
        const absl::Status found = record->kind == Kind::kMerge ? FindMergeChanges(top, cancel)
                                                                : FindDiffChanges(top, cancel);
        EndMaking(top);
        KILN_RETURN_IF_ERROR(Annotate(found, absl::StrCat("make the files of ref ", top->id)));
      }
    }
    stack.pop_back();
  }
  return absl::OkStatus();
}

absl::Status LocalRefStore::FindMergeChanges(const NodePtr& node, const CancelToken& cancel) {
  KILN_RETURN_IF_ERROR(cancel.status());
  KILN_ASSIGN_OR_RETURN(const RecordPtr record, Peek(node->id));
  std::vector<LayerChange> all;
  for (const std::string& parent : record->parents) {
    KILN_ASSIGN_OR_RETURN(const RecordPtr input, Peek(parent));
    KILN_ASSIGN_OR_RETURN(std::vector<LayerChange> changes, KnownChanges(input));
    if (input->kind == Kind::kDiff && !input->parents.front().empty()) {
      KILN_ASSIGN_OR_RETURN(const RecordPtr lower, Peek(input->parents.front()));
      KILN_ASSIGN_OR_RETURN(const std::vector<LayerChange> base, KnownChanges(lower));
      // merge(base, diff(base, x)) is x: every whiteout has its target below.
      if (base == all)
        for (LayerChange& change : changes) change.floating = false;
    }
    all.insert(all.end(), changes.begin(), changes.end());
  }
  all = KeepLast(all);
  return Update(node, [&](RefRecord& edited, Batch&) {
    edited.changes = all;
    edited.changes_form = Changes::kListed;
  });
}

absl::Status LocalRefStore::FindDiffChanges(const NodePtr& node, const CancelToken& cancel) {
  KILN_ASSIGN_OR_RETURN(const RecordPtr record, Peek(node->id));
  std::vector<LayerChange> changes;
  KILN_ASSIGN_OR_RETURN(const RecordPtr lower, Peek(record->parents[0]));
  KILN_ASSIGN_OR_RETURN(const std::vector<LayerChange> of_lower, KnownChanges(lower));
  std::vector<LayerChange> of_upper;
  if (!record->parents[1].empty()) {
    KILN_ASSIGN_OR_RETURN(const RecordPtr upper, Peek(record->parents[1]));
    KILN_ASSIGN_OR_RETURN(of_upper, KnownChanges(upper));
  }
  uint64_t own = 0;
  const bool extends = of_upper.size() >= of_lower.size() &&
                       std::equal(of_lower.begin(), of_lower.end(), of_upper.begin());
  if (extends) {
    // The layers on top are the difference; their files are used where they are.
    changes.assign(of_upper.begin() + static_cast<ptrdiff_t>(of_lower.size()), of_upper.end());
    for (LayerChange& change : changes) {
      if (!driver_->stacks()) continue;
      // Files are not fetched to learn it; to be carried out in a folder is right in any case.
      KILN_ASSIGN_OR_RETURN(change.floating, IsLazy(change.snapshot));
      if (change.floating) continue;
      KILN_ASSIGN_OR_RETURN(change.floating,
                            HasWhiteouts(driver_->FilesDir(change.snapshot), cancel));
    }
  } else {
    std::vector<RefPtr> sides(2);
    std::vector<Layers> trees(2);
    for (int i = 0; i < 2; ++i) {
      if (record->parents[i].empty()) continue;
      KILN_ASSIGN_OR_RETURN(sides[i], Get(record->parents[i]));
      KILN_ASSIGN_OR_RETURN(trees[i], sides[i]->Materialize(cancel));
    }
    if (driver_->stacks()) {
      LayerChange change;
      KILN_ASSIGN_OR_RETURN(own, CreateSnapshot({}));
      change.snapshot = own;
      absl::Status walked = [&]() -> absl::Status {
        TreeApplier applier(driver_->FilesDir(own), {.keep_all_whiteouts = true});
        KILN_RETURN_IF_ERROR(TreeChanges(
            TreeReader(trees[0]), TreeReader(trees[1]),
            [&](const Change& step) {
              change.floating |= step.kind == Change::Kind::kDelete;
              return applier.Apply(step);
            },
            cancel));
        return applier.Finish();
      }();
      if (!walked.ok()) {
        RemoveFolder(own);
        return walked;
      }
      changes = {change};
    } else {
      auto number = [&](int side) -> absl::StatusOr<uint64_t> {
        if (sides[side] == nullptr) return 0;
        KILN_ASSIGN_OR_RETURN(const RecordPtr of_side, Peek(record->parents[side]));
        return of_side->layers.empty() ? 0 : of_side->layers.front();
      };
      LayerChange change;
      KILN_ASSIGN_OR_RETURN(change.base, number(0));
      KILN_ASSIGN_OR_RETURN(change.snapshot, number(1));
      changes = {change};
    }
  }
  return Update(node, [&](RefRecord& edited, Batch& batch) {
    edited.changes = changes;
    edited.changes_form = Changes::kListed;
    if (own == 0) return;
    edited.size_bytes = -1;
    edited.snapshot = own;
    batch.Put(Family::kRefs, SnapshotKey(own), node->id);
    batch.MarkUnsettled(Family::kRefs, RecordKey(node->id));
  });
}

// A new folder with `changes` carried out on top of `base`. Known checksums come along.
absl::StatusOr<uint64_t> LocalRefStore::ApplyOnto(const std::vector<uint64_t>& base,
                                                  absl::Span<const LayerChange> changes,
                                                  const CancelToken& cancel) {
  const Layers below = DirsOf(base);
  KILN_ASSIGN_OR_RETURN(const uint64_t number, CreateSnapshot({}));
  absl::Status status = [&]() -> absl::Status {
    const std::string files = driver_->FilesDir(number);
    TreeApplier applier(files, {.lower = below});
    KILN_ASSIGN_OR_RETURN(const std::unique_ptr<LayerRecorder> recorder,
                          checksums_.Record(files, ChecksumStore::LayerState::kNewUnowned));
    std::shared_ptr<ChecksumTable> known;  // of the layer at hand
    const ChangeSink sink = [&](const Change& change) -> absl::Status {
      KILN_RETURN_IF_ERROR(applier.Apply(change));
      if (change.kind == Change::Kind::kDelete || change.opaque) {
        recorder->Removed(change.path);
      } else if (!S_ISDIR(change.st.st_mode)) {
        recorder->Removed(change.path);
        if (known == nullptr) return absl::OkStatus();
        if (auto digest = known->Find(ChecksumTable::FileKey(change.path)); digest.has_value())
          recorder->Recorded(change.path, *digest);
      } else {
        recorder->Changed(change.path);
      }
      return absl::OkStatus();
    };
    auto tree = [&](uint64_t of) {
      return TreeReader(of == 0 ? Layers() : Layers{driver_->FilesDir(of)});
    };
    for (const LayerChange& change : changes) {
      applier.NextSource();
      known = change.snapshot == 0 ? nullptr : checksums_.Table(driver_->FilesDir(change.snapshot));
      if (change.base == 0) {
        KILN_RETURN_IF_ERROR(LayerChanges(driver_->FilesDir(change.snapshot), sink, cancel));
      } else {
        KILN_RETURN_IF_ERROR(TreeChanges(tree(change.base), tree(change.snapshot), sink, cancel));
      }
    }
    KILN_RETURN_IF_ERROR(applier.Finish());
    return recorder->Commit();
  }();
  if (status.ok()) return number;
  RemoveFolder(number);
  return status;
}

absl::Status LocalRefStore::MakeTree(const NodePtr& node, const CancelToken& cancel) {
  KILN_ASSIGN_OR_RETURN(const RecordPtr record, Peek(node->id));
  KILN_ASSIGN_OR_RETURN(std::vector<LayerChange> changes, KnownChanges(record));
  KILN_RETURN_IF_ERROR(FillLayers(changes, cancel));
  // Layers stacked as they are, and those that must be carried out in a new folder.
  size_t stacked = 0;
  if (driver_->stacks()) {
    auto floating = std::find_if(changes.begin(), changes.end(),
                                 [](const LayerChange& change) { return change.floating; });
    stacked = static_cast<size_t>(floating - changes.begin());
    if (stacked > max_layers_) stacked = 0;
  } else if (record->kind == Kind::kMerge) {
    // The first input's tree is whole already.
    KILN_ASSIGN_OR_RETURN(const RefPtr first, Get(record->parents.front()));
    KILN_RETURN_IF_ERROR(first->Materialize(cancel).status());
    KILN_ASSIGN_OR_RETURN(const RecordPtr of_first, Peek(first->id()));
    KILN_ASSIGN_OR_RETURN(const std::vector<LayerChange> prefix, KnownChanges(of_first));
    if (!of_first->layers.empty() && prefix.size() <= changes.size() &&
        std::equal(prefix.begin(), prefix.end(), changes.begin())) {
      changes.erase(changes.begin(), changes.begin() + static_cast<ptrdiff_t>(prefix.size()));
      changes.insert(changes.begin(), LayerChange{of_first->layers.front(), 0, false});
    }
  }
  if (!driver_->stacks() && changes.size() == 1 && changes[0].base == 0) stacked = 1;

  std::vector<uint64_t> layers;
  for (size_t i = 0; i < stacked; ++i) layers.push_back(changes[i].snapshot);
  uint64_t own = 0;
  if (stacked < changes.size()) {
    KILN_ASSIGN_OR_RETURN(own,
                          ApplyOnto(layers, absl::MakeConstSpan(changes).subspan(stacked), cancel));
    layers.push_back(own);
  }
  return Update(node, [&](RefRecord& edited, Batch& batch) {
    edited.ready = true;
    edited.layers = layers;
    if (driver_->stacks() && own == 0) {
      edited.changes_form = Changes::kLayers;
      edited.changes.clear();
    }
    if (own == 0) return;
    edited.size_bytes = -1;
    (edited.snapshot == 0 ? edited.snapshot : edited.flat) = own;
    batch.Put(Family::kRefs, SnapshotKey(own), node->id);
    batch.MarkUnsettled(Family::kRefs, RecordKey(node->id));
  });
}

// Puts a chain that is as long as the kernel allows into one layer, by hardlinks.
absl::Status LocalRefStore::Flatten(const NodePtr& node, const CancelToken& cancel) {
  auto short_enough = [this](const RefRecord& record) {
    return record.layers.size() < max_layers_;
  };
  KILN_ASSIGN_OR_RETURN(const bool ours, BeginMaking(node, cancel, short_enough));
  if (!ours) return absl::OkStatus();
  absl::Status status = [&]() -> absl::Status {
    KILN_ASSIGN_OR_RETURN(const RecordPtr record, Peek(node->id));
    std::vector<LayerChange> changes;
    for (const uint64_t layer : record->layers) changes.push_back({layer, 0, false});
    KILN_ASSIGN_OR_RETURN(const uint64_t flat, ApplyOnto({}, changes, cancel));
    return Update(node, [&](RefRecord& edited, Batch& batch) {
      if (edited.changes_form == Changes::kLayers) {
        edited.changes_form =
            edited.kind == Kind::kLayer ? Changes::kParentAndOwn : Changes::kListed;
        if (edited.kind != Kind::kLayer) edited.changes = changes;
      }
      edited.layers = {flat};
      edited.size_bytes = -1;
      edited.flat = flat;
      batch.Put(Family::kRefs, SnapshotKey(flat), node->id);
      batch.MarkUnsettled(Family::kRefs, RecordKey(node->id));
    });
  }();
  EndMaking(node);
  return Annotate(status, absl::StrCat("flatten ref ", node->id));
}

}  // namespace kiln::store
