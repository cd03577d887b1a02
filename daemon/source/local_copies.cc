#include "daemon/source/local_copies.h"

#include <sys/stat.h>

#include <vector>

#include "store/base/deadline.h"
#include "store/base/status_macros.h"
#include "store/tree.h"
#include "store/tree_writer.h"

namespace kiln::daemon {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(2);

// Makes an empty tree show just what `layers` show, so that a comparison with one holds for the
// other. O(entries).
class TreeCopy {
 public:
  TreeCopy(store::Layers layers, store::TreeWriter& to) : from_(std::move(layers)), to_(to) {}

  absl::Status Run(const CancelToken& cancel) {
    const auto take = [&](const std::string& path,
                          const store::Entry& entry) -> absl::StatusOr<bool> {
      if (cancel.Cancelled()) return cancel.status();
      KILN_RETURN_IF_ERROR(Take(path, entry));
      return true;
    };
    KILN_RETURN_IF_ERROR(from_.Walk("/", take));
    // Their times, now that nothing more is made in them.
    for (auto dir = dirs_.rbegin(); dir != dirs_.rend(); ++dir)
      KILN_RETURN_IF_ERROR(to_.SetAttributes(dir->first, dir->second));
    return absl::OkStatus();
  }

 private:
  absl::Status Take(const std::string& path, const store::Entry& entry) {
    const store::Attributes attributes{.uid = entry.st.st_uid,
                                       .gid = entry.st.st_gid,
                                       .mode = entry.st.st_mode & 07777,
                                       .mtime = absl::TimeFromTimespec(entry.st.st_mtim)};
    if (S_ISDIR(entry.st.st_mode)) {
      KILN_RETURN_IF_ERROR(to_.MakeDir(path, attributes));
      KILN_ASSIGN_OR_RETURN(const auto xattrs, from_.Xattrs(entry, path));
      // Those that the kernel gives to every file cannot be set.
      for (const auto& [name, value] : xattrs) to_.SetXattr(path, name, value).IgnoreError();
      dirs_.emplace_back(path, attributes);
      return absl::OkStatus();
    }
    // Files of two trees share inodes, too: then this is the only name in this one.
    if (entry.st.st_nlink > 1) {
      const auto [first, added] = linked_.emplace(entry.st.st_ino, path);
      if (!added) return to_.MakeHardlink(path, first->second);
    }
    if (S_ISREG(entry.st.st_mode)) return to_.CopyNewFile(from_, path, entry, path, {});
    if (S_ISLNK(entry.st.st_mode)) return to_.MakeSymlink(path, entry.link, attributes);
    return to_.MakeNode(path, entry.st.st_mode, entry.st.st_rdev, attributes);
  }

  const store::TreeReader from_;
  store::TreeWriter& to_;
  std::vector<std::pair<std::string, store::Attributes>> dirs_;  // parents first
  absl::flat_hash_map<ino_t, std::string> linked_;               // the first name of each
};

}  // namespace

LocalCopies::Copy::~Copy() {
  if (committed_ == nullptr && ref_ != nullptr) ref_->SetRetain(false);
  ref_.reset();
  earlier_.reset();
  owner_->End(options_.index_key, committed_);
}

absl::Status LocalCopies::Copy::CompareWith(store::RefPtr earlier, const CancelToken& cancel) {
  // What a client sent is one directory.
  KILN_ASSIGN_OR_RETURN(const store::Layers layers, earlier->Materialize(cancel));
  if (layers.size() != 1)
    return absl::InternalError("a copy of a client's directory is not one layer");
  dir_ = layers.front();
  earlier_ = std::move(earlier);
  return absl::OkStatus();
}

void LocalCopies::Copy::WriteTo(std::unique_ptr<store::MutableRef> ref) {
  ref_ = std::move(ref);
  ref_->UseSynchronizedRoot();
}

absl::StatusOr<store::MutableRef*> LocalCopies::Copy::Writable(const CancelToken& cancel) {
  if (ref_ != nullptr) return ref_.get();
  absl::StatusOr<std::unique_ptr<store::MutableRef>> own = owner_->refs_->Rewrite(earlier_);
  if (own.ok()) {
    WriteTo(*std::move(own));
    earlier_ = nullptr;
    return ref_.get();
  }
  if (!absl::IsFailedPrecondition(own.status()) && !absl::IsNotFound(own.status()))
    return own.status();
  // Another build holds it, or something stands on it: it stays until all is compared.
  KILN_ASSIGN_OR_RETURN(std::unique_ptr<store::MutableRef> made,
                        owner_->refs_->New(nullptr, options_));
  WriteTo(std::move(made));
  KILN_ASSIGN_OR_RETURN(store::Layers layers, earlier_->Materialize(cancel));
  KILN_RETURN_IF_ERROR(TreeCopy(std::move(layers), ref_->writer()).Run(cancel));
  return ref_.get();
}

absl::StatusOr<store::RefPtr> LocalCopies::Copy::Commit() {
  if (ref_ == nullptr) {
    committed_ = earlier_;
  } else {
    KILN_ASSIGN_OR_RETURN(committed_, ref_->Commit());
  }
  return committed_;
}

absl::StatusOr<std::unique_ptr<LocalCopies::Copy>> LocalCopies::Open(
    const store::RefOptions& options, bool reuses_files, const CancelToken& cancel) {
  const CancelRegistration wake = cancel.OnCancel([this] {
    MutexLock lock(&mu_);
    ended_.SignalAll();
  });
  const Deadline deadline(kPatience);
  Free free;
  store::RefPtr latest;
  for (;;) {
    KILN_ASSIGN_OR_RETURN(free, FindFree(options.index_key));
    MutexLock lock(&mu_);
    Key& state = keys_[options.index_key];
    if (free.tree == nullptr && free.ref == nullptr && reuses_files) {
      latest = state.latest.lock();
      if (latest == nullptr && state.updating > 0 && !deadline.Passed()) {
        if (cancel.Cancelled()) return cancel.status();
        ended_.WaitUntil(&mu_, deadline);
        continue;
      }
    }
    ++state.updating;
    break;
  }
  std::unique_ptr<Copy> copy(new Copy(this, options));
  if (latest != nullptr) {
    // A hold of one's own: holds are counted when it comes to writing.
    KILN_ASSIGN_OR_RETURN(free.tree, refs_->Get(latest->id()));
  }
  if (free.tree != nullptr) {
    KILN_RETURN_IF_ERROR(copy->CompareWith(std::move(free.tree), cancel));
    return copy;
  }
  if (free.ref == nullptr) {
    KILN_ASSIGN_OR_RETURN(free.ref, refs_->New(nullptr, options));
  }
  copy->WriteTo(std::move(free.ref));
  copy->dir_ = copy->ref_->upper_dir();
  return copy;
}

// Nothing: there is none, or each is held by another build or was pruned meanwhile.
absl::StatusOr<LocalCopies::Free> LocalCopies::FindFree(const std::string& key) {
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> earlier, refs_->Search(key));
  for (const std::string& id : earlier) {
    absl::StatusOr<store::RefPtr> tree = refs_->HoldIdle(id);
    if (tree.ok()) return Free{*std::move(tree), nullptr};
    // What a transfer left that was killed with the daemon.
    absl::StatusOr<std::unique_ptr<store::MutableRef>> ref = refs_->Reopen(id);
    if (ref.ok()) return Free{nullptr, *std::move(ref)};
  }
  return Free();
}

void LocalCopies::End(const std::string& key, const store::RefPtr& committed) {
  MutexLock lock(&mu_);
  Key& state = keys_[key];
  --state.updating;
  if (committed != nullptr) state.latest = committed;
  absl::erase_if(keys_, [](const auto& each) {
    return each.second.updating == 0 && each.second.latest.expired();
  });
  ended_.SignalAll();
}

}  // namespace kiln::daemon
