#pragma once

#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "proto/digest.h"

namespace kiln::store {

// One node of the cache-key graph. Content-addressed; see store/DESIGN.md, Keys.
using KeyId = Digest;

// A key of one input of an op, with the selector of the dependency ("" = none; content keys always
// carry an empty selector; BuildKit solver.md, cache keys).
struct InputKey {
  KeyId key;
  std::string selector;

  friend bool operator==(const InputKey& a, const InputKey& b) {
    return a.key == b.key && a.selector == b.selector;
  }
};

// A stored result of a key. `result_id` is opaque here: "<worker>::<ref id>".
struct CacheRecord {
  std::string result_id;
  absl::Time created_at;
};

// The operation an edge stands for: the op's cache-map digest and the output index.
struct OpOutput {
  std::string op_digest;  // "sha256:…" or "random:…"
  int output = 0;
};

// CacheIndex maps cache keys to results. It holds no files.
//
// Invariant: every change is one atomic batch that is in the write-ahead log when the call returns.
// Cost of each call: O(links touched), independent of how many records exist.
// Thread-safe. Every method may block on disk: never call it from the solver loop.
class CacheIndex {
 public:
  virtual ~CacheIndex() = default;

  // The key of an op without inputs: sha256("<op digest>@<output>").
  static KeyId RootKey(const OpOutput& op);
  // The key that a content digest gives an input: RootKey of the digest with output -1.
  static KeyId ContentKey(const std::string& content_digest);

  // True when the root key was ever saved.
  virtual absl::StatusOr<bool> HasRoot(const KeyId& key) = 0;

  // Targets that `keys`, all keys of input `input`, lead to under `op`. Once found, every other key
  // given is linked to every target as well (equivalence carry-over).
  virtual absl::StatusOr<std::vector<KeyId>> Query(absl::Span<const InputKey> keys, int input,
                                                   const OpOutput& op) = 0;

  // Results stored under `key`, newest first.
  virtual absl::StatusOr<std::vector<CacheRecord>> Records(const KeyId& key) = 0;

  // Stores a result of `op`. `inputs[i]` holds every known key of input i; empty `inputs` means a
  // root key. Reuses a node that is already the target of some key of every input, else makes one.
  // Returns the node.
  virtual absl::StatusOr<KeyId> Save(const OpOutput& op,
                                     absl::Span<const std::vector<InputKey>> inputs,
                                     const CacheRecord& record) = 0;

  // Links without a result, so that later look-ups by any of `inputs` reach `target`.
  virtual absl::Status Link(const OpOutput& op, absl::Span<const std::vector<InputKey>> inputs,
                            const KeyId& target) = 0;

  // Forgets a result. A node left without results and without links out is removed, its incoming
  // links with it, upwards. OK when unknown.
  virtual absl::Status Release(absl::string_view result_id) = 0;

  // The mean run time of earlier executions under `op_digest`; nullopt-like zero when unknown.
  virtual absl::Duration MeanDuration(absl::string_view op_digest) = 0;
  virtual void RecordDuration(absl::string_view op_digest, absl::Duration took) = 0;
};

}  // namespace kiln::store
