#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "store/base/mutex.h"
#include "store/fsutil/directory_target.h"
#include "store/ref_store.h"
#include "tests/store/fsutil/test_tree.h"

namespace kiln::daemon {

// Refs as plain directories: what sources and exporters need of a RefStore.
class FakeRefStore : public store::RefStore {
 public:
  struct Record {
    std::string id, dir, index_key;
    store::RefOptions options;
    std::map<std::string, std::string> values;
    bool open = false;                       // a MutableRef is out
    std::weak_ptr<const store::Ref> sealed;  // the immutable made of it
    bool committed = false;
  };

  class FakeRef : public store::Ref {
   public:
    FakeRef(std::string id, std::string dir) : id_(std::move(id)), dir_(std::move(dir)) {}
    const std::string& id() const override { return id_; }
    absl::StatusOr<store::Layers> Materialize(const CancelToken&) const override {
      return store::Layers{dir_};
    }

   private:
    const std::string id_, dir_;
  };

  class FakeMutable : public store::MutableRef {
   public:
    FakeMutable(FakeRefStore* owner, Record* record)
        : owner_(owner),
          record_(record),
          retain_(record->options.retain),
          writer_(store::NewTreeWriter({}, record->dir, false, nullptr)) {}
    ~FakeMutable() override { owner_->Release(record_, retain_ || sealed_ != nullptr); }
    const std::string& id() const override { return record_->id; }
    const store::RefPtr& parent() const override { return parent_; }
    absl::StatusOr<store::Layers> layers() const override { return store::Layers{record_->dir}; }
    const std::string& upper_dir() const override { return record_->dir; }
    store::TreeWriter& writer() override { return *writer_; }
    absl::StatusOr<store::RefPtr> Commit() override {
      sealed_ = std::make_shared<FakeRef>(record_->id, record_->dir);
      MutexLock lock(&owner_->mu_);
      record_->sealed = sealed_;
      record_->committed = true;
      return sealed_;
    }
    void SetRetain(bool retain) override { retain_ = retain; }

   private:
    FakeRefStore* const owner_;
    Record* const record_;
    bool retain_;
    const store::RefPtr parent_;
    store::RefPtr sealed_;
    const std::unique_ptr<store::TreeWriter> writer_;
  };

  absl::StatusOr<std::unique_ptr<store::MutableRef>> New(
      store::RefPtr, const store::RefOptions& options) override {
    MutexLock lock(&mu_);
    auto record = std::make_unique<Record>();
    record->id = absl::StrCat("r", ++created);
    record->dir = root_ / record->id;
    record->index_key = options.index_key;
    record->options = options;
    record->open = true;
    ++opened;
    if (::mkdir(record->dir.c_str(), 0755) != 0) return absl::InternalError(record->dir);
    Record* raw = record.get();
    records_[record->id] = std::move(record);
    return std::unique_ptr<store::MutableRef>(new FakeMutable(this, raw));
  }
  absl::StatusOr<store::RefPtr> Get(absl::string_view id) override {
    MutexLock lock(&mu_);
    auto it = records_.find(std::string(id));
    if (it == records_.end() || !it->second->committed) return absl::NotFoundError(id);
    store::RefPtr ref = it->second->sealed.lock();
    if (ref == nullptr)
      it->second->sealed = ref = std::make_shared<FakeRef>(it->first, it->second->dir);
    return ref;
  }
  absl::StatusOr<std::unique_ptr<store::MutableRef>> Reopen(absl::string_view id) override {
    MutexLock lock(&mu_);
    auto it = records_.find(std::string(id));
    if (it == records_.end()) return absl::NotFoundError(id);
    if (it->second->open || !it->second->sealed.expired())
      return absl::FailedPreconditionError("locked");
    it->second->open = true;
    ++opened;
    it->second->committed = false;
    return std::unique_ptr<store::MutableRef>(new FakeMutable(this, it->second.get()));
  }
  absl::StatusOr<store::RefPtr> HoldIdle(absl::string_view id) override {
    MutexLock lock(&mu_);
    auto it = records_.find(std::string(id));
    if (it == records_.end() || !it->second->committed) return absl::NotFoundError(id);
    Record& record = *it->second;
    if (record.open || !record.sealed.expired()) return absl::FailedPreconditionError("locked");
    store::RefPtr ref = std::make_shared<FakeRef>(record.id, record.dir);
    record.sealed = ref;
    return ref;
  }
  absl::StatusOr<std::unique_ptr<store::MutableRef>> Rewrite(const store::RefPtr& held) override {
    MutexLock lock(&mu_);
    Record& record = *records_.at(held->id());
    if (record.open || held.use_count() > 1) return absl::FailedPreconditionError("locked");
    record.open = true;
    ++opened;
    record.committed = false;
    if (on_rewrite) on_rewrite();
    return std::unique_ptr<store::MutableRef>(new FakeMutable(this, &record));
  }
  // What is not held is gone.
  void Prune() {
    MutexLock lock(&mu_);
    for (auto it = records_.begin(); it != records_.end();)
      it = !it->second->open && it->second->sealed.expired() ? records_.erase(it) : std::next(it);
  }
  absl::StatusOr<std::vector<std::string>> Search(absl::string_view key) override {
    ++searches;
    MutexLock lock(&mu_);
    std::vector<std::string> out;
    for (const auto& [id, record] : records_)
      if (record->index_key == key) out.push_back(id);
    return out;
  }
  absl::Status SetIndexKey(absl::string_view id, absl::string_view key) override {
    MutexLock lock(&mu_);
    records_.at(std::string(id))->index_key = std::string(key);
    return absl::OkStatus();
  }
  absl::Status SetValue(absl::string_view id, const std::string& name,
                        absl::string_view value) override {
    MutexLock lock(&mu_);
    records_.at(std::string(id))->values[name] = std::string(value);
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> GetValue(absl::string_view id, const std::string& name) override {
    MutexLock lock(&mu_);
    auto it = records_.find(std::string(id));
    if (it == records_.end() || it->second->values.count(name) == 0)
      return absl::NotFoundError(name);
    return it->second->values[name];
  }
  absl::Status SetRetained(absl::string_view) override { return absl::OkStatus(); }

  absl::StatusOr<store::RefPtr> Merge(absl::Span<const store::RefPtr>,
                                      const store::RefOptions&) override {
    return absl::UnimplementedError("merge");
  }
  absl::StatusOr<store::RefPtr> Diff(store::RefPtr, store::RefPtr,
                                     const store::RefOptions&) override {
    return absl::UnimplementedError("diff");
  }
  class FakeMount : public store::MountedTree {
   public:
    explicit FakeMount(std::string path) : path_(std::move(path)) {}
    const std::string& path() const override { return path_; }
    absl::Status Close() override { return absl::OkStatus(); }

   private:
    const std::string path_;
  };
  absl::StatusOr<std::unique_ptr<store::MountedTree>> Mount(const store::RefPtr& ref) override {
    return std::make_unique<FakeMount>(Dir(ref));
  }
  absl::StatusOr<std::unique_ptr<store::MountedTree>> Mount(store::MutableRef& ref) override {
    return std::make_unique<FakeMount>(ref.upper_dir());
  }
  absl::StatusOr<Digest> Checksum(const store::RefPtr&, absl::string_view,
                                  const store::ChecksumOptions&, const CancelToken&) override {
    return absl::UnimplementedError("checksum");
  }
  std::optional<Digest> KnownChecksum(const store::RefPtr&, absl::string_view,
                                      const store::ChecksumOptions&) override {
    return std::nullopt;
  }
  absl::StatusOr<std::vector<store::UsageInfo>> DiskUsage(absl::Span<const std::string>) override {
    return absl::UnimplementedError("usage");
  }
  absl::Status Prune(const store::PruneOptions&, const CancelToken&,
                     absl::AnyInvocable<void(const store::UsageInfo&)>) override {
    return absl::UnimplementedError("prune");
  }

  // For tests.
  static std::string Dir(const store::RefPtr& ref) { return (*ref->Materialize({}))[0]; }
  static std::string Read(const store::RefPtr& ref, const std::string& path) {
    auto data = ReadFileToString(absl::StrCat(Dir(ref), "/", path));
    return data.ok() ? *data : data.status().ToString();
  }
  // As a prune of what nobody holds.
  void DropAll() {
    MutexLock lock(&mu_);
    for (auto record = records_.begin(); record != records_.end();) {
      const bool held = record->second->open || !record->second->sealed.expired();
      if (!held) (void)fsutil::RemoveTree(AT_FDCWD, record->second->dir);
      record = held ? std::next(record) : records_.erase(record);
    }
  }
  size_t live() {
    MutexLock lock(&mu_);
    return records_.size();
  }
  const Record& record(const std::string& id) {
    MutexLock lock(&mu_);
    return *records_.at(id);
  }
  int created = 0;
  std::atomic<int> opened = 0;  // for writing
  std::function<void()> on_rewrite;
  std::atomic<int> searches = 0;

 private:
  void Release(Record* record, bool keep) {
    MutexLock lock(&mu_);
    record->open = false;
    if (keep) return;
    (void)fsutil::RemoveTree(AT_FDCWD, record->dir);
    records_.erase(record->id);
  }

  fsutil::TestTree root_;
  Mutex mu_;
  std::map<std::string, std::unique_ptr<Record>> records_;
};

}  // namespace kiln::daemon
