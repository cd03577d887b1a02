#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "proto/digest.h"
#include "store/base/cancel.h"
#include "store/tree.h"
#include "store/tree_writer.h"

namespace kiln::store {

class Ref;
// A counted hold on an immutable record: while one exists the record is neither pruned nor changed.
// nullptr stands for the empty tree (scratch) wherever a RefPtr is taken or returned.
using RefPtr = std::shared_ptr<const Ref>;

// An immutable file tree. Thread-safe.
class Ref {
 public:
  virtual ~Ref() = default;
  virtual const std::string& id() const = 0;

  // The layers to stack. Makes the files of a lazy merge or diff on first use (single flight).
  // Blocks.
  virtual absl::StatusOr<Layers> Materialize(const CancelToken& cancel) const = 0;
};

struct RefOptions {
  std::string description = {};
  std::string record_type = "regular";  // llb.md 5.6: regular, source.local, exec.cachemount, …
  bool retain = false;                  // a mutable that survives its release (local, cache mount)
  std::string index_key = {};           // findable through RefStore::Search when not empty
};

// A tree being written. Exclusive: one holder at a time. Dropping it without Commit discards the
// files, or keeps them when `retain` was asked for.
class MutableRef {
 public:
  virtual ~MutableRef() = default;
  virtual const std::string& id() const = 0;
  virtual const RefPtr& parent() const = 0;

  // Layers of the parent, lowest first, then the upper directory of this one.
  virtual absl::StatusOr<Layers> layers() const = 0;
  // The directory that takes the changes; in overlayfs form under the overlay driver.
  virtual const std::string& upper_dir() const = 0;

  // For work without a mount. One writer at a time. What it writes has its checksums recorded. It
  // may share files with other trees: do not mount the tree writable after using it.
  virtual TreeWriter& writer() = 0;

  // The tree is synchronized from a client, who does not send the root's metadata: BuildKit leaves
  // it out of the checksum of "/".
  virtual void UseSynchronizedRoot() {}

  // Ends writing and makes the tree immutable. Files that did not pass through writer() get their
  // checksums on first use. *this is dead afterwards. The new ref goes with its last hold, unless
  // SetRetained keeps it. A retained mutable (local source) stays beside it, under its own id, and
  // keeps the ref; it may be reopened once the ref is no longer held, and that ends the ref.
  // kFailedPrecondition while the tree is mounted; after an error only the destructor may follow.
  virtual absl::StatusOr<RefPtr> Commit() = 0;

  // Keeps or drops the files on release, after all.
  virtual void SetRetain(bool retain) = 0;
};

// A mounted tree; unmounted by the destructor. Of a mutable: close it before the mutable goes.
class MountedTree {
 public:
  virtual ~MountedTree() = default;
  virtual const std::string& path() const = 0;
  virtual absl::Status Close() = 0;
};

struct ChecksumOptions {
  bool follow = false;
  bool wildcard = false;
  std::vector<std::string> include_patterns = {}, exclude_patterns = {}, required_paths = {};
};

struct UsageInfo {
  std::string id;
  bool is_mutable = false, in_use = false, shared = false;
  int64_t size_bytes = 0;
  std::vector<std::string> parents;
  absl::Time created_at;
  absl::Time last_used_at = absl::InfinitePast();  // InfinitePast: never
  int64_t usage_count = 0;
  std::string description, record_type;
};

struct PruneOptions {
  std::vector<std::string> filters = {};
  bool all = false;
  absl::Duration keep_duration = absl::ZeroDuration();
  int64_t reserved_bytes = 0, max_used_bytes = 0, min_free_bytes = 0;
};

// RefStore keeps file trees and their records (llb.md 5). Thread-safe; every method may block on
// disk.
//
// Invariant: a record visible here has its files; files without a record are swept at start.
class RefStore {
 public:
  virtual ~RefStore() = default;

  virtual absl::StatusOr<std::unique_ptr<MutableRef>> New(RefPtr parent,
                                                          const RefOptions& options) = 0;
  // kNotFound when pruned or unknown.
  virtual absl::StatusOr<RefPtr> Get(absl::string_view id) = 0;
  // A retained mutable. kFailedPrecondition ("locked") while somebody holds it or its immutable.
  virtual absl::StatusOr<std::unique_ptr<MutableRef>> Reopen(absl::string_view id) = 0;

  // Reading a retained mutable without ending its immutable half.
  // HoldIdle: that half, which nobody holds; the mutable counts as used. kFailedPrecondition
  // ("locked") while somebody holds one of both, kNotFound when there is none.
  virtual absl::StatusOr<RefPtr> HoldIdle(absl::string_view id) = 0;
  // The mutable half again, which ends `held`: drop it. kFailedPrecondition ("locked") when there
  // are other holds, kNotFound when it has no mutable half any more; `held` is as before then.
  virtual absl::StatusOr<std::unique_ptr<MutableRef>> Rewrite(const RefPtr& held) = 0;

  // Lazy; no files are touched before Materialize. Nil inputs as llb.md 2.5 and 2.6 say.
  virtual absl::StatusOr<RefPtr> Merge(absl::Span<const RefPtr> inputs,
                                       const RefOptions& options) = 0;
  virtual absl::StatusOr<RefPtr> Diff(RefPtr lower, RefPtr upper, const RefOptions& options) = 0;

  // Ids of records with that index key, most recently used first.
  virtual absl::StatusOr<std::vector<std::string>> Search(absl::string_view index_key) = 0;
  virtual absl::Status SetIndexKey(absl::string_view id, absl::string_view index_key) = 0;
  // Small values kept with a record (an HTTP ETag, say).
  virtual absl::Status SetValue(absl::string_view id, const std::string& name,
                                absl::string_view value) = 0;
  virtual absl::StatusOr<std::string> GetValue(absl::string_view id, const std::string& name) = 0;
  // Keeps an immutable until GC: without it the record goes with its last hold or child. What the
  // cache index names must be retained first.
  virtual absl::Status SetRetained(absl::string_view id) = 0;

  virtual absl::StatusOr<std::unique_ptr<MountedTree>> Mount(const RefPtr& ref) = 0;  // read-only
  virtual absl::StatusOr<std::unique_ptr<MountedTree>> Mount(MutableRef& ref) = 0;

  // BuildKit's content checksum of `path` in `ref` (llb.md 4). kNotFound names the path.
  virtual absl::StatusOr<Digest> Checksum(const RefPtr& ref, absl::string_view path,
                                          const ChecksumOptions& options,
                                          const CancelToken& cancel) = 0;
  // The same, if it was asked before and is still in memory. Neither reads nor waits for work.
  virtual std::optional<Digest> KnownChecksum(const RefPtr& ref, absl::string_view path,
                                              const ChecksumOptions& options) = 0;

  virtual absl::StatusOr<std::vector<UsageInfo>> DiskUsage(
      absl::Span<const std::string> filters) = 0;
  // Calls `removed` once for each record, after its files are gone.
  virtual absl::Status Prune(const PruneOptions& options, const CancelToken& cancel,
                             absl::AnyInvocable<void(const UsageInfo&)> removed) = 0;
};

}  // namespace kiln::store
