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

// Directories and regular files: whatever else there is the listing tells anyway. Their times are
// set by the transfer.
absl::Status StartFrom(const store::Ref& from, store::TreeWriter& to, const CancelToken& cancel) {
  KILN_ASSIGN_OR_RETURN(store::Layers layers, from.Materialize(cancel));
  const store::TreeReader tree(std::move(layers));
  return tree.Walk(
      "/", [&](const std::string& path, const store::Entry& entry) -> absl::StatusOr<bool> {
        if (cancel.Cancelled()) return cancel.status();
        if (S_ISREG(entry.st.st_mode)) {
          KILN_RETURN_IF_ERROR(to.CopyNewFile(tree, path, entry, path, {}));
        } else if (S_ISDIR(entry.st.st_mode)) {
          KILN_RETURN_IF_ERROR(to.MakeDir(
              path,
              {.uid = entry.st.st_uid, .gid = entry.st.st_gid, .mode = entry.st.st_mode & 07777}));
        }
        return true;
      });
}

}  // namespace

LocalCopies::Copy::~Copy() {
  if (committed_ == nullptr) ref_->SetRetain(false);
  ref_.reset();
  owner_->End(key_, committed_);
}

absl::StatusOr<store::RefPtr> LocalCopies::Copy::Commit() {
  KILN_ASSIGN_OR_RETURN(committed_, ref_->Commit());
  return committed_;
}

absl::StatusOr<std::unique_ptr<LocalCopies::Copy>> LocalCopies::Open(
    const store::RefOptions& options, bool reuses_files, const CancelToken& cancel) {
  const std::string& key = options.index_key;
  const CancelRegistration wake = cancel.OnCancel([this] {
    MutexLock lock(&mu_);
    ended_.SignalAll();
  });
  const Deadline deadline(kPatience);
  std::unique_ptr<store::MutableRef> ref;
  store::RefPtr start;
  for (;;) {
    KILN_ASSIGN_OR_RETURN(ref, Reopen(key));
    MutexLock lock(&mu_);
    Key& state = keys_[key];
    if (ref == nullptr && reuses_files) {
      start = state.latest.lock();
      if (start == nullptr && state.updating > 0 && !deadline.Passed()) {
        if (cancel.Cancelled()) return cancel.status();
        ended_.WaitUntil(&mu_, deadline);
        continue;
      }
    }
    ++state.updating;
    break;
  }
  absl::Status status;
  if (ref == nullptr) {
    absl::StatusOr<std::unique_ptr<store::MutableRef>> made = refs_->New(nullptr, options);
    if (made.ok()) ref = *std::move(made);
    status = made.status();
    if (status.ok() && start != nullptr) status = StartFrom(*start, ref->writer(), cancel);
  }
  if (ref == nullptr) {
    End(key, nullptr);
    return status;
  }
  auto copy = std::make_unique<Copy>(this, key, std::move(ref));
  KILN_RETURN_IF_ERROR(status);
  return copy;
}

// Null: there is none, or each is held by another build or was pruned meanwhile.
absl::StatusOr<std::unique_ptr<store::MutableRef>> LocalCopies::Reopen(const std::string& key) {
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> earlier, refs_->Search(key));
  for (const std::string& id : earlier) {
    absl::StatusOr<std::unique_ptr<store::MutableRef>> copy = refs_->Reopen(id);
    if (copy.ok()) return copy;
  }
  return nullptr;
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
