#pragma once

#include <memory>
#include <string>
#include <utility>

#include "store/ref/local_ref_store.h"
#include "store/tree_writer.h"

namespace kiln::store {

// A record in memory. All members are guarded by LocalRefStore::mu_, `id` is constant.
//
//   busy    its row is being read, changed or deleted by one thread; everybody else waits. Short.
//   making  its tree is being made by one thread. Long; Get does not wait for it.
//   gone    deleted; whoever still has the node must look the id up again.
struct LocalRefStore::Node {
  explicit Node(std::string node_id) : id(std::move(node_id)) {}

  const std::string id;
  RecordPtr record;  // replaced, never changed; null only while busy for the first time
  bool persisted = false;
  bool busy = false;
  bool making = false;
  bool gone = false;
  bool writer = false;  // a MutableRef exists
  bool used = false;    // had a holder since its last use was noted
  int holds = 0;        // of immutable handles
  std::weak_ptr<SharedMount> mount;
};

// A handle on an immutable record.
class LocalRef final : public Ref {
 public:
  LocalRef(LocalRefStore* store, LocalRefStore::NodePtr node)
      : store_(store), node_(std::move(node)) {}
  ~LocalRef() override { store_->Release(node_); }

  const std::string& id() const override { return node_->id; }
  absl::StatusOr<Layers> Materialize(const CancelToken& cancel) const override {
    return store_->Materialize(node_, cancel);
  }

  LocalRefStore* store() const { return store_; }
  const LocalRefStore::NodePtr& node() const { return node_; }

 private:
  LocalRefStore* const store_;
  const LocalRefStore::NodePtr node_;
};

class LocalMutableRef final : public MutableRef {
 public:
  LocalMutableRef(LocalRefStore* store, LocalRefStore::NodePtr node, RefPtr parent, Layers lower,
                  std::string upper_dir, bool retain)
      : store_(store),
        node_(std::move(node)),
        parent_(std::move(parent)),
        lower_(std::move(lower)),
        upper_dir_(std::move(upper_dir)),
        retain_(retain) {}
  ~LocalMutableRef() override;

  const std::string& id() const override { return node_->id; }
  const RefPtr& parent() const override { return parent_; }
  absl::StatusOr<Layers> layers() const override;
  const std::string& upper_dir() const override { return upper_dir_; }
  TreeWriter& writer() override;
  absl::StatusOr<RefPtr> Commit() override;
  void SetRetain(bool retain) override { retain_ = retain; }
  void UseSynchronizedRoot() override;

  LocalRefStore* store() const { return store_; }
  const LocalRefStore::NodePtr& node() const { return node_; }
  const Layers& lower() const { return lower_; }
  bool dead() const { return dead_; }

  // Takes note of checksums from now on.
  absl::Status StartRecording(ChecksumStore::LayerState state);
  // A process may write into the tree: recorded checksums no longer count.
  void MountedForWriting() { mounted_ = true; }

 private:
  LocalRefStore* const store_;
  const LocalRefStore::NodePtr node_;
  const RefPtr parent_;
  const Layers lower_;  // empty under the native driver
  const std::string upper_dir_;
  bool retain_;
  bool dead_ = false;
  bool mounted_ = false;
  std::unique_ptr<LayerRecorder> recorder_;  // null: nothing is known of the layer
  std::unique_ptr<TreeWriter> writer_;       // uses recorder_
};

// A mount that all users of a mutable share; the last one unmounts.
class LocalRefStore::SharedMount {
 public:
  SharedMount(TreeMount tree, std::string target)
      : tree_(std::move(tree)), target_(std::move(target)) {}
  ~SharedMount();

  const std::string& path() const { return tree_.path; }
  absl::Status Close();

 private:
  TreeMount tree_;
  const std::string target_;  // the directory made for it
};

// One use of a mount. `node` is of a mutable and shares the mount; `hold` keeps an immutable tree
// while it is mounted.
class LocalRefStore::Mounted final : public MountedTree {
 public:
  Mounted(LocalRefStore* store, NodePtr node, std::shared_ptr<SharedMount> mount, RefPtr hold)
      : store_(store),
        node_(std::move(node)),
        path_(mount->path()),
        mount_(std::move(mount)),
        hold_(std::move(hold)) {}
  ~Mounted() override;

  const std::string& path() const override { return path_; }
  absl::Status Close() override;

 private:
  LocalRefStore* const store_;
  const NodePtr node_;
  const std::string path_;
  std::shared_ptr<SharedMount> mount_;  // null: closed
  RefPtr hold_;
};

}  // namespace kiln::store
