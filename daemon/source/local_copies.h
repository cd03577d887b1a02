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
// A copy is compared before it is changed: the tree of an earlier build stays what it is, and is
// the result, as long as the client's directory has nothing else. Builds whose key is the same and
// that find no free copy compare with what one of them was last given; who differs gets a copy of
// that: links where the store can, so that only differences travel. Thread-safe; outlives its
// copies.
class LocalCopies {
 public:
  explicit LocalCopies(store::RefStore* refs) : refs_(refs) {}

  // A copy that is being brought up to date. Dropped without Commit, the files go if they were
  // written to: half brought up to date neither they nor their checksums are of use.
  class Copy {
   public:
    ~Copy();
    Copy(const Copy&) = delete;
    Copy& operator=(const Copy&) = delete;

    // What there is: to be compared with, in its state before the first Writable.
    const std::string& dir() const { return dir_; }
    // The tree that takes the changes, with all that dir() had before the first of them. Blocks.
    absl::StatusOr<store::MutableRef*> Writable(const CancelToken& cancel);
    // Once, and nothing after it.
    absl::StatusOr<store::RefPtr> Commit();

   private:
    friend class LocalCopies;
    // Counted in Key::updating already; no more when it goes.
    Copy(LocalCopies* owner, store::RefOptions options)
        : owner_(owner), options_(std::move(options)) {}
    absl::Status CompareWith(store::RefPtr earlier, const CancelToken& cancel);
    void WriteTo(std::unique_ptr<store::MutableRef> ref);

    LocalCopies* const owner_;
    const store::RefOptions options_;
    std::string dir_;
    store::RefPtr earlier_;                   // whose files dir() has; null: those of ref_
    std::unique_ptr<store::MutableRef> ref_;  // null: nothing is to be written so far
    store::RefPtr committed_;
  };

  // The copy used last that nobody holds, else, with `reuses_files`, what another build of the key
  // has, else a new one made with `options`. `reuses_files`: the transfer leaves out what is there,
  // so that a build that is at it with the same key is worth up to two seconds of waiting. Blocks.
  // The cause of a cancel.
  absl::StatusOr<std::unique_ptr<Copy>> Open(const store::RefOptions& options, bool reuses_files,
                                             const CancelToken& cancel);

 private:
  struct Key {
    int updating = 0;
    std::weak_ptr<const store::Ref> latest;
  };

  // A copy that nobody else has: to be compared with, or open for writing.
  struct Free {
    store::RefPtr tree;
    std::unique_ptr<store::MutableRef> ref;
  };

  absl::StatusOr<Free> FindFree(const std::string& key);
  void End(const std::string& key, const store::RefPtr& committed);

  store::RefStore* const refs_;
  Mutex mu_;
  SteadyCondVar ended_;
  absl::flat_hash_map<std::string, Key> keys_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::daemon
