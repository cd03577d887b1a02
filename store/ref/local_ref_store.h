#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/types/span.h"
#include "store/base/mutex.h"
#include "store/base/thread_pool.h"
#include "store/checksum.h"
#include "store/database.h"
#include "store/ref/layer_backing.h"
#include "store/ref/record.h"
#include "store/ref_store.h"
#include "store/root.h"
#include "store/snapshot/driver.h"

namespace kiln::store {

struct LocalRefStoreOptions {
  const Root* root = nullptr;  // both outlive the store
  Database* database = nullptr;
  DriverKind driver = DriverKind::kAuto;
  // Longer chains are flattened; 0: what the driver can mount.
  size_t max_layers = 0;
  // Called after an immutable record is gone, so that the cache index can forget it. On whichever
  // thread removed it, without a lock; may block.
  std::function<void(absl::string_view id)> on_removed = {};
};

class LocalMutableRef;
struct UsageList;

// RefStore on a local disk: files in numbered folders (store/snapshot), records in the refs family
// of the database. See DESIGN.md, Refs, for rows, states and the crash rule.
//
// Outlives every Ref, MutableRef and MountedTree that it hands out. Thread-safe; every method may
// block on disk, except that dropping a handle does not (a retained mutable's record may be
// written, unsynced): files of what nobody wants are removed on a thread of the store.
//
// Cost: New and Commit O(layers) plus two mkdirs and one unsynced write, whatever the size of the
// tree (native driver: New copies the parent). Get O(layers) for the first holder, O(1) later.
class LocalRefStore final : public RefStore {
 public:
  // kFailedPrecondition: the folder was made with another driver, or that one does not work here.
  // Takes O(temporary records), not O(records); the snapshots folder is swept in the background.
  static absl::StatusOr<std::unique_ptr<LocalRefStore>> Open(const LocalRefStoreOptions& options);
  // Waits for the background work that was begun.
  ~LocalRefStore() override;

  absl::StatusOr<std::unique_ptr<MutableRef>> New(RefPtr parent,
                                                  const RefOptions& options) override;
  absl::StatusOr<RefPtr> Get(absl::string_view id) override;
  absl::StatusOr<std::unique_ptr<MutableRef>> Reopen(absl::string_view id) override;
  absl::StatusOr<RefPtr> HoldIdle(absl::string_view id) override;
  absl::StatusOr<std::unique_ptr<MutableRef>> Rewrite(const RefPtr& held) override;
  absl::StatusOr<RefPtr> Merge(absl::Span<const RefPtr> inputs, const RefOptions& options) override;
  absl::StatusOr<RefPtr> Diff(RefPtr lower, RefPtr upper, const RefOptions& options) override;
  absl::StatusOr<std::vector<std::string>> Search(absl::string_view index_key) override;
  absl::Status SetIndexKey(absl::string_view id, absl::string_view index_key) override;
  absl::Status SetValue(absl::string_view id, const std::string& name,
                        absl::string_view value) override;
  absl::StatusOr<std::string> GetValue(absl::string_view id, const std::string& name) override;
  absl::Status SetRetained(absl::string_view id) override;
  absl::StatusOr<std::unique_ptr<MountedTree>> Mount(const RefPtr& ref) override;
  absl::StatusOr<std::unique_ptr<MountedTree>> Mount(MutableRef& ref) override;
  absl::StatusOr<Digest> Checksum(const RefPtr& ref, absl::string_view path,
                                  const ChecksumOptions& options,
                                  const CancelToken& cancel) override;
  std::optional<Digest> KnownChecksum(const RefPtr& ref, absl::string_view path,
                                      const ChecksumOptions& options) override;
  absl::StatusOr<std::vector<UsageInfo>> DiskUsage(absl::Span<const std::string> filters) override;
  absl::Status Prune(const PruneOptions& options, const CancelToken& cancel,
                     absl::AnyInvocable<void(const UsageInfo&)> removed) override;

  // --- For the layer store (store/layer)

  // Set before lazy layers of an earlier run are asked for, and again to nullptr before `backing`
  // goes; Drain() then waits for those who use it.
  void SetLayerBacking(LayerBacking* backing) { backing_ = backing; }

  // A new record whose files the layer backing brings when they are asked for. `rows` adds what
  // the backing keeps of the layer under its number and that of the tree below (native driver; else
  // 0), in the same write. `chain` is an index key and is kept as value kChainValue.
  absl::StatusOr<RefPtr> NewLayer(
      const RefPtr& parent, const RefOptions& options, const std::string& chain,
      const std::function<void(uint64_t snapshot, uint64_t base, Batch& batch)>& rows);
  static constexpr char kChainValue[] = "layer.chain";

  // One of the changes that lead to a tree, in the order in which they are stacked. No file is
  // looked at.
  struct Step {
    uint64_t snapshot = 0;
    uint64_t base = 0;  // native driver: the tree that it changes; else 0
    RefPtr owner;       // keeps the files
    absl::Time created_at;
    std::string description;
  };
  absl::StatusOr<std::vector<Step>> StepsOf(const RefPtr& ref, const CancelToken& cancel);

  // The last step of a ref that is a layer itself (no merge, no diff).
  absl::StatusOr<Step> OwnStep(const RefPtr& ref);

  // The trees before and after a step, made when missing. `top` is the directory that makes the
  // difference, in overlayfs form, or "".
  struct StepTrees {
    Layers lower, upper;
    std::string top;
    std::vector<RefPtr> holds;  // keep both
  };
  absl::StatusOr<StepTrees> TreesOf(const Step& step, const CancelToken& cancel);

  // What the backing keeps of a snapshot has changed in size.
  void BackingChanged(const RefPtr& owner);

  const SnapshotDriver& driver() const { return *driver_; }
  const ChecksumStore& checksums() const { return checksums_; }
  // Waits until everything that was dropped so far is gone from the disk.
  void Drain();

 private:
  friend class LocalRef;
  friend class LocalMutableRef;
  class SharedMount;
  class Mounted;
  struct Node;
  using NodePtr = std::shared_ptr<Node>;
  using RefRecord = internal::RefRecord;
  using LayerChange = internal::LayerChange;
  using RecordPtr = std::shared_ptr<const RefRecord>;

  LocalRefStore(const LocalRefStoreOptions& options, std::unique_ptr<SnapshotDriver> driver);

  // --- Start and sweep (open.cc)
  absl::Status Start();
  absl::Status LoadNumbers();
  absl::StatusOr<uint64_t> NextNumber();
  // A new folder as a child of `parent`. Returns its number.
  absl::StatusOr<uint64_t> CreateSnapshot(const Layers& parent);
  void SweepSnapshots(uint64_t before);
  void DropTemporaries(const std::vector<std::string>& ids);

  // --- The table of records (table.cc)
  // Reads a record and makes sure that its files exist; a broken one is dropped with its children.
  absl::StatusOr<RefRecord> ReadRecord(absl::string_view id);
  // The record, in memory or loaded, with no change to its row under way. Gives up mu_ meanwhile,
  // so the id is its own: that of a twin stands in a record that may be replaced.
  absl::StatusOr<NodePtr> LoadLocked(std::string id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The other half that `node` has when this returns; null when it has none, or that one is gone.
  // May give up mu_ meanwhile, so both may have changed.
  absl::StatusOr<NodePtr> LoadTwinLocked(const Node& node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  struct Pair {
    NodePtr mutable_half;
    NodePtr immutable;  // null: there is none
  };
  // A mutable that nobody writes and whose other half nobody holds but for `own_holds`; else
  // "locked". What it gives is so until mu_ is given up.
  absl::StatusOr<Pair> LoadPairLocked(absl::string_view id, int own_holds)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<RecordPtr> Peek(absl::string_view id);
  // Changes the record, and its row when it has one; `edit` may add rows of its own.
  absl::Status Update(const NodePtr& node, const std::function<void(RefRecord&, Batch&)>& edit);
  void EndChange(const NodePtr& node);
  // A new record with its row. The node is in the table, busy, before the row can be seen: whoever
  // finds the id must find this node and no second one.
  absl::Status Enter(const NodePtr& node, RefRecord record,
                     const std::function<void(Batch&)>& more_rows = {});
  RefPtr HandleLocked(const NodePtr& node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void PutRecord(Batch& batch, const std::string& id, const RefRecord& record);
  void EraseRecord(Batch& batch, const std::string& id, const RefRecord& record);
  // The rows that belong to a folder.
  void EraseSnapshot(Batch& batch, uint64_t number);
  Layers DirsOf(const std::vector<uint64_t>& numbers) const;
  absl::StatusOr<NodePtr> NodeOf(const RefPtr& ref) const;

  // --- The end of holds and records (release.cc)
  enum class Removal { kRemoved, kInUse, kHasChildren };
  void Release(const NodePtr& node);
  void ReleaseMutable(const NodePtr& node, bool retain);
  absl::Status KeepMutable(const NodePtr& node);
  void DiscardMutable(const NodePtr& node);
  // Has the reaper look at what was released or used, in a moment.
  void SettleLater() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SettleReleased();
  void TouchUsage(absl::Span<const NodePtr> nodes);
  void EvictIdle();
  // Removes a record and its files. With `with_twin` the other half of a pair goes as well; without
  // it the files stay with the mutable half. `parents` gets the ids whose child it was.
  absl::StatusOr<Removal> Remove(absl::string_view id, bool with_twin,
                                 std::vector<std::string>* parents);
  void RemoveUnwanted(std::vector<std::string> ids);
  void DropBroken(std::vector<std::string> ids);
  void RemoveFolder(uint64_t number);

  // --- Writing (local_ref_store.cc)
  // `batch` has what else is to be written in the same step.
  absl::StatusOr<RefPtr> CommitNode(const NodePtr& node, bool retain, Batch* batch);
  absl::StatusOr<std::unique_ptr<MutableRef>> ReopenPair(absl::string_view id, int own_holds);
  absl::StatusOr<RefPtr> CommitPair(const NodePtr& node, Batch* batch);
  // Makes the immutable half of a pair the owner of the files, for good.
  absl::Status Finalize(const NodePtr& node);
  std::unique_ptr<LocalMutableRef> OpenMutable(const NodePtr& node, RefPtr parent);

  // --- Merge and diff (materialize.cc)
  absl::StatusOr<Layers> Materialize(const NodePtr& node, const CancelToken& cancel);
  absl::StatusOr<RefPtr> NewLazy(RefRecord record, const RefOptions& options);
  absl::StatusOr<bool> BeginMaking(const NodePtr& node, const CancelToken& cancel,
                                   const std::function<bool(const RefRecord&)>& done);
  void EndMaking(const NodePtr& node);
  absl::StatusOr<std::vector<LayerChange>> KnownChanges(RecordPtr record);
  absl::Status FindChanges(const NodePtr& node, const CancelToken& cancel);
  absl::Status FindMergeChanges(const NodePtr& node, const CancelToken& cancel);
  absl::Status FindDiffChanges(const NodePtr& node, const CancelToken& cancel);
  absl::Status MakeTree(const NodePtr& node, const CancelToken& cancel);
  absl::StatusOr<uint64_t> ApplyOnto(const std::vector<uint64_t>& base,
                                     absl::Span<const LayerChange> changes,
                                     const CancelToken& cancel);
  absl::Status Flatten(const NodePtr& node, const CancelToken& cancel);

  // --- Lazy layers (lazy_layers.cc)
  absl::StatusOr<RefPtr> OwnerOf(uint64_t snapshot);
  absl::StatusOr<bool> IsLazy(uint64_t snapshot);
  // Brings the files of the lazy ones among the layers of `changes`, side by side.
  absl::Status FillLayers(absl::Span<const LayerChange> changes, const CancelToken& cancel);
  absl::Status FillLayer(const NodePtr& node, const CancelToken& cancel);
  absl::Status FillSnapshot(const RefRecord& record, uint64_t made, const CancelToken& cancel);

  // --- Usage and prune (usage.cc, prune.cc)
  static UsageInfo InfoOf(const std::string& id, const RefRecord& record);
  absl::StatusOr<UsageList> ListUsage();
  absl::StatusOr<int64_t> FolderBytes(uint64_t number, bool count_shared) const;
  absl::StatusOr<int64_t> MeasureSize(const std::string& id);
  absl::StatusOr<int64_t> MeasureAll(UsageList& list, const CancelToken& cancel);
  void NoteSizeChange(const std::string& id, const RefRecord& before, const RefRecord& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<int64_t> FreeBytes() const;
  absl::StatusOr<bool> BelowTarget(const PruneOptions& options, int64_t free_bytes);

  absl::StatusOr<std::string> MountPoint();
  absl::Status Unmount(const NodePtr& node, std::shared_ptr<SharedMount> mount);

  // Constant after Open.
  const Root& root_;
  Database& database_;
  const std::unique_ptr<SnapshotDriver> driver_;
  const size_t max_layers_;
  const std::string mounts_dir_;
  const std::function<void(absl::string_view)> on_removed_;

  std::atomic<LayerBacking*> backing_{nullptr};  // null: lazy layers cannot be had

  ChecksumStore checksums_;
  std::atomic<uint64_t> next_mount_{1};
  std::atomic<bool> stopping_{false};

  // Held while the limit is written, once in a thousand numbers.
  Mutex numbers_mu_;
  uint64_t next_number_ ABSL_GUARDED_BY(numbers_mu_) = 1;
  uint64_t number_limit_ ABSL_GUARDED_BY(numbers_mu_) = 1;

  Mutex mu_;
  // A record's row change began or ended, or a tree was made.
  CondVar changed_;
  // Every held record, and some idle ones.
  absl::flat_hash_map<std::string, NodePtr> nodes_ ABSL_GUARDED_BY(mu_);

  // Since the reaper last looked: without a holder; used in another way.
  std::vector<NodePtr> released_ ABSL_GUARDED_BY(mu_), used_ ABSL_GUARDED_BY(mu_);
  bool settling_ ABSL_GUARDED_BY(mu_) = false;  // the reaper will look
  int hurries_ ABSL_GUARDED_BY(mu_) = 0;        // who waits until it has
  CondVar hurry_;

  // Running total of sizes, and records whose size is still to be added; an estimate that saves
  // looking at all records while there is room.
  bool totals_known_ ABSL_GUARDED_BY(mu_) = false;
  int64_t known_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  absl::flat_hash_set<std::string> unsized_ ABSL_GUARDED_BY(mu_);

  Mutex prune_mu_;  // held for the whole of a prune: they run one after the other

  // Last: their work uses all of the above.
  ThreadPool fill_pool_;
  ThreadPool reaper_;
};

}  // namespace kiln::store
