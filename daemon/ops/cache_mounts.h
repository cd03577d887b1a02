#pragma once

#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/base/mutex.h"
#include "store/ref_store.h"

namespace kiln::daemon {

// A cache directory in use; the last holder's drop gives it back to the store, which keeps it.
class CacheDirectory {
 public:
  virtual ~CacheDirectory() = default;
  // Where it is mounted, writable.
  virtual const std::string& path() const = 0;
};

// The directories behind CACHE mounts (llb.md 2.2.2): retained mutable refs, found by the index key
// "cache-dir:<id>". Users of one id at the same time get the same directory, unless private. That
// LOCKED users are alone is not seen to here but by the scheduler, before the step runs
// (solver::Op::Resources). Thread-safe; blocking. Outlives what it hands out.
class CacheMounts {
 public:
  explicit CacheMounts(store::RefStore* refs) : refs_(refs) {}
  ~CacheMounts();

  struct Request {
    std::string id;
    // Its content is what a new directory starts with; a directory of one parent is never given to
    // a user with another. nullptr: starts empty, mode 0755, root's.
    store::RefPtr parent;
    bool exclusive_directory = false;  // PRIVATE: nobody else has it meanwhile
    std::string description;
  };
  absl::StatusOr<std::shared_ptr<CacheDirectory>> Acquire(const Request& request);

  // Forgets the directories of an id: they are removed, those in use when they are given back. The
  // next user gets a new one.
  absl::Status Reset(absl::string_view id, const store::RefPtr& parent);

 private:
  class Directory;
  class SharedHold;
  // The directory that simultaneous users of a key share. Its mutex is held while it is opened and
  // closed, since a directory that is being given back cannot be opened yet.
  struct Slot {
    Mutex mu;
    std::unique_ptr<Directory> directory ABSL_GUARDED_BY(mu);
    int users ABSL_GUARDED_BY(mu) = 0;
  };

  static std::string KeyOf(absl::string_view id, const store::RefPtr& parent);
  absl::StatusOr<std::unique_ptr<Directory>> Open(const std::string& key, const Request& request);
  void DropSlotIfIdle(const std::string& key, const std::shared_ptr<Slot>& slot);

  store::RefStore* const refs_;
  Mutex mu_;
  std::map<std::string, std::shared_ptr<Slot>> slots_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::daemon
