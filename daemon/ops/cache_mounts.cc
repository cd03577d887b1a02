#include "daemon/ops/cache_mounts.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "store/base/check.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

class CacheMounts::Directory final : public CacheDirectory {
 public:
  Directory(std::unique_ptr<store::MutableRef> ref, std::unique_ptr<store::MountedTree> tree)
      : ref_(std::move(ref)), tree_(std::move(tree)) {}
  ~Directory() override {
    absl::Status closed = tree_->Close();
    if (!closed.ok()) spdlog::warn("unmount a cache directory: {}", closed.ToString());
    tree_.reset();
    ref_.reset();
  }
  const std::string& path() const override { return tree_->path(); }
  store::MutableRef& ref() { return *ref_; }

 private:
  std::unique_ptr<store::MutableRef> ref_;
  std::unique_ptr<store::MountedTree> tree_;
};

// One user's part in a slot.
class CacheMounts::SharedHold final : public CacheDirectory {
 public:
  SharedHold(CacheMounts* owner, std::string key, std::shared_ptr<Slot> slot, std::string path)
      : owner_(owner), key_(std::move(key)), slot_(std::move(slot)), path_(std::move(path)) {}
  ~SharedHold() override {
    {
      MutexLock lock(&slot_->mu);
      if (--slot_->users == 0) slot_->directory.reset();
    }
    owner_->DropSlotIfIdle(key_, slot_);
  }
  const std::string& path() const override { return path_; }

 private:
  CacheMounts* const owner_;
  const std::string key_;
  const std::shared_ptr<Slot> slot_;
  const std::string path_;
};

CacheMounts::~CacheMounts() {
  MutexLock lock(&mu_);
  KILN_CHECK(slots_.empty());
}

std::string CacheMounts::KeyOf(absl::string_view id, const store::RefPtr& parent) {
  return parent == nullptr ? absl::StrCat("cache-dir:", id)
                           : absl::StrCat("cache-dir:", id, ":", parent->id());
}

absl::StatusOr<std::unique_ptr<CacheMounts::Directory>> CacheMounts::Open(const std::string& key,
                                                                          const Request& request) {
  std::unique_ptr<store::MutableRef> ref;
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> known, refs_->Search(key));
  for (const std::string& id : known) {
    absl::StatusOr<std::unique_ptr<store::MutableRef>> reopened = refs_->Reopen(id);
    if (reopened.ok()) {
      ref = *std::move(reopened);
      break;
    }
    // In use by a private user, or pruned since the search: the next one will do.
    if (!absl::IsFailedPrecondition(reopened.status()) && !absl::IsNotFound(reopened.status()))
      spdlog::warn("reopen cache directory {}: {}", id, reopened.status().ToString());
  }
  if (ref == nullptr) {
    store::RefOptions options;
    options.description = request.description;
    options.record_type = "exec.cachemount";
    options.retain = true;
    options.index_key = key;
    KILN_ASSIGN_OR_RETURN(ref, refs_->New(request.parent, options));
  }
  KILN_ASSIGN_OR_RETURN(std::unique_ptr<store::MountedTree> tree, refs_->Mount(*ref));
  return std::make_unique<Directory>(std::move(ref), std::move(tree));
}

absl::StatusOr<std::shared_ptr<CacheDirectory>> CacheMounts::Acquire(const Request& request) {
  const std::string key = KeyOf(request.id, request.parent);
  const std::string doing = absl::StrCat("cache mount ", request.id);
  if (request.exclusive_directory) {
    KILN_ASSIGN_OR_RETURN(std::unique_ptr<Directory> directory,
                          Annotate(Open(key, request), doing));
    return std::shared_ptr<CacheDirectory>(std::move(directory));
  }
  std::shared_ptr<Slot> slot;
  {
    MutexLock lock(&mu_);
    std::shared_ptr<Slot>& known = slots_[key];
    if (known == nullptr) known = std::make_shared<Slot>();
    slot = known;
  }
  std::string path;
  absl::Status opened;
  {
    MutexLock lock(&slot->mu);
    if (slot->directory == nullptr) {
      absl::StatusOr<std::unique_ptr<Directory>> directory = Open(key, request);
      if (directory.ok())
        slot->directory = *std::move(directory);
      else
        opened = Annotate(directory.status(), doing);
    }
    if (opened.ok()) {
      ++slot->users;
      path = slot->directory->path();
    }
  }
  if (!opened.ok()) {
    DropSlotIfIdle(key, slot);
    return opened;
  }
  return std::make_shared<SharedHold>(this, key, std::move(slot), std::move(path));
}

void CacheMounts::DropSlotIfIdle(const std::string& key, const std::shared_ptr<Slot>& slot) {
  MutexLock lock(&mu_);
  auto it = slots_.find(key);
  if (it == slots_.end() || it->second != slot) return;
  // The map's and the caller's reference: nobody is about to use it.
  if (slot.use_count() > 2) return;
  MutexLock slot_lock(&slot->mu);
  if (slot->users == 0) slots_.erase(it);
}

absl::Status CacheMounts::Reset(absl::string_view id, const store::RefPtr& parent) {
  const std::string key = KeyOf(id, parent);
  std::shared_ptr<Slot> in_use;
  {
    MutexLock lock(&mu_);
    auto it = slots_.find(key);
    if (it != slots_.end()) {
      in_use = it->second;
      slots_.erase(it);  // its users keep it among themselves
    }
  }
  if (in_use != nullptr) {
    MutexLock lock(&in_use->mu);
    if (in_use->directory != nullptr) in_use->directory->ref().SetRetain(false);
  }
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> known, refs_->Search(key));
  for (const std::string& ref_id : known) {
    // One in use goes when it is released; what a private user holds stays.
    absl::StatusOr<std::unique_ptr<store::MutableRef>> idle = refs_->Reopen(ref_id);
    if (idle.ok()) (*idle)->SetRetain(false);
  }
  return absl::OkStatus();
}

}  // namespace kiln::daemon
