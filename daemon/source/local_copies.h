#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/base/cancel.h"
#include "store/base/mutex.h"
#include "store/base/steady_cond_var.h"
#include "store/ref_store.h"

namespace kiln::daemon {

// The copies of clients' directories, by index key: "same client, same directory, same hint".
//
// Who finds no free copy gets a new one that starts with the files of the copy that another build
// of the key was last given: links where the store can, so that only differences travel. Only what
// a build holds is a start: every other copy is free. Thread-safe; outlives its copies.
class LocalCopies {
 public:
  explicit LocalCopies(store::RefStore* refs) : refs_(refs) {}

  // A copy that is being brought up to date. Dropped without Commit, its files go: half brought up
  // to date neither they nor their checksums are of use.
  class Copy {
   public:
    Copy(LocalCopies* owner, std::string key, std::unique_ptr<store::MutableRef> ref)
        : owner_(owner), key_(std::move(key)), ref_(std::move(ref)) {}
    ~Copy();

    store::MutableRef& ref() { return *ref_; }
    // Once, and nothing after it.
    absl::StatusOr<store::RefPtr> Commit();

   private:
    LocalCopies* const owner_;
    const std::string key_;
    std::unique_ptr<store::MutableRef> ref_;
    store::RefPtr committed_;
  };

  // The copy used last that nobody holds, else a new one made with `options`. `reuses_files`: the
  // transfer compares files with what is there, so a start is worth up to two seconds of waiting
  // for a build that is at it with the same key. Blocks. The cause of a cancel.
  absl::StatusOr<std::unique_ptr<Copy>> Open(const store::RefOptions& options, bool reuses_files,
                                             const CancelToken& cancel);

 private:
  struct Key {
    int updating = 0;
    std::weak_ptr<const store::Ref> latest;
  };

  absl::StatusOr<std::unique_ptr<store::MutableRef>> Reopen(const std::string& key);
  void End(const std::string& key, const store::RefPtr& committed);

  store::RefStore* const refs_;
  Mutex mu_;
  SteadyCondVar ended_;
  absl::flat_hash_map<std::string, Key> keys_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::daemon
