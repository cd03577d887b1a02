#pragma once

#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/digest.h"
#include "solver/op.h"
#include "store/cache_index.h"

namespace kiln::solver {

// What the remote caches that a build imports know: keys in memory, for that build's vertices only
// (DESIGN.md, Imported keys). Thread-safe.
//
// Invariant: the id of a key that has a record says what its result is: the operation and the exact
// content. A result saved under such a key is therefore true for whoever comes to that key.
class ImportedKeys {
 public:
  virtual ~ImportedKeys() = default;

  // Vertices are shared by builds whose imports have one identity.
  virtual const Digest& identity() const = 0;

  // Calls `ready` once, on any thread, when the keys are there or are known never to come; at once
  // if so already. It must not block.
  virtual void WhenReady(absl::AnyInvocable<void()> ready) = 0;

  // The rest may be asked once it is ready. None of it blocks but Load.

  // Targets that some of `keys` lead to, sorted. Root and content keys are those of the cache
  // index; all others are ids from here.
  virtual std::vector<store::KeyId> Query(absl::Span<const store::InputKey> keys, int input,
                                          const store::OpOutput& op) const = 0;
  // Results under a key from here, in the order of choice; their ids are good for Load alone.
  virtual std::vector<store::CacheRecord> Records(const store::KeyId& key) const = 0;
  // Makes a result of what Records gave. Any failure: it cannot be had (any more). Blocks.
  virtual absl::StatusOr<ResultPtr> Load(absl::string_view result_id) const = 0;
  // A key from here with all that leads to it. kNotFound.
  virtual absl::StatusOr<store::PortableNode> Export(const store::KeyId& key) const = 0;
};

}  // namespace kiln::solver
